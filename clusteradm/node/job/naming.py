"""Inputs of a job that are on the head, by path: files, folders, tar files, arrays of .npz files, lists of these."""

import codecs
import os
import re
import stat
from typing import BinaryIO, Dict, Iterator, List, NamedTuple, Optional, Sequence, cast

from clusteradm.node.job.arrays import Window
from clusteradm.node.job.pack import NoInput, PackError
from clusteradm.node.spec import tars

LIST = "@"
_MEMBER = re.compile(r".+[.][nN][pP][zZ]:[^:]+", re.DOTALL)
_MOST_LIST = 256 << 20  # bytes of a list


class Source(NamedTuple):
    """An input. `path`: without links; `error`: why it cannot be read; `member`: the array that is meant of an .npz
    file; `offset`, `size`: the place of a file in a tar file."""

    name: str
    path: str
    error: Optional[str] = None
    member: Optional[str] = None
    offset: int = 0
    size: Optional[int] = None


def expanded(paths: Sequence[str], shared: str) -> Iterator[str]:
    """The paths, absolute, with the lines of a list in the place of @LIST; those that are not absolute are below
    `shared`. Raises PackError for a list that cannot be read."""
    for path in paths:
        if not path.startswith(LIST):
            yield os.path.join(shared, path)
            continue
        place = os.path.join(shared, path[len(LIST) :])
        try:
            with open_input(os.path.realpath(place)) as file:
                data = file.read(_MOST_LIST + 1)
        except (NoInput, OSError, ValueError) as error:
            raise PackError("the list %s on the head: %s" % (_shown(place), error)) from None
        if len(data) > _MOST_LIST:
            raise PackError("the list %s on the head has more than %d bytes" % (_shown(place), _MOST_LIST))
        begin = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0  # as Windows' programs write
        for number, line in enumerate(data[begin:].split(b"\n"), 1):
            name = os.fsdecode(line[:-1] if line.endswith(b"\r") else line)
            if "\0" in name or name.startswith(LIST):
                raise PackError("%s, line %d: no path of an input" % (_shown(place), number))
            if name:
                whole = os.path.join(shared, name)
                if not os.path.lexists(whole) and not _is_member(whole):
                    what = "no file or folder %s on the head" % _shown(whole)
                    raise PackError("%s, line %d: %s" % (_shown(place), number, what))
                yield whole


def find(paths: Sequence[str], suffixes: Sequence[str]) -> Iterator[Source]:
    """Every input below `paths`, by name.

    FILE.npz:NAME is an array of a file. A named file is taken whatever its name, and of a tar file those in it, as if
    it were a folder. In a folder and its sub-folders, files count whose name ends in one of `suffixes` and does not
    begin with a dot; if that folder is the only path, their names are relative to it. What has the name of an input
    but is no file, or a link that leads out of its folder, cannot be read. Raises PackError for a path that is not
    there, for a folder that cannot be read, and for a tar file that is compressed or damaged.
    """
    found: Dict[str, Source] = {}
    for path in paths:
        if os.path.isdir(path):
            found.update((source.name, source) for source in _in_folder(path, suffixes, alone=len(paths) == 1))
        elif os.path.lexists(path):
            try:
                in_tar = _in_tar(path, suffixes) if tars.is_tar(path) else None
            except tars.Unsound as error:
                more = ": " + tars.DECOMPRESS if str(error) == tars.COMPRESSED else ""
                raise PackError("%s on the head: %s%s" % (_shown(path), error, more)) from None
            for source in [Source(path, path)] if in_tar is None else in_tar:
                found[source.name] = source
        elif _is_member(path):
            whole, _, member = path.rpartition(":")
            found[path] = Source(path, whole, member=member)
        else:
            raise PackError("no file or folder %s on the head" % _shown(path))
    for name, source in sorted(found.items()):
        path = os.path.realpath(source.path)
        try:
            # A pipe would be waited for without end.
            other = None if stat.S_ISREG(os.lstat(path).st_mode) else "a pipe, a socket or a device, not a file"
        except OSError as error:
            other = "cannot read it: %s" % error.strerror
        yield source._replace(name=_shown(name), path=path, error=source.error or other)


def _in_folder(path: str, suffixes: Sequence[str], alone: bool) -> Iterator[Source]:
    inside = os.path.join(os.path.realpath(path), "")
    for folder, folders, names in os.walk(path, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            whole = os.path.join(folder, name)
            if not name.startswith(".") and name.lower().endswith(tuple(suffixes)):
                out = not os.path.realpath(whole).startswith(inside)
                error = "a link that leads out of its folder: name it itself" if out else None
                yield Source(os.path.relpath(whole, path) if alone else whole, whole, error)


def _in_tar(path: str, suffixes: Sequence[str]) -> List[Source]:
    """The files in a tar file. Raises tars.Unsound; a tar file that cannot be read is an input that cannot be."""
    try:
        with open_input(os.path.realpath(path)) as file:
            found = list(tars.members(file, tuple(suffixes)))
    except NoInput as error:
        return [Source(path, path, str(error))]
    return [Source("%s/%s" % (path, one.name), path, one.error, None, one.offset, one.size) for one in found]


def _is_member(path: str) -> bool:
    return bool(_MEMBER.fullmatch(path)) and os.path.lexists(path.rpartition(":")[0])


def opened(source: Source) -> BinaryIO:
    """The bytes of an input that `find` named, to be read from the first on. Raises NoInput, also if another has taken
    its place since."""
    file = open_input(source.path)
    return file if source.size is None else cast(BinaryIO, _Part(file, source.offset, source.size))


class _Part(Window):
    """A file in a tar file, which is closed with it."""

    def close(self) -> None:
        """Close the tar file."""
        self._file.close()
        super().close()


def open_input(path: str) -> BinaryIO:
    """A file, by its path without links, open for reading. Raises NoInput, also if it is none by now."""
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as error:
        raise NoInput("cannot read it: %s" % error.strerror) from None
    same = os.readlink("/proc/self/fd/%d" % file.fileno()) == path
    if not same or not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise NoInput("it was replaced while the inputs were read")
    return file


def _unreadable(error: OSError) -> None:
    raise PackError("cannot read the folder %s: %s" % (_shown(str(error.filename)), error.strerror))


def _shown(path: str) -> str:
    """A path for messages: bytes of its name that are not UTF-8 as \\udcXX."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")
