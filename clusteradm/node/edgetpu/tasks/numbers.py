"""Numbers of output tensors: the largest of many, dequantised, as JSON can hold them."""

import math
from typing import Any, Dict, Optional

import numpy as np

_DIGITS = 6  # behind the point


def best(values: Any, most: int) -> Any:
    """The places of the `most` largest of a row of numbers, the largest first; of equal ones the first, NaN last.

    Without sorting all of them: an ImageNet classifier has 1001 of which 5 are wanted.
    """
    count = len(values)
    most = min(most, count)
    if most <= 0:
        return np.empty(0, np.intp)
    if values.dtype.kind == "f":
        missing = np.isnan(values)
        if missing.any():
            # Negation would overflow in a small dtype.
            return np.argsort(-values.astype(np.float64), kind="stable")[:most]
    if most == 1:
        return values.argmax().reshape(1)
    least = np.partition(values, count - most)[count - most]
    above = (values > least).nonzero()[0]
    # Turned around twice, so that of equal ones the first is first.
    order = above[::-1][values[above][::-1].argsort(kind="stable")[::-1]]
    return np.concatenate([order, (values == least).nonzero()[0][: most - len(order)]])


def real(values: Any, details: Dict[str, Any]) -> Any:
    """Dequantised numbers."""
    scale, zero = details["quantization"]
    if not scale or values.dtype.kind not in "iu":
        return values
    return (values.astype(np.float64) - zero) * scale


def levels(details: Dict[str, Any], least: Optional[float]) -> Optional[Dict[int, Optional[float]]]:
    """The score, as `rounded`, of each number that a quantised output of 8 bits can hold, without scores below `least`;
    None for an output of another type."""
    kind = np.dtype(details["dtype"])
    if kind.kind not in "iu" or kind.itemsize > 1:
        return None
    numbers = np.arange(256, dtype=np.uint8).view(kind)
    scores = real(numbers, details).tolist()
    return {n: rounded(score) for n, score in zip(numbers.tolist(), scores) if least is None or score >= least}


def count(number: Any, most: int) -> int:
    """How many answers an operator says that it has written, up to those there is room for."""
    value = number.reshape(-1)[0]
    return int(min(max(value, 0), most)) if np.isfinite(value) else 0


def rounded(score: Any, digits: int = _DIGITS) -> Optional[float]:
    """A number as JSON can hold it: None for NaN and infinity."""
    number = float(score)
    return round(number, digits) if math.isfinite(number) else None


def plain(values: Any) -> Any:
    """Nested lists of what JSON can hold: it has no NaN, no infinity, and [real, imaginary] for a complex number."""
    if values.dtype.kind == "c":
        return plain(np.stack([values.real, values.imag], -1))
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return [plain(row) for row in values] if values.ndim else None
    if values.dtype.kind != "f":
        return values.tolist()
    values = values.astype(np.float64)
    with np.errstate(over="ignore"):
        found = np.round(values, _DIGITS)
    # NumPy multiplies to round: the largest numbers, which have nothing behind the point, become infinite.
    return np.where(np.isfinite(found), found, values).tolist()
