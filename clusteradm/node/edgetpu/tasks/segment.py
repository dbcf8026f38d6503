"""Classes of a picture's places, at the picture's size."""

import io
from typing import Any, Dict, List, Optional

import numpy as np
from PIL import Image

from clusteradm.node.edgetpu.tasks.fit import Fit
from clusteradm.node.edgetpu.tasks.numbers import real, rounded
from clusteradm.node.edgetpu.tasks.tensors import Keep, npy
from clusteradm.node.spec import answers
from clusteradm.node.spec.reading import CLASS_SCORES, MASK

_HALF = 0.5  # the least score of a place in a mask
# Pixels of the largest map: that of a picture that is decoded as a whole.
MOST_PIXELS = 50000000
_MOST_CLASS = 65535


def read(
    head: str, value: Any, details: Dict[str, Any], fit: Fit, threshold: Optional[float], keep: Optional[Keep]
) -> Dict[str, Any]:
    """[class, share of the picture] of each class, the largest share first, and the map of classes.

    The map is a PNG of one grey of 8 bits for each pixel, which is the class; a .npy file where there are classes from
    256 on. Raises ValueError for a map that would be too large, or with what is no class.
    """
    if fit.width * fit.height > MOST_PIXELS:
        text = "its map would have %dx%d pixels, more than %d"
        raise ValueError(text % (fit.width, fit.height, MOST_PIXELS))
    small = _classes(head, value[0], details, threshold)
    down, across = _places(fit.height, small.shape[0], fit.down), _places(fit.width, small.shape[1], fit.across)
    found: Dict[str, Any] = {answers.SEGMENTS: _shares(small, down, across)}
    # Columns first, of the small map: then whole rows are copied.
    whole = small[:, across][down]
    about: Dict[str, Any] = {"name": details["name"], "shape": [fit.height, fit.width]}
    if keep is None:
        about["values"] = whole.tolist()
    elif whole.dtype == np.uint8:
        about["file"] = keep("map.png", _png(whole))
    else:
        about["file"] = keep("map.npy", npy(whole))
    found[answers.MAP] = about
    return found


def _classes(head: str, value: Any, details: Dict[str, Any], threshold: Optional[float]) -> Any:
    """The map as the model has it, (height, width), in the smallest type that holds its classes."""
    if head == CLASS_SCORES:
        found = value.argmax(-1)  # of equal scores the first class
    elif head == MASK:
        least = _HALF if threshold is None else threshold
        found = (np.asarray(real(value, details)) >= least).reshape(value.shape[:2]).astype(np.uint8)
    else:
        found = value.reshape(value.shape[:2])
    low, high = int(found.min()), int(found.max())
    if low < 0 or high > _MOST_CLASS:
        raise ValueError("its map has the class %d" % (low if low < 0 else high))
    return found.astype(np.uint8 if high < 256 else np.uint16)


def _places(count: int, small: int, to_picture: Any) -> Any:
    """For each of `count` rows or columns of the picture the one of the map that covers its middle."""
    shift = to_picture(0.0)
    place = (np.arange(count) + 0.5 - shift) / (to_picture(1.0) - shift)
    return np.clip(np.floor(place * small), 0, small - 1).astype(np.intp)


def _shares(small: Any, down: Any, across: Any) -> List[List[Any]]:
    """[class, share] by the pixels that each place of the map covers."""
    rows = np.bincount(down, minlength=small.shape[0]).astype(np.float64)
    columns = np.bincount(across, minlength=small.shape[1]).astype(np.float64)
    counts = np.bincount(small.reshape(-1), weights=np.outer(rows, columns).reshape(-1))
    found = np.flatnonzero(counts)
    order = found[np.argsort(-counts[found], kind="stable")]
    return [[int(number), rounded(counts[number] / counts.sum())] for number in order]


def _png(values: Any) -> bytes:
    file = io.BytesIO()
    # Level 1: a map is a few runs, which no level makes much smaller, and a board's CPU is slow.
    Image.fromarray(values).save(file, "PNG", compress_level=1)
    return file.getvalue()
