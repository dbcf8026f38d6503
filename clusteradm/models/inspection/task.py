"""Task that a model seems made for, by its operations and the shapes of its inputs and outputs; and why."""

from __future__ import annotations

from dataclasses import dataclass

from clusteradm.models.tflite.graph import Graph
from clusteradm.models.tflite.model import Model
from clusteradm.node.spec.wire.manifest import CLASSIFIER, DETECTOR, EMBEDDING, POSE, SEGMENTATION

SEGMENT, UNKNOWN = "segment", "unknown"

_KEYPOINTS = 17  # of a person, in COCO's annotation
_DETECTION = "TFLite_Detection_PostProcess"
# What only gives numbers another form.
_FORM = ("RESHAPE", "SQUEEZE", "QUANTIZE", "DEQUANTIZE", "CAST", "EXPAND_DIMS")
_POOLS = ("MEAN", "AVERAGE_POOL_2D", "MAX_POOL_2D", "SUM", "REDUCE_MAX")
_LEAST_MASK = 8  # pixels of a side
_MOST_PART = 32  # how much smaller than the picture a mask is, at most


@dataclass(frozen=True)
class Task:
    """`kind`: one of TASKS of node/spec/wire/manifest.py, SEGMENT or UNKNOWN; `why`: what says so."""

    kind: str
    why: str


def task(model: Model, graphs: tuple[Graph, ...]) -> Task:
    """The task; UNKNOWN where nothing speaks for one."""
    for look in (_detector, _pose, _segmentation, _row):
        found = look(model, graphs[0])
        if found:
            return found
    outputs = " and ".join(str(tensor) for tensor in model.outputs[:4])
    return Task(UNKNOWN, f"nothing says what its output is ({outputs})")


def _detector(model: Model, graph: Graph) -> Task | None:
    if _DETECTION in model.operators:
        return Task(DETECTOR, f"it ends with {_DETECTION}: boxes, classes, scores and their number")
    if {"NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5"} & model.operators:
        return Task(DETECTOR, "it ends with a non-maximum suppression of boxes")
    shapes = [tensor.shape for tensor in model.outputs]
    # Of the detection API's signature, in any order: boxes, classes, scores, their number.
    if len(shapes) == 4 and sum(shape[-1:] == (4,) and len(shape) == 3 for shape in shapes) == 1:
        boxes = next(shape for shape in shapes if len(shape) == 3 and shape[-1] == 4)
        if sum(shape == boxes[:2] for shape in shapes) == 2:
            return Task(DETECTOR, "four outputs with the shapes of boxes, classes, scores and their number")
    if len(shapes) == 1 and len(shapes[0]) == 3 and _is_picture(model):
        most, least = max(shapes[0][1:]), min(shapes[0][1:])
        # YOLO: one row for each place of grids of strides 8, 16 and 32; box, maybe an objectness, and class scores.
        height, width = model.inputs[0].shape[1:3]
        cells = sum((height // step) * (width // step) for step in (8, 16, 32))
        if cells and most in (cells, 3 * cells) and least > 4:
            return Task(
                DETECTOR, f"{most} rows of {least} numbers: one for each place of grids, as of YOLO, not decoded"
            )
    return None


def _pose(model: Model, graph: Graph) -> Task | None:
    if "PosenetDecoderOp" in model.operators:
        return Task(POSE, "it ends with PosenetDecoderOp: poses and their key points")
    shapes = [tensor.shape for tensor in model.outputs]
    if len(shapes) == 1 and shapes[0][-2:] == (_KEYPOINTS, 3):
        return Task(POSE, f"its output is {_KEYPOINTS} key points of y, x and score")
    maps = [shape for shape in shapes if len(shape) == 4]
    if any(shape[3] == _KEYPOINTS for shape in maps) and any(shape[3] == 2 * _KEYPOINTS for shape in maps):
        return Task(POSE, f"outputs with {_KEYPOINTS} heat maps and {2 * _KEYPOINTS} offsets")
    return None


def _segmentation(model: Model, graph: Graph) -> Task | None:
    if len(model.inputs) != 1 or not _is_picture(model):
        return None
    height, width = model.inputs[0].shape[1:3]
    for tensor in model.outputs:
        shape = tensor.shape
        rows, columns, layers = (*shape, 0)[1:4] if len(shape) in (3, 4) else (0, 0, 0)
        if min(rows, columns) < _LEAST_MASK or rows * _MOST_PART < height or rows * width != columns * height:
            continue
        where = f"for each of {columns}x{rows} places of the picture"
        whole = tensor.dtype in ("int32", "int64")
        if (len(shape) == 3 or layers == 1) and (whole or len(model.outputs) == 1):
            return Task(SEGMENTATION, f"its output has {'a class' if whole else 'a value'} {where}")
        if layers > 1 and len(model.outputs) == 1:
            return Task(SEGMENTATION, f"its output has {layers} scores {where}")
    return None


def _row(model: Model, graph: Graph) -> Task | None:
    """A classifier or an embedding: one row of numbers."""
    classes = model.classes
    if classes is None:
        return None
    if model.metadata and model.metadata.labels:
        return Task(CLASSIFIER, f"one row of {classes} numbers, and labels of it inside")
    if model.scores:
        return Task(CLASSIFIER, f"one row of {classes} scores from 0 to 1")
    last = _maker(graph, graph.outputs[0])
    if last == "L2_NORMALIZATION":
        return Task(EMBEDDING, f"one row of {classes} numbers, normalised to the length 1")
    if last in _POOLS:
        return Task(EMBEDDING, f"one row of {classes} numbers, which a pooling writes: features, without a class each")
    if last == "FULLY_CONNECTED" or (last == "CONV_2D" and _is_picture(model)):
        return Task(CLASSIFIER, f"one row of {classes} numbers, which {last} writes (logits: no softmax)")
    return None


def _maker(graph: Graph, number: int) -> str:
    """The kind of operation that computes a tensor, but for changes of its form."""
    made = {output: one for one in graph.operations for output in one.outputs}
    for _ in range(8):
        one = made.get(number)
        if one is None or one.name not in _FORM or not one.data:
            return one.name if one else ""
        number = one.data[0]
    return ""


def _is_picture(model: Model) -> bool:
    """Whether its first input has the shape of a picture, channels last."""
    shape = model.inputs[0].shape
    return len(shape) == 4 and shape[3] in (1, 3, 4) and min(shape[1:3]) >= _LEAST_MASK
