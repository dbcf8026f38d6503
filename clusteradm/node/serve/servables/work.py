"""Work of a servable: what its process does with the tensors of a request."""

from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np

from clusteradm.node.spec.datatypes import TEXT
from clusteradm.node.spec.wire.manifest import Tensor

# By name; of BYTES an array of objects, which are bytes.
Arrays = Dict[str, Any]
_MOST_BYTES = 64 << 20  # of all outputs


class BadInput(Exception):
    """The input is the reason: the client is told."""


class Defect(Exception):
    """The servable is the reason."""


class Work:
    """One version, loaded."""

    inputs: Tuple[Tensor, ...]
    outputs: Tuple[Tensor, ...]

    def run(self, step: Optional[int], inputs: Arrays) -> Arrays:
        """The outputs; of a step of an ensemble where one is given. Raises BadInput, Defect."""
        raise NotImplementedError

    def sample(self) -> Optional[Arrays]:
        """Inputs to try it with; None where it does nothing by itself."""
        return {each.name: _zeros(each) for each in self.inputs}


def _zeros(tensor: Tensor) -> Any:
    shape = [1 if size < 0 else size for size in tensor.shape]
    return np.full(shape, b"", object) if tensor.dtype == TEXT else np.zeros(shape, tensor.dtype)


def dtype_of(tensor: Tensor) -> Any:
    """NumPy's type of a tensor."""
    return np.dtype(object if tensor.dtype == TEXT else tensor.dtype)


def texts(values: Sequence[bytes], shape: Sequence[int]) -> Any:
    """An array of bytes."""
    found = np.empty(len(values), object)
    found[:] = values
    return found.reshape(tuple(shape))


def conformed(given: Any, declared: Sequence[Tensor]) -> Arrays:
    """What somebody's code returns, as the outputs that are declared. Raises Defect."""
    names = [each.name for each in declared]
    if not isinstance(given, dict) or sorted(map(str, given)) != sorted(names):
        what = sorted(map(str, given))[:20] if isinstance(given, dict) else type(given).__name__
        raise Defect("it returns %s, not a dict of %s" % (what, ", ".join(names)))
    found = {each.name: _conformed(given[each.name], each) for each in declared}
    size = sum(_size(each) for each in found.values())
    if size > _MOST_BYTES:
        raise Defect("it returns %d bytes, more than %d" % (size, _MOST_BYTES))
    return found


def _size(array: Any) -> int:
    return sum(map(len, array.ravel().tolist())) if array.dtype == object else int(array.nbytes)


def _conformed(value: Any, declared: Tensor) -> Any:
    try:
        if declared.dtype == TEXT:
            array = np.asarray(value, object)
            flat = [each.encode("utf-8") if isinstance(each, str) else each for each in array.ravel().tolist()]
            if not all(isinstance(each, bytes) for each in flat):
                raise Defect("output %s is BYTES, and has something that is neither bytes nor text" % declared.name)
            array = texts(flat, array.shape)
        else:
            array = np.asarray(value)
            wanted = np.dtype(declared.dtype)
            if array.dtype != wanted:
                cast = array.astype(wanted)
                if array.dtype.kind not in "iufb" or not _same(array, cast):
                    raise Defect("output %s is %s, not %s" % (declared.name, array.dtype, declared.dtype))
                array = cast
    except (ValueError, TypeError, OverflowError) as error:
        raise Defect("output %s is no array: %s" % (declared.name, " ".join(str(error).split())[:300])) from None
    fits = array.ndim == len(declared.shape) and all(
        wish in (-1, size) for wish, size in zip(declared.shape, array.shape)
    )
    if not fits:
        raise Defect("output %s has the shape %s, not %s" % (declared.name, list(array.shape), list(declared.shape)))
    return np.ascontiguousarray(array)


def _same(array: Any, cast: Any) -> bool:
    """Whether the numbers are the same but for the precision of real ones."""
    if cast.dtype.kind == "f":
        return bool((np.isfinite(cast) | ~np.isfinite(array.astype(np.float64))).all())
    return array.dtype.kind != "f" and bool(np.array_equal(array, cast))
