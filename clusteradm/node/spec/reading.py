"""How a model's outputs are read: which of them is what, for a task, by their shapes and their order.

The same for the admin side, which refuses a task that a model cannot have, and for what runs the model. Without numpy.
"""

from typing import Any, NamedTuple, Optional, Sequence, Tuple

from clusteradm.node.spec import feeding
from clusteradm.node.spec.wire.manifest import (
    CLASSIFIER,
    DETECTOR,
    EMBEDDING,
    LETTERBOX,
    POSE,
    RAW,
    SEGMENTATION,
    STRETCH,
    Feed,
)

KEYPOINTS = 17  # of a person, in COCO's annotation
_PERSON = 3 * KEYPOINTS + 5  # MoveNet's row of a person among several: y, x, score of each point, a box, its score
# Strides of the grids of YOLO's heads: of most models, and of those for large pictures (P6).
_STRIDES = ((8, 16, 32), (8, 16, 32, 64))
_DETECTION = "TFLite_Detection_PostProcess"
# Of a vector: each is in the result itself. A feature map of more is no embedding, and the task RAW gives it whole.
MOST_NUMBERS = 100000
_ANCHORS = 3  # of a place of a grid, in YOLO v5

# Heads: what an output, or several together, hold.
SCORES = "a row of scores"
BOXES = "boxes, classes, scores and their number"
YOLO5 = "rows of a box, its objectness and class scores"
YOLO8 = "rows of a box and class scores"
CLASSES = "a class for each place"
CLASS_SCORES = "class scores for each place"
MASK = "a score for each place"
PERSON = "key points of a person"
PERSONS = "key points of several persons"
POSES = "poses, decoded by PosenetDecoderOp"
HEATMAPS = "heat maps and offsets"
VECTOR = "a row of numbers"
TENSORS = "tensors"


class NoReading(ValueError):
    """The outputs are not those of a model for the task; the text says why."""


class Output(NamedTuple):
    """An output of a model."""

    name: str
    shape: Tuple[int, ...]
    dtype: str


class Reading(NamedTuple):
    """`places`: the numbers of the head's outputs, in the order of its name; `fit`: how the model's makers bring a
    picture to the size of its input, unless they are told otherwise; `sides`: height and width of that input, None
    where it takes no pictures; `turned`: whether the rows of a head are the columns of its output."""

    task: str
    head: str
    places: Tuple[int, ...]
    fit: str = STRETCH
    sides: Optional[Tuple[int, int]] = None
    turned: bool = False


def find(task: Optional[str], shape: Sequence[int], outputs: Sequence[Output], feed: Optional[Feed] = None) -> Reading:
    """The reading for a task; for None a classifier's if the outputs are those of one, else whole tensors.

    `shape`: of the input. Raises NoReading.
    """
    sides = _sides(shape, feed)
    if task is None:
        task = CLASSIFIER if _row(outputs) and _one_row(outputs[0].shape) else RAW
    looks = {
        CLASSIFIER: _classifier,
        DETECTOR: _detector,
        SEGMENTATION: _segmentation,
        POSE: _pose,
        EMBEDDING: _embedding,
        RAW: _raw,
    }
    found = looks[task](outputs, sides) if task in looks else None
    if found is None:
        shapes = " and ".join("%s %s" % (one.dtype, "x".join(map(str, one.shape))) for one in outputs[:4])
        raise NoReading("its outputs (%s) are none of a model for the task %s that is known" % (shapes, task))
    if sides is None and task in (DETECTOR, SEGMENTATION, POSE):
        raise NoReading("its input (%s) is no picture, in which places could be" % "x".join(map(str, shape)))
    return found._replace(task=task, sides=sides)


def _sides(shape: Sequence[int], feed: Optional[Feed]) -> Optional[Tuple[int, int]]:
    try:
        picture = feeding.picture_of(shape, feed or Feed())
    except feeding.NoRule:
        return None
    return picture.height, picture.width


def _row(outputs: Sequence[Output]) -> bool:
    """Whether the only output is numbers."""
    return len(outputs) == 1 and (outputs[0].dtype in feeding.INTEGERS or outputs[0].dtype in feeding.FLOATS)


def _one_row(shape: Sequence[int]) -> bool:
    return bool(shape) and shape[-1] > 1 and feeding.size(shape) == shape[-1]


def _classifier(outputs: Sequence[Output], sides: Any) -> Optional[Reading]:
    if _row(outputs) and _one_row(outputs[0].shape):
        return Reading("", SCORES, (0,))
    return None


def _embedding(outputs: Sequence[Output], sides: Any) -> Optional[Reading]:
    if _row(outputs) and max(outputs[0].shape, default=0) > 1 and 0 < feeding.size(outputs[0].shape) <= MOST_NUMBERS:
        return Reading("", VECTOR, (0,))
    return None


def _raw(outputs: Sequence[Output], sides: Any) -> Reading:
    return Reading("", TENSORS, tuple(range(len(outputs))))


