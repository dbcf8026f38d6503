"""Models with the heads of detectors, whose answers are known: an input that they take, and do not look at."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers
from graphs import End, Step, build

DETECTION = "TFLite_Detection_PostProcess"
SSD_SIDE, YOLO_SIDE = 32, 64
YOLO_PLACES = 8 * 8 + 4 * 4 + 2 * 2


def ssd(places: int = 4) -> bytes:
    """A picture of 32x32 in, the detections of TFLite_Detection_PostProcess out: of three anchors, two classes."""
    options = {
        "max_detections": places,
        "max_classes_per_detection": 1,
        "num_classes": 2,
        "nms_score_threshold": 0.2,
        "nms_iou_threshold": 0.5,
        "y_scale": 10.0,
        "x_scale": 10.0,
        "h_scale": 5.0,
        "w_scale": 5.0,
    }
    anchors = np.array([[0.5, 0.5, 0.5, 0.25], [0.5, 0.5, 0.5, 0.25], [0.25, 0.75, 0.25, 0.25]], "<f4")
    # Of background and two classes.
    scores = np.array([[[0, 0.9, 0.1], [0, 0.8, 0.1], [0, 0.2, 0.7]]], "<f4")
    tensors = [
        End((1, SSD_SIDE, SSD_SIDE, 3), "uint8", 1 / 255, 0, "picture"),
        End((1, 3, 4), name="boxes", data=np.zeros((1, 3, 4), "<f4")),
        End((1, 3, 3), name="scores", data=scores),
        End((3, 4), name="anchors", data=anchors),
        End((1, places, 4), name=DETECTION),
        End((1, places), name=DETECTION + ":1"),
        End((1, places), name=DETECTION + ":2"),
        End((1,), name=DETECTION + ":3"),
    ]
    step = Step(DETECTION, (1, 2, 3), (4, 5, 6, 7), custom=bytes(flexbuffers.Dumps(options)))
    return build(tensors, [step], outputs=(4, 5, 6, 7))


def yolo(rows: Any, turned: bool = True) -> bytes:
    """A picture of 64x64 in, these rows out, quantised to 8 bits as a compiled YOLO's are; turned: as of v8."""
    values = np.asarray(rows, "<f4")
    values = (values.T if turned else values)[None]
    tensors = [
        End((1, YOLO_SIDE, YOLO_SIDE, 3), "int8", 1 / 255, -128, "picture"),
        End(values.shape, name="rows", data=np.ascontiguousarray(values)),
        End(values.shape, "int8", 1 / 200, -100, "out"),
    ]
    return build(tensors, [Step("QUANTIZE", (1,), (2,))])


def colours() -> bytes:
    """A picture of 32x32 in, its colours out as scores of three classes for each place."""
    shape, options = (1, 32, 32, 3), schema.ReshapeOptionsT()
    options.newShape = list(shape)
    step = Step("RESHAPE", (0,), (1,), options=("ReshapeOptions", options))
    return build([End(shape, "uint8", 1 / 255, 0, "in"), End(shape, "uint8", 1 / 255, 0, "out")], [step])


def together(count: int) -> bytes:
    """So many pictures of 32x32 in at once, the pixels of each out in a row."""
    row, options = (count, 32 * 32 * 3), schema.ReshapeOptionsT()
    options.newShape = list(row)
    step = Step("RESHAPE", (0,), (1,), options=("ReshapeOptions", options))
    ends = [End((count, 32, 32, 3), "uint8", 1 / 255, 0, "in"), End(row, "uint8", 1 / 255, 0, "out")]
    return build(ends, [step])
