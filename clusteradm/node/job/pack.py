"""Pack of a job's inputs and its index: many small files as one, so that a rank reads a chunk in one NFS read.

The pack is the files' bytes, one after another. A picture is one input; an array file (.npy, .npz) is as many inputs as
it has rows of the model's input, found by its header and read in place. No numpy: this runs on the head's own Python.
"""

import json
import os
import shutil
import stat
from typing import Any, BinaryIO, Dict, Iterator, NamedTuple, Optional, Sequence, Tuple, cast

from clusteradm.node.job.arrays import Array, Damaged, Unfit, Window, header, members
from clusteradm.node.job.files import opener

ARRAYS = (".npy", ".npz")

# A rank holds a whole picture file in memory, beside what it decodes to.
MOST_PICTURE = 128 << 20
# Rank 0 holds the index in memory.
MOST_INPUTS = 5000000
# What compressed arrays may unfold to, all of a job's together: so many times the inputs' bytes, and so much besides.
_MOST_RATIO = 100
_MOST_BESIDES = 1 << 30


class PackError(Exception):
    """An input file that the job cannot use; the text names it."""


class Entry(NamedTuple):
    """A file in the pack."""

    name: str
    offset: int
    size: int


class Wanted(NamedTuple):
    """The model's input."""

    dtype: str
    shape: Tuple[int, ...]


def find(paths: Sequence[str], suffixes: Sequence[str]) -> Iterator[Tuple[str, str]]:
    """(name, path without links) of every input below `paths`, sorted by name.

    A named file is taken whatever its name. In a folder and its sub-folders, files count whose name ends in one of
    `suffixes` and does not begin with a dot; if that folder is the only path, their names are relative to it. Raises
    PackError for what has the name of an input but is no file, or a link that leads out of its folder.
    """
    found: Dict[str, str] = {}
    for path in paths:
        if os.path.isdir(path):
            inside = os.path.join(os.path.realpath(path), "")
            for folder, folders, names in os.walk(path, onerror=_unreadable):
                folders[:] = [name for name in folders if not name.startswith(".")]
                for name in names:
                    whole = os.path.join(folder, name)
                    if not name.startswith(".") and name.lower().endswith(tuple(suffixes)):
                        if not os.path.realpath(whole).startswith(inside):
                            raise PackError("%s is a link that leads out of %s: name it itself" % (_shown(whole), path))
                        found[os.path.relpath(whole, path) if len(paths) == 1 else whole] = whole
        elif os.path.lexists(path):
            found[path] = path
        else:
            raise PackError("no file or folder %s on the head" % _shown(path))
    for name, whole in found.items():
        if _shown(whole) != whole:
            raise PackError("%s: its name is not UTF-8, and cannot be in the results" % _shown(whole))
        try:
            found[name] = os.path.realpath(whole)
            regular = stat.S_ISREG(os.lstat(found[name]).st_mode)
        except OSError as error:
            raise PackError("cannot read %s: %s" % (whole, error.strerror)) from None
        if not regular:
            # A pipe would be waited for without end.
            raise PackError("%s is a pipe, a socket or a device, not a file" % whole)
    return iter(sorted(found.items()))


def open_input(path: str) -> BinaryIO:
    """A file that `find` named, open for reading. Raises PackError if another has taken its place since."""
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as error:
        raise PackError("cannot read %s: %s" % (_shown(path), error.strerror)) from None
    same = os.readlink("/proc/self/fd/%d" % file.fileno()) == path
    if not same or not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise PackError("%s was replaced while the inputs were read" % _shown(path))
    return file


def _unreadable(error: OSError) -> None:
    raise PackError("cannot read the folder %s: %s" % (_shown(str(error.filename)), error.strerror))


def _shown(path: str) -> str:
    """A path for messages: bytes of its name that are not UTF-8 as \\udcXX."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def append(pack: str, source: BinaryIO) -> int:
    """Append a file's bytes to the pack; returns their number."""
    with open(pack, "ab", opener=opener) as file:
        before = file.tell()
        shutil.copyfileobj(source, file, 1 << 20)
        return file.tell() - before


