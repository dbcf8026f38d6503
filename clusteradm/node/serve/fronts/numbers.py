"""Numbers of JSON as arrays: exactly those that a client wrote, or a refusal."""

import base64
import binascii
import warnings
from typing import Any, List, Sequence, Tuple, Union

import numpy as np

from clusteradm.node.serve.fronts.limits import MOST_DIMENSIONS, MOST_ELEMENTS
from clusteradm.node.serve.plane import DATATYPES, INVALID, Refusal


def array(values: Any, datatype: str, name: str) -> Any:
    """Nested lists of numbers as an array of a KServe data type. Raises Refusal: for text, for lists of different
    lengths, for numbers that the type does not have (300 or 1.5 in UINT8, 1e39 in FP32)."""
    wanted = np.dtype(DATATYPES[datatype])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = np.array(values)
    except (ValueError, TypeError, OverflowError, Warning):
        raise Refusal(INVALID, "input %s: its lists have different lengths, or are too deep" % name) from None
    if found.ndim > MOST_DIMENSIONS:
        raise Refusal(INVALID, "input %s has %d dimensions, more than %d" % (name, found.ndim, MOST_DIMENSIONS))
    if found.size == 0:
        return found.astype(wanted)
    if found.dtype.kind not in "iufb":
        raise Refusal(INVALID, "input %s has something that is no number; the model takes %s" % (name, datatype))
    if wanted.kind == "b":
        if found.dtype.kind == "f" or not ((found == 0) | (found == 1)).all():
            raise Refusal(INVALID, "input %s is BOOL: true and false, or 1 and 0" % name)
    elif wanted.kind in "iu":
        limits = np.iinfo(wanted)
        whole = found.dtype.kind != "f" or (found == np.floor(found)).all()
        if not whole or int(found.min()) < limits.min or int(found.max()) > limits.max:
            text = "input %s is %s: whole numbers from %d to %d" % (name, datatype, limits.min, limits.max)
            raise Refusal(INVALID, text)
    with np.errstate(over="ignore"):
        made = found.astype(wanted)
    if wanted.kind == "f" and not np.isfinite(made).all():
        raise Refusal(INVALID, "input %s has a number that is too large for %s" % (name, datatype))
    return made


def shape(value: Any, name: str) -> Tuple[int, ...]:
    """The shape that a client says. Raises Refusal."""
    if not isinstance(value, list) or len(value) > MOST_DIMENSIONS:
        raise Refusal(INVALID, "input %s: its shape is no list of at most %d numbers" % (name, MOST_DIMENSIONS))
    if not all(type(size) is int and 0 <= size <= MOST_ELEMENTS for size in value):
        raise Refusal(INVALID, "input %s: its shape has something that is no size from 0 to %d" % (name, MOST_ELEMENTS))
    elements(value, name)
    return tuple(value)


def elements(sizes: Sequence[int], name: str) -> int:
    """The number of elements of a shape. Raises Refusal."""
    whole = 1
    for size in sizes:
        if size < 0:
            raise Refusal(INVALID, "input %s: its shape has a negative size" % name)
        whole *= size
    if whole > MOST_ELEMENTS:
        raise Refusal(INVALID, "input %s: its shape has %d elements, more than %d" % (name, whole, MOST_ELEMENTS))
    return whole


def fit(values: Any, sizes: Tuple[int, ...], name: str) -> Any:
    """An array in the shape that a client says. Raises Refusal where that has another number of elements."""
    wanted = elements(sizes, name)
    if int(values.size) != wanted:
        raise Refusal(INVALID, "input %s: %d values, and %d in its shape %s" % (name, values.size, wanted, list(sizes)))
    return values.reshape(sizes)


def raw(data: Union[bytes, memoryview], datatype: str, sizes: Tuple[int, ...], name: str) -> Any:
    """Bytes, little endian and in row order, as an array. Raises Refusal."""
    wanted = np.dtype(DATATYPES[datatype])
    size = elements(sizes, name) * wanted.itemsize
    if len(data) != size:
        text = "input %s: %d bytes, and %d for the shape %s of %s" % (name, len(data), size, list(sizes), datatype)
        raise Refusal(INVALID, text)
    if wanted.kind == "b":
        # Any byte but 0 is true; as a bool of NumPy, another than 1 is not defined.
        return (np.frombuffer(data, np.uint8) != 0).reshape(sizes)
    return np.frombuffer(data, wanted.newbyteorder("<")).reshape(sizes)


def split(data: bytes, count: int, name: str) -> List[bytes]:
    """The elements of a BYTES tensor: each with its length before it, 4 bytes, little endian. Raises Refusal."""
    found: List[bytes] = []
    at = 0
    while at < len(data) and len(found) < count:
        length = int.from_bytes(data[at : at + 4], "little")
        if at + 4 + length > len(data):
            break
        found.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    if at != len(data) or len(found) != count:
        text = "input %s: its bytes are not the %d elements of its shape, each with its length before it" % (
            name,
            count,
        )
        raise Refusal(INVALID, text)
    return found


def texts(value: Any, name: str) -> Any:
    """Bytes, text or a list of such as an array of bytes. Raises Refusal."""
    found = [each.encode("utf-8") if isinstance(each, str) else each for each in _list(value)]
    if not all(isinstance(each, bytes) for each in found):
        raise Refusal(INVALID, "feature %s is texts, or b64" % name)
    array = np.empty(len(found), object)
    array[:] = found
    return array


def _list(value: Any) -> List[Any]:
    return value if isinstance(value, list) else [value]


def join(values: Sequence[bytes]) -> bytes:
    """The bytes of a BYTES tensor."""
    return b"".join(len(each).to_bytes(4, "little") + each for each in values)


def decoded(text: Any, name: str) -> bytes:
    """The bytes that base64 says. Raises Refusal."""
    try:
        if isinstance(text, str):
            return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        pass
    raise Refusal(INVALID, "input %s: not base64" % name)
