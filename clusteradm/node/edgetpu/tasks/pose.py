"""Key points of persons: of MoveNet, and of PoseNet with its decoder or without."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from clusteradm.node.edgetpu.tasks.fit import Fit
from clusteradm.node.edgetpu.tasks.numbers import count, real, rounded
from clusteradm.node.spec.reading import HEATMAPS, KEYPOINTS, PERSON, PERSONS

_DIGITS = 2  # behind the point, of a pixel


def read(
    head: str,
    values: Sequence[Any],
    details: Sequence[Dict[str, Any]],
    fit: Fit,
    threshold: Optional[float],
    sides: Tuple[int, int],
) -> List[List[Any]]:
    """[score, [[x, y, score], ...]] of each pose, in the model's order; places in pixels of the picture.

    Where the model has no score of the whole pose, it is the mean of its points'. `sides`: height and width of the
    input.
    """
    outputs = [np.asarray(real(one, how), np.float64) for one, how in zip(values, details)]
    if head == PERSON:
        found = _points(outputs[0].reshape(1, KEYPOINTS, 3))
    elif head == PERSONS:
        rows = outputs[0][0]
        points, _ = _points(rows[:, : 3 * KEYPOINTS].reshape(-1, KEYPOINTS, 3))
        found = points, rows[:, -1]
    elif head == HEATMAPS:
        found = _hottest(outputs[0][0], outputs[1][0], sides)
    else:
        found = _decoded(outputs, sides)
    poses = []
    for points, score in zip(*found):
        if threshold is None or score >= threshold:
            x, y = fit.across(points[:, 1]), fit.down(points[:, 0])
            places = [[rounded(a, _DIGITS), rounded(b, _DIGITS), rounded(c)] for a, b, c in zip(x, y, points[:, 2])]
            poses.append([rounded(score), places])
    return poses


def _points(points: Any) -> Tuple[Any, Any]:
    """(y, x, score of each point from 0 to 1, the mean score) of each pose."""
    return points, points[:, :, 2].mean(1)


def _decoded(outputs: Sequence[Any], sides: Tuple[int, int]) -> Tuple[Any, Any]:
    """What PosenetDecoderOp writes: y and x in pixels of the input, scores of points and poses, the number of poses."""
    places, scores, whole, number = outputs
    written = count(number, places.shape[1])
    points = np.concatenate([places[0, :written] / np.array(sides, np.float64), scores[0, :written, :, None]], 2)
    return points, whole[0, :written]


def _hottest(heat: Any, moved: Any, sides: Tuple[int, int]) -> Tuple[Any, Any]:
    """One person of PoseNet's heat maps (rows, columns, points) and offsets (rows, columns, y of each point and x)."""
    rows, columns, _ = heat.shape
    flat = heat.reshape(-1, KEYPOINTS).argmax(0)
    row, column, point = flat // columns, flat % columns, np.arange(KEYPOINTS)
    y = row * (sides[0] - 1.0) / (rows - 1) + moved[row, column, point]
    x = column * (sides[1] - 1.0) / (columns - 1) + moved[row, column, point + KEYPOINTS]
    with np.errstate(over="ignore"):
        scores = 1 / (1 + np.exp(-heat[row, column, point]))
    return _points(np.stack([y / sides[0], x / sides[1], scores], 1)[None])
