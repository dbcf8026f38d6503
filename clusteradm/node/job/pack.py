"""Pack of a job's inputs and its index: many small files as one, so that a rank reads a chunk in one NFS read.

The pack is the files' bytes, one after another. A picture is one input; an array file (.npy, .npz) is as many inputs as
it has rows of the model's input, found by its header and read in place. No numpy: this runs on the head's own Python.
"""

import ast
import io
import json
import os
import shutil
import struct
import zipfile
from typing import Any, BinaryIO, Dict, Iterator, List, NamedTuple, Sequence, Tuple, cast

from clusteradm.node.job.files import opener

_MAGIC = b"\x93NUMPY"
# NumPy's type strings that an input may have (numpy.lib.format), and the bytes of each.
_DTYPES = {
    "|u1": ("uint8", 1),
    "|i1": ("int8", 1),
    "<i2": ("int16", 2),
    "<i4": ("int32", 4),
    "<i8": ("int64", 8),
    "<f2": ("float16", 2),
    "<f4": ("float32", 4),
    "<f8": ("float64", 8),
}
ARRAYS = (".npy", ".npz")


class PackError(Exception):
    """An input file that the job cannot use; the text names it."""


class Entry(NamedTuple):
    """A file in the pack."""

    name: str
    offset: int
    size: int


class Array(NamedTuple):
    """Contents of a .npy header; `start`: offset of the numbers in the pack."""

    dtype: str
    item: int
    shape: Tuple[int, ...]
    start: int


class Wanted(NamedTuple):
    """The model's input."""

    dtype: str
    shape: Tuple[int, ...]


def find(paths: Sequence[str], suffixes: Sequence[str]) -> Iterator[Tuple[str, str]]:
    """(name, path) of every input below `paths`, sorted by name.

    A named file is taken whatever its name. In a folder and its sub-folders, files count whose name ends in one of
    `suffixes` and does not begin with a dot; if that folder is the only path, their names are relative to it.
    """
    found: Dict[str, str] = {}
    for path in paths:
        if os.path.isdir(path):
            for folder, folders, names in os.walk(path):
                folders[:] = [name for name in folders if not name.startswith(".")]
                for name in names:
                    whole = os.path.join(folder, name)
                    if not name.startswith(".") and name.lower().endswith(tuple(suffixes)):
                        found[os.path.relpath(whole, path) if len(paths) == 1 else whole] = whole
        elif os.path.isfile(path):
            found[path] = path
        else:
            raise PackError("no file or folder %s on the head" % path)
    return iter(sorted(found.items()))


def append(pack: str, source: BinaryIO) -> int:
    """Append a file's bytes to the pack; returns their number."""
    with open(pack, "ab", opener=opener) as file:
        before = file.tell()
        shutil.copyfileobj(source, file, 1 << 20)
        return file.tell() - before


def index(pack: str, entries: Sequence[Entry], wanted: Wanted) -> Iterator[Dict[str, Any]]:
    """The lines of inputs.jsonl. Raises PackError for an array that does not fit the model."""
    for entry in entries:
        suffix = os.path.splitext(entry.name)[1].lower()
        if suffix not in ARRAYS:
            yield {"input": entry.name, "offset": entry.offset, "size": entry.size, "form": None}
            continue
        try:
            arrays = _arrays(pack, entry, suffix)
            for name, array in arrays:
                yield from _rows(name, array, wanted)
        except (ValueError, struct.error, zipfile.BadZipFile, EOFError, NotImplementedError, KeyError) as error:
            raise PackError("%s is no readable NumPy file: %s" % (entry.name, error)) from None


