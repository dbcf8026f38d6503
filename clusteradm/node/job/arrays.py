"""NumPy's files among a job's inputs: arrays found by their headers, in .npy and in .npz, which is a zip of these.

Without numpy, as this runs on the head's own Python. The bytes are not trusted: no size is believed before it is
compared with the file's, and nothing unfolds to more than the header of its array says.
"""

import io
import os
import struct
import zipfile
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO, Callable, Iterator, Optional, Tuple, Union, cast

from clusteradm.node.job.files import opener
from clusteradm.node.spec.npy import Array, Damaged, Unusable, header
from clusteradm.node.spec.zips import UNSOUND

# The most that is read from a zip at once; it is the size of its list of files (1 MiB: fifteen thousand arrays).
_MOST_READ = 1 << 20
_COPY = 1 << 16
_MOST_NAMED = 10
TOO_LARGE = "the arrays of the job unfold to many times its inputs"


def members(
    pack: str, offset: int, size: int, fits: Callable[[str, Array], Any], room: int, one: Optional[str] = None
) -> Iterator[Tuple[str, Union[Array, str]]]:
    """(name, place in the pack) of every array of the .npz file there; the reason as text where one cannot be used.

    `fits` raises Unusable for an array that the job does not take. `room`: bytes that the arrays may unfold to; `one`:
    the name of the only array that is meant.
    """
    with open(pack, "rb", opener=opener) as file:
        window = Window(file, offset, size)
        try:
            with _readable():
                archive = zipfile.ZipFile(cast(BinaryIO, window))
        except Damaged as error:
            yield "", str(error)
            return
        listed = [info for info in archive.infolist() if not info.filename.endswith("/")]  # folders are none
        found = {_array(info.filename): info for info in listed}  # of a name that is there twice, the last, as NumPy
        if not found:
            yield "", str(Unusable("it holds no array"))
        elif one is not None and one not in found:
            names = ", ".join(sorted(found)[:_MOST_NAMED])
            yield "", str(Unusable("it holds no array of this name, but: %s" % names))
        for info in listed:
            name = _array(info.filename)
            if one not in (None, name) or found[name] is not info:
                continue
            try:
                with _readable():
                    if info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1:
                        array = _stored(window, info)
                        array = array.at(offset + array.start)
                        if array.size > room:
                            raise Damaged(TOO_LARGE)
                    else:
                        array = _unfold(pack, archive, info, partial(fits, name), room)
                    room -= array.size
            except Unusable as error:
                yield name, str(error)
            else:
                yield name, array


def _array(name: str) -> str:
    """The name of an array, of that of its file."""
    return name[:-4] if name.endswith(".npy") else name


@contextmanager
def _readable() -> Iterator[None]:
    """Whatever zipfile raises for bytes that are no sound zip, as Damaged."""
    try:
        yield
    except UNSOUND as error:
        raise Damaged("no sound .npz file: %s" % ((error.args and str(error)) or type(error).__name__)) from None


def _stored(window: "Window", info: zipfile.ZipInfo) -> Array:
    """An array that lies in the zip as it is; its start is counted from the zip's."""
    # Its bytes follow a local header, which has its own lengths of name and extra.
    window.seek(info.header_offset + 26)
    name, extra = struct.unpack("<HH", window.read(4))
    at = info.header_offset + 30 + int(name) + int(extra)
    if at + info.file_size > window.size:
        raise Damaged("it is cut short")
    window.seek(at)
    array = header(cast(BinaryIO, window), info.file_size)
    return array.at(at + array.start)


def _unfold(
    pack: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo, fits: Callable[[Array], Any], room: int
) -> Array:
    """Unpack an array to the end of the pack: ranks read numbers, not zip files. No more than its header says."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Damaged("it is compressed by a method that NumPy does not use")
    with archive.open(info) as member, open(pack, "r+b", opener=opener) as into:
        array = header(cast(BinaryIO, member), info.file_size)
        fits(array)
        if array.size > room:
            raise Damaged(TOO_LARGE)
        at = into.seek(0, os.SEEK_END)
        try:
            left = array.size
            while left:
                data = member.read(min(left, _COPY))
                if not data:
                    raise Damaged("it is cut short")
                into.write(data)
                left -= len(data)
            if member.read(1):  # at the end, zipfile compares the checksum
                raise Damaged("it has more numbers than its header says")
        except BaseException:
            into.truncate(at)
            raise
    return array.at(at)


class Window(io.RawIOBase):
    """A part of a file as a file, for zipfile, which believes the sizes that a zip claims."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        super().__init__()
        self.size = size
        self._file, self._offset, self._at = file, offset, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        if not 0 <= self._at <= self.size:
            raise io.UnsupportedOperation("it is cut short")  # an OSError, as zipfile expects, and a ValueError
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        if size > _MOST_READ:
            raise ValueError("it claims a list of files of %d bytes" % size)
        self._file.seek(self._offset + self._at)
        data = self._file.read(max(0, min(_MOST_READ if size < 0 else size, self.size - self._at)))
        self._at += len(data)
        return data
