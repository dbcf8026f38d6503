"""Objects that TFLite_Detection_PostProcess found, of SSD, EfficientDet and others."""

from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from clusteradm.node.edgetpu.tasks.fit import Fit
from clusteradm.node.edgetpu.tasks.numbers import count, real, rounded
from clusteradm.node.spec.answers import MOST_CLASS


def read(
    values: Sequence[Any], details: Sequence[Dict[str, Any]], fit: Fit, threshold: Optional[float]
) -> List[List[Any]]:
    """[class, score, xmin, ymin, xmax, ymax] of each object, in the operator's order, the best first.

    `values`: boxes (1, N, 4) as ymin, xmin, ymax, xmax from 0 to 1; classes and scores (1, N); their number. Places are
    whole pixels, cut off, not cut to the picture's sides, as pycoral's get_objects() gives them.
    """
    boxes, classes, scores, number = (np.asarray(real(one, how), np.float64) for one, how in zip(values, details))
    written = count(number, boxes.shape[1])
    classes, scores = classes.reshape(-1)[:written], scores.reshape(-1)[:written]
    found = []
    for box, kind, score in zip(places(boxes[0, :written], fit), classes, scores):
        if not (np.isfinite(box).all() and np.isfinite(kind) and np.abs(box).max() < MOST_CLASS):
            continue  # no place, or beyond what readers of JSON hold
        if 0 <= kind < MOST_CLASS and (threshold is None or score >= threshold):
            found.append([int(kind), rounded(score), *(int(one) for one in box)])
    return found


def places(boxes: Any, fit: Fit) -> Any:
    """xmin, ymin, xmax, ymax in pixels of the picture, of boxes (ymin, xmin, ymax, xmax) from 0 to 1 in the input."""
    return np.stack([fit.across(boxes[:, 1]), fit.down(boxes[:, 0]), fit.across(boxes[:, 3]), fit.down(boxes[:, 2])], 1)
