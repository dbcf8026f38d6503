"""Objects that the heads of YOLO v5 and v8 found, which leave it to the reader to choose among overlapping boxes."""

from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from clusteradm.node.edgetpu.tasks.detect import places
from clusteradm.node.edgetpu.tasks.fit import Fit
from clusteradm.node.edgetpu.tasks.numbers import real, rounded
from clusteradm.node.spec.reading import YOLO5

# What Ultralytics' programs take where they are not told: of an object, and of two boxes of one class, of which the
# worse is left out if they overlap (intersection over union) by more.
SCORE = 0.25
_OVERLAP5, _OVERLAP8 = 0.45, 0.7
MOST_OBJECTS = 300
# The best boxes, among which is chosen: more make a slow board slower, and no picture has so many objects.
_MOST_BOXES = 3000
# Boxes are from 0 to 1 across the input, and a little beyond, or else in its pixels.
_MOST_RELATIVE = 2.0


def read(
    head: str, rows: Any, details: Dict[str, Any], fit: Fit, threshold: Optional[float], sides: Tuple[int, int]
) -> List[List[Any]]:
    """[class, score, xmin, ymin, xmax, ymax] of each object, the best first.

    `rows`: (places of the grids, numbers), each the middle, width and height of a box, in v5 its objectness, and class
    scores. `sides`: height and width of the input. Places are whole pixels of the picture, within it.
    """
    least = SCORE if threshold is None else threshold
    scores = rows[:, 5:] if head == YOLO5 else rows[:, 4:]
    if head == YOLO5:
        sure = real(rows[:, 4], details)
        picked = np.flatnonzero(sure >= least)
        classes = scores[picked].argmax(1)
        found = sure[picked].astype(np.float64) * real(scores[picked, classes], details)
    else:
        classes = scores.argmax(1)
        found = np.asarray(real(scores[np.arange(len(rows)), classes], details), np.float64)
        picked = np.arange(len(rows))
    enough = np.flatnonzero((found >= least) & np.isfinite(rows[picked, :4]).all(1))
    enough = enough[np.argsort(-found[enough], kind="stable")[:_MOST_BOXES]]
    picked, classes, found = picked[enough], classes[enough], found[enough]
    boxes = _corners(rows, picked, details, sides)
    kept = chosen(boxes, classes, _OVERLAP5 if head == YOLO5 else _OVERLAP8)
    # Rounded to whole pixels within the picture, as Ultralytics' programs do.
    most = np.array([fit.width, fit.height] * 2, np.float64)
    pixels = np.clip(np.rint(places(boxes[kept], fit)), 0, most).astype(np.int64)
    return [[int(kind), rounded(score), *box] for kind, score, box in zip(classes[kept], found[kept], pixels.tolist())]


def _corners(rows: Any, picked: Any, details: Dict[str, Any], sides: Tuple[int, int]) -> Any:
    """ymin, xmin, ymax, xmax of boxes, from 0 to 1 across the input."""
    boxes = np.asarray(real(rows[picked, :4], details), np.float64)
    # In pixels, the middles of the grids' last places alone are larger than this.
    if float(np.asarray(real(rows[:, :4].max(initial=0), details))) > _MOST_RELATIVE:
        boxes = boxes / np.array([sides[1], sides[0]] * 2, np.float64)
    x, y, half_wide, half_high = boxes[:, 0], boxes[:, 1], boxes[:, 2] / 2, boxes[:, 3] / 2
    return np.stack([y - half_high, x - half_wide, y + half_high, x + half_wide], 1)


def chosen(boxes: Any, classes: Any, most: float) -> Any:
    """The numbers of the boxes (ymin, xmin, ymax, xmax; the best first) that no better one of their class overlaps by
    more than `most` of their union: greedy non-maximum suppression."""
    area = np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0)
    left = np.arange(len(boxes))
    kept: List[int] = []
    while len(left) and len(kept) < MOST_OBJECTS:
        first, others = left[0], left[1:]
        kept.append(int(first))
        low = np.maximum(boxes[first, :2], boxes[others, :2])
        high = np.minimum(boxes[first, 2:], boxes[others, 2:])
        both = np.maximum(high - low, 0).prod(1)
        whole = area[first] + area[others] - both
        overlap = np.where(whole > 0, both / np.where(whole > 0, whole, 1), 0)
        left = others[(overlap <= most) | (classes[others] != classes[first])]
    return np.array(kept, np.intp)