def _detector(outputs: Sequence[Output], sides: Optional[Tuple[int, int]]) -> Optional[Reading]:
    if len(outputs) == 4:
        places = _postprocessed(outputs)
        return None if places is None else Reading("", BOXES, places)
    if len(outputs) != 1 or sides is None or len(outputs[0].shape) != 3 or outputs[0].shape[0] != 1:
        return None
    _, one, other = outputs[0].shape
    for strides in _STRIDES:
        cells = sum((sides[0] // step) * (sides[1] // step) for step in strides)
        for rows, numbers, turned in ((one, other, False), (other, one, True)):
            if cells and rows == cells * _ANCHORS and numbers > 5:
                return Reading("", YOLO5, (0,), LETTERBOX, turned=turned)
            if cells and rows == cells and numbers > 4:
                return Reading("", YOLO8, (0,), LETTERBOX, turned=turned)
    return None


def _postprocessed(outputs: Sequence[Output]) -> Optional[Tuple[int, ...]]:
    """Places of boxes, classes, scores and their number among what TFLite_Detection_PostProcess writes.

    The operator writes them in this order. A converter that names outputs by a signature may sort them: of the names
    output_0 to output_3 (StatefulPartitionedCall:0 to :3) the first is the number, then scores, classes and boxes.
    """
    if [one.name for one in outputs] == [_DETECTION + end for end in ("", ":1", ":2", ":3")]:
        return 0, 1, 2, 3  # a file may leave their shapes to the operator
    boxes = [n for n, one in enumerate(outputs) if len(one.shape) == 3 and one.shape[0] == 1 and one.shape[2] == 4]
    counts = [n for n, one in enumerate(outputs) if one.shape in ((), (1,))]
    if len(boxes) != 1 or len(counts) != 1:
        return None
    most = outputs[boxes[0]].shape[1]
    rows = [n for n, one in enumerate(outputs) if one.shape == (1, most)]
    if len(rows) != 2:
        return None
    ends = [one.name.rpartition(":") for one in outputs]
    named = {end: n for n, (start, _, end) in enumerate(ends) if start and start != _DETECTION}
    if set(named) == set("0123") and (named["0"], named["3"]) == (counts[0], boxes[0]):
        return named["3"], named["2"], named["1"], named["0"]
    order = (boxes[0], counts[0])
    if order == (0, 3):
        return 0, 1, 2, 3
    if order == (1, 2):  # scores, boxes, number, classes
        return 1, 3, 0, 2
    if order == (3, 0):  # number, scores, classes, boxes
        return 3, 2, 1, 0
    return None


def _segmentation(outputs: Sequence[Output], sides: Any) -> Optional[Reading]:
    for number, one in enumerate(outputs):
        whole = one.dtype in feeding.INTEGERS and one.dtype not in ("uint8", "int8")
        if len(one.shape) == 3 or (len(one.shape) == 4 and one.shape[3] == 1):
            if one.shape[0] == 1 and min(one.shape[1:3]) > 1 and (whole or len(outputs) == 1):
                return Reading("", CLASSES if whole else MASK, (number,))
        elif len(one.shape) == 4 and len(outputs) == 1 and one.shape[0] == 1 and min(one.shape[1:3]) > 1:
            return Reading("", CLASS_SCORES, (number,))
    return None


def _pose(outputs: Sequence[Output], sides: Any) -> Optional[Reading]:
    shapes = [one.shape for one in outputs]
    if len(shapes) == 1 and shapes[0][-2:] == (KEYPOINTS, 3) and feeding.size(shapes[0]) == KEYPOINTS * 3:
        return Reading("", PERSON, (0,))
    if len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][0] == 1 and shapes[0][2] == _PERSON:
        return Reading("", PERSONS, (0,))
    points = [n for n, shape in enumerate(shapes) if len(shape) == 4 and shape[2:] == (KEYPOINTS, 2)]
    if len(shapes) == 4 and len(points) == 1:
        most = shapes[points[0]][1]
        scores = [n for n, shape in enumerate(shapes) if shape == (1, most, KEYPOINTS)]
        whole = [n for n, shape in enumerate(shapes) if shape == (1, most)]
        counts = [n for n, shape in enumerate(shapes) if shape in ((), (1,))]
        if len(scores) == len(whole) == len(counts) == 1:
            return Reading("", POSES, (points[0], scores[0], whole[0], counts[0]))
    maps = [n for n, shape in enumerate(shapes) if len(shape) == 4 and shape[0] == 1 and shape[3] == KEYPOINTS]
    moved = [n for n, shape in enumerate(shapes) if len(shape) == 4 and shape[0] == 1 and shape[3] == 2 * KEYPOINTS]
    if len(maps) == len(moved) == 1 and shapes[maps[0]][:3] == shapes[moved[0]][:3] and min(shapes[maps[0]][1:3]) > 1:
        return Reading("", HEATMAPS, (maps[0], moved[0]))
    return None