def write_index(path: str, lines: Iterator[Dict[str, Any]]) -> int:
    """Write inputs.jsonl; returns the number of inputs."""
    count = 0
    with open(path, "w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
            count += 1
    return count


def _arrays(pack: str, entry: Entry, suffix: str) -> List[Tuple[str, Array]]:
    with open(pack, "rb", opener=opener) as file:
        if suffix == ".npy":
            return [(entry.name, _header(file, entry.offset, entry.size))]
        found = []
        window = _Window(file, entry.offset, entry.size)
        with zipfile.ZipFile(cast(BinaryIO, window)) as archive:
            for info in archive.infolist():
                name = "%s:%s" % (entry.name, info.filename[:-4] if info.filename.endswith(".npy") else info.filename)
                if info.compress_type == zipfile.ZIP_STORED:
                    found.append((name, _header(file, _stored_at(window, info) + entry.offset, info.file_size)))
                else:
                    # Decompressed, at the end of the pack: ranks read numbers, not zip files.
                    with archive.open(info) as member:
                        at = os.path.getsize(pack)
                        size = append(pack, cast(BinaryIO, member))
                    found.append((name, _header(file, at, size)))
        return found


def _stored_at(window: "_Window", info: zipfile.ZipInfo) -> int:
    """Offset of a stored member's bytes: after its local header, which has its own lengths of name and extra."""
    window.seek(info.header_offset + 26)
    name, extra = struct.unpack("<HH", window.read(4))
    return info.header_offset + 30 + int(name) + int(extra)


def _header(file: BinaryIO, offset: int, size: int) -> Array:
    """Read a .npy header (NEP 1)."""
    file.seek(offset)
    start = file.read(12)
    if len(start) < 12 or start[:6] != _MAGIC:
        raise ValueError("it has not the header of one")
    major = start[6]
    length, begin = (
        (struct.unpack("<H", start[8:10])[0], 10) if major == 1 else (struct.unpack("<I", start[8:12])[0], 12)
    )
    if begin + length > size:
        raise ValueError("it is cut short")
    file.seek(offset + begin)
    try:
        fields = ast.literal_eval(file.read(length).decode("latin-1" if major < 3 else "utf-8"))
        descr, fortran, shape = fields["descr"], fields["fortran_order"], tuple(int(n) for n in fields["shape"])
    except (SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        raise ValueError("its header is damaged") from None
    if not isinstance(descr, str) or descr not in _DTYPES:
        raise ValueError("inputs are numbers in little-endian order; this has %r" % (descr,))
    if fortran and len(shape) > 1:
        raise ValueError("it is stored by columns: save numpy.ascontiguousarray of it")
    dtype, item = _DTYPES[descr]
    count = 1
    for number in shape:
        count *= number
    if min(shape, default=1) < 0 or begin + length + count * item > size:
        raise ValueError("it is cut short")
    return Array(dtype, item, shape, offset + begin + length)


def _rows(name: str, array: Array, wanted: Wanted) -> Iterator[Dict[str, Any]]:
    """Inputs of an array: one, or as many as its first dimension. Dimensions of 1 are ignored."""
    one = [size for size in wanted.shape if size != 1]
    if [size for size in array.shape if size != 1] == one:
        rows, names = 1, [name]
    elif len(array.shape) > 1 and [size for size in array.shape[1:] if size != 1] == one:
        rows = array.shape[0]
        names = ["%s[%d]" % (name, row) for row in range(rows)]
    else:
        raise PackError(
            "%s has shape %s; the model takes %s, or any number of them" % (name, _by(array.shape), _by(wanted.shape))
        )
    if array.dtype != wanted.dtype and array.dtype != "uint8" and not array.dtype.startswith("float"):
        raise PackError(
            "%s has %s numbers; the model takes %s, real numbers or pixels" % (name, array.dtype, wanted.dtype)
        )
    size = array.item
    for number in wanted.shape:
        size *= number
    for row in range(rows):
        form = [array.dtype, list(wanted.shape)]
        yield {"input": names[row], "offset": array.start + row * size, "size": size, "form": form}


def _by(shape: Sequence[int]) -> str:
    return "x".join(str(size) for size in shape) or "()"


class _Window(io.RawIOBase):
    """A part of a file as a file, for zipfile."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        super().__init__()
        self._file, self._offset, self._size, self._at = file, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if self._at < 0:
            raise ValueError("it is cut short")
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._offset + self._at)
        data = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
