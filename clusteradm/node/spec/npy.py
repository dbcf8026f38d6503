"""Headers of NumPy's .npy files, read without NumPy. No size is believed before it is compared with the file's."""

import re
import struct
from typing import BinaryIO, NamedTuple, Tuple

_MAGIC = b"\x93NUMPY"
# The numbers that an input may have: NumPy's type string without its first character, the order of bytes.
_DTYPES = {
    "b1": ("bool", 1),
    "u1": ("uint8", 1),
    "i1": ("int8", 1),
    "u2": ("uint16", 2),
    "i2": ("int16", 2),
    "u4": ("uint32", 4),
    "i4": ("int32", 4),
    "u8": ("uint64", 8),
    "i8": ("int64", 8),
    "f2": ("float16", 2),
    "f4": ("float32", 4),
    "f8": ("float64", 8),
}
# NumPy itself reads no longer header (numpy.lib.format), nor more dimensions.
_MOST_HEADER = 10000
_MOST_DIMENSIONS = 64

_DESCR = re.compile(r"""['"]descr['"]:[ ]*['"]([^'"]{1,16})['"]""")
_ORDER = re.compile(r"""['"]fortran_order['"]:[ ]*(True|False)""")
_SHAPE = re.compile(r"""['"]shape['"]:[ ]*\(([0-9L, ]*)\)""")
_SIZE = re.compile(r"[0-9]{1,18}")


class Unusable(Exception):
    """An array that is no input. Its line in the index says why, and the job goes on without it."""

    what = "not an input for this model: %s"

    def __str__(self) -> str:
        return self.what % super().__str__()


class Damaged(Unusable):
    """An array file that cannot be read."""

    what = "not an input that can be read: %s"


class Array(NamedTuple):
    """Contents of a .npy header; `start`: offset of the numbers, `size`: their bytes; `code`: NumPy's type string."""

    code: str
    dtype: str
    item: int
    shape: Tuple[int, ...]
    start: int
    size: int

    @property
    def form(self) -> str:
        """Its type in the form of an input: by its name, or NumPy's code where the bytes are the other way round."""
        return self.code if self.code.startswith(">") else self.dtype

    def at(self, start: int) -> "Array":
        """The same array at another place."""
        return self._replace(start=start)


def header(file: BinaryIO, size: int) -> Array:
    """Read a .npy header (NEP 1) from a file of `size` bytes; the array's start is counted from the file's."""
    start = file.read(10)
    if len(start) < 10 or start[:6] != _MAGIC or start[6] not in (1, 2, 3):
        raise Damaged("it has not the header of a NumPy file")
    begin, layout = (10, "<H") if start[6] == 1 else (12, "<I")
    start += file.read(begin - 10)
    if len(start) < begin:
        raise Damaged("it is cut short")
    length = int(struct.unpack(layout, start[8:])[0])
    if length > _MOST_HEADER:
        raise Damaged("its header claims %d bytes" % length)
    text = file.read(length).decode("latin-1")
    if len(text) < length:
        raise Damaged("it is cut short")
    # By patterns: a literal that Python evaluates can be nested until the interpreter's stack ends.
    order, numbers = _ORDER.search(text), _SHAPE.search(text)
    descr = _DESCR.search(text)
    if order is None or numbers is None or not (text.startswith("{") and text.rstrip().endswith("}")):
        raise Damaged("its header is damaged")
    parts = [part.strip(" L") for part in numbers.group(1).split(",") if part.strip()]
    if len(parts) > _MOST_DIMENSIONS or not all(_SIZE.fullmatch(part) for part in parts):
        raise Damaged("its header is damaged")
    shape = tuple(int(part) for part in parts)
    code = descr.group(1) if descr else ""
    dtype, item = _DTYPES.get(code[1:], ("", 0)) if code[:1] in ("<", ">", "|", "=") else ("", 0)
    if not item:
        raise Unusable("inputs are numbers; this has the type %s" % (repr(code) if code else "of records"))
    if order.group(1) == "True" and len(shape) > 1:
        raise Unusable("it is stored by columns: save numpy.ascontiguousarray of it")
    bytes_ = item
    for number in shape:
        bytes_ *= number
    if begin + length + bytes_ > size:
        raise Damaged("it is cut short")
    return Array(code, dtype, item, shape, begin + length, bytes_)
