"""Results of a task: the short form that ranks send and journals keep, and the form that users get, with labels.

task           short form                                             user's form
classifier     "top": [[class, score], ...]                           "top": [{"class", "label", "score"}, ...]
detector       "objects": [[class, score, xmin, ymin, xmax, ymax]]    "objects": [{"class", "label", "score", "box"}]
segmentation   "segments": [[class, share], ...], "map": tensor       "segments": [{"class", "label", "share"}], "map"
pose           "poses": [[score, [[x, y, score], ...]], ...]          "poses": [{"score", "keypoints": [{"name", ...}]}]
embedding      "embedding": [number, ...]                             the same
raw            "outputs": [tensor, ...]                               the same

A tensor is {"name", "shape", "values"}, or with "file" in place of values. Places are pixels of the picture, from its
upper left corner; "size" is the picture's width and height. A score is null for NaN and infinity.
"""

import math
from typing import Any, Dict, Mapping, Optional, Sequence

from clusteradm.node.spec.reading import KEYPOINTS, MOST_NUMBERS
from clusteradm.node.spec.wire.decode import WireError

TOP, OBJECTS, SEGMENTS, POSES, VECTOR, OUTPUTS = "top", "objects", "segments", "poses", "embedding", "outputs"
MAP, SIZE = "map", "size"
KINDS = (TOP, OBJECTS, SEGMENTS, POSES, VECTOR, OUTPUTS)

MOST_CLASS = 1 << 31
# Of a picture's side, and of a place that a model may put far outside of it.
_MOST_PLACE = 1 << 31
MOST_ITEMS = MOST_NUMBERS
# The same of what takes more than a number or two: the user's form of a result is a JSON document of bounded size.
_MOST = {OBJECTS: 20000, POSES: 2000}

# COCO's names of the key points of a person, which MoveNet and PoseNet write in this order.
POINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)


def full(short: Dict[str, Any], labels: Sequence[str] = ()) -> Dict[str, Any]:
    """The user's form of a result in the short form, which fits; other keys are as they are."""
    found = dict(short)
    if TOP in found:
        found[TOP] = [_labelled(one[0], labels, score=one[1]) for one in found[TOP]]
    if OBJECTS in found:
        found[OBJECTS] = [_labelled(one[0], labels, score=one[1], box=one[2:]) for one in found[OBJECTS]]
    if SEGMENTS in found:
        found[SEGMENTS] = [_labelled(one[0], labels, share=one[1]) for one in found[SEGMENTS]]
    if POSES in found:
        found[POSES] = [
            {
                "score": score,
                "keypoints": [{"name": name, "x": x, "y": y, "score": s} for name, (x, y, s) in zip(POINTS, points)],
            }
            for score, points in found[POSES]
        ]
    return found


def _labelled(number: int, labels: Sequence[str], **rest: Any) -> Dict[str, Any]:
    answer: Dict[str, Any] = {"class": number}
    if 0 <= number < len(labels) and labels[number]:
        answer["label"] = labels[number]
    answer.update(rest)
    return answer


def kind(short: Dict[str, Any]) -> Optional[str]:
    """Which of KINDS a result has, in a form that fits; None where that is none. Of tensors, only that they are a
    list: what is in them is the caller's to check."""
    kinds = [name for name in KINDS if name in short]
    if len(kinds) != 1 or not (SIZE not in short or is_size(short[SIZE])):
        return None
    value = short[kinds[0]]
    if type(value) is not list or len(value) > _MOST.get(kinds[0], MOST_ITEMS) or not all(map(_FITS[kinds[0]], value)):
        return None
    return kinds[0]


def check(answer: Mapping[str, Any]) -> None:
    """Raise WireError for a user's form, its lists being any sequences of objects, that is not one."""
    for name, keys in _LISTS.items():
        for number, one in enumerate(answer.get(name, ())):
            label = one.get("label")
            short = [one.get(key) for key in keys]
            if name == OBJECTS:
                short = [*short[:2], *(short[2] if type(short[2]) is list else ())]
            elif name == POSES:
                points = short[1] if type(short[1]) is list else []
                short[1] = [
                    [point.get(key) for key in ("x", "y", "score")]
                    if type(point) is dict and type(point.get("name", "")) is str
                    else None
                    for point in points
                ]
            if not (_FITS[name](short) and (label is None or type(label) is str)):
                raise WireError("no answer", ".%s[%d]" % (name, number))
    size = answer.get(SIZE)
    if size is not None and not is_size(list(size)):
        raise WireError("no width and height", "." + SIZE)


def is_size(value: Any) -> bool:
    """Whether this is [width, height]."""
    return type(value) is list and len(value) == 2 and all(type(one) is int and 0 < one < _MOST_PLACE for one in value)


def is_score(value: Any) -> bool:
    """Whether this is a number that can be reckoned with, or None."""
    if type(value) is int:
        return abs(value) < MOST_CLASS
    return value is None or (type(value) is float and math.isfinite(value))


def _is_class(value: Any) -> bool:
    return type(value) is int and 0 <= value < MOST_CLASS


def _is_pair(value: Any) -> bool:
    return type(value) is list and len(value) == 2 and _is_class(value[0]) and is_score(value[1])


def _is_segment(value: Any) -> bool:
    return _is_pair(value) and value[1] is not None and 0 <= value[1] <= 1


def _is_object(value: Any) -> bool:
    return (
        type(value) is list
        and len(value) == 6
        and _is_pair(value[:2])
        and all(type(one) is int and abs(one) < _MOST_PLACE for one in value[2:])
    )


def _is_pose(value: Any) -> bool:
    return (
        type(value) is list
        and len(value) == 2
        and is_score(value[0])
        and type(value[1]) is list
        and len(value[1]) == KEYPOINTS
        and all(map(_is_point, value[1]))
    )


def _is_point(value: Any) -> bool:
    return type(value) is list and len(value) == 3 and all(is_score(one) for one in value)


def _is_anything(value: Any) -> bool:
    return True


_LISTS = {
    TOP: ("class", "score"),
    OBJECTS: ("class", "score", "box"),
    SEGMENTS: ("class", "share"),
    POSES: ("score", "keypoints"),
}
_FITS = {
    TOP: _is_pair,
    OBJECTS: _is_object,
    SEGMENTS: _is_segment,
    POSES: _is_pose,
    VECTOR: is_score,
    OUTPUTS: _is_anything,
}