def index(pack: str, entries: Sequence[Entry], wanted: Wanted) -> Iterator[Dict[str, Any]]:
    """The lines of inputs.jsonl. Raises PackError for an array that does not fit the model.

    An input that is damaged or too large has a line whose form is {"error": why}: a rank answers with that.
    """
    room = _MOST_RATIO * sum(entry.size for entry in entries) + _MOST_BESIDES
    for entry in entries:
        suffix = os.path.splitext(entry.name)[1].lower()
        if suffix in ARRAYS:
            for name, array in _arrays(pack, entry, suffix, wanted, room):
                if isinstance(array, str):
                    yield _refused(name, array)
                else:
                    room -= array.size
                    yield from _rows(name, array, wanted)
        elif entry.size > MOST_PICTURE:
            yield _refused(entry.name, "a picture file of %d bytes, more than %d" % (entry.size, MOST_PICTURE))
        else:
            yield {"input": entry.name, "offset": entry.offset, "size": entry.size, "form": None}


def _refused(name: str, why: str) -> Dict[str, Any]:
    return {"input": name, "offset": 0, "size": 0, "form": {"error": "not an input that can be read: " + why}}


def _arrays(pack: str, entry: Entry, suffix: str, wanted: Wanted, room: int) -> Iterator[Tuple[str, Any]]:
    """(name, Array in the pack, or why it cannot be read) of a file."""

    def whole(member: str) -> str:
        return "%s:%s" % (entry.name, member) if member else entry.name

    try:
        if suffix == ".npz":
            found = members(
                pack, entry.offset, entry.size, lambda name, array: _check(whole(name), array, wanted), room
            )
            for name, array in found:
                yield whole(name), array
            return
        with open(pack, "rb", opener=opener) as file:
            one = header(cast(BinaryIO, Window(file, entry.offset, entry.size)), entry.size)
        yield entry.name, one.at(entry.offset + one.start)
    except Unfit as error:
        raise PackError("%s cannot be an input: %s" % (entry.name, error)) from None
    except Damaged as error:
        yield entry.name, str(error)


def write_index(path: str, lines: Iterator[Dict[str, Any]]) -> int:
    """Write inputs.jsonl; returns the number of inputs. Raises PackError where there are too many for one job."""
    count = 0
    with open(path, "w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
            count += 1
            if count > MOST_INPUTS:
                raise PackError("more than %d inputs: make several jobs of them" % MOST_INPUTS)
    return count


def _check(name: str, array: Array, wanted: Wanted) -> Optional[int]:
    """Number of inputs in an array, of which the first dimension counts them; None where it is one as a whole.

    Dimensions of 1 are ignored. Raises PackError where it does not fit the model.
    """
    one = [size for size in wanted.shape if size != 1]
    whole = [size for size in array.shape if size != 1] == one
    if 0 in wanted.shape or not (whole or (len(array.shape) > 1 and [n for n in array.shape[1:] if n != 1] == one)):
        raise PackError(
            "%s has shape %s; the model takes %s, or any number of them" % (name, _by(array.shape), _by(wanted.shape))
        )
    if array.dtype != wanted.dtype and array.dtype != "uint8" and not array.dtype.startswith("float"):
        raise PackError(
            "%s has %s numbers; the model takes %s, real numbers or pixels" % (name, array.dtype, wanted.dtype)
        )
    return None if whole else array.shape[0]


def _rows(name: str, array: Array, wanted: Wanted) -> Iterator[Dict[str, Any]]:
    """Inputs of an array: one, or as many as its first dimension."""
    rows = _check(name, array, wanted)
    size = array.item
    for number in wanted.shape:
        size *= number
    form = [array.dtype, list(wanted.shape)]
    if rows is None:
        yield {"input": name, "offset": array.start, "size": size, "form": form}
        return
    for row in range(rows):
        yield {"input": "%s[%d]" % (name, row), "offset": array.start + row * size, "size": size, "form": form}


def _by(shape: Sequence[int]) -> str:
    return "x".join(str(size) for size in shape) or "()"
