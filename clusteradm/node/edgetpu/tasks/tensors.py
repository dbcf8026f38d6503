"""Output tensors as results hold them: as lists, or as the bytes of a file if they are large."""

import io
import math
from typing import Any, Callable, Dict, Optional

import numpy as np

from clusteradm.node.edgetpu.tasks.numbers import plain, real
from clusteradm.node.spec.reading import Output

# A tensor of at most this many numbers is in the result itself, a larger one in a file of its own.
INLINE_NUMBERS = 1024

# Stores the bytes of a tensor, "0.npy" for instance, and returns what the result is to call it.
Keep = Callable[[str, bytes], str]


def about(details: Dict[str, Any]) -> Output:
    """What an interpreter says of an output."""
    shape = tuple(int(size) for size in details["shape"])
    return Output(str(details["name"]), shape, np.dtype(details["dtype"]).name)


def output(number: int, value: Any, details: Dict[str, Any], keep: Optional[Keep]) -> Dict[str, Any]:
    """An output as it is: its dequantised numbers, or a .npy file of the numbers as they are, with their scale."""
    value = writable(value)
    found: Dict[str, Any] = {"name": details["name"], "shape": [int(n) for n in value.shape]}
    if keep is None or value.size <= INLINE_NUMBERS:
        found["values"] = plain(real(value, details))
        return found
    scale, zero = details["quantization"]
    found.update(
        file=keep("%d.npy" % number, npy(value)),
        dtype=str(value.dtype),
        scale=(math.isfinite(scale) and float(scale)) or None,
        zero_point=int(zero),
    )
    return found


def npy(values: Any) -> bytes:
    """The bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def writable(values: Any) -> Any:
    """An output in a form that JSON and .npy files can hold: numbers, or text for a string tensor's bytes."""
    if values.dtype.kind in "OS":
        text = [item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in values.flat]
        return np.array(text, np.str_).reshape(values.shape)
    # The small types of floating-point numbers that NumPy itself does not have, such as bfloat16.
    return values.astype(np.float32) if values.dtype.kind == "V" else values
