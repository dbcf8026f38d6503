"""Real models on real photographs: results are the numbers that pycoral's adapters give for the same tensors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import heads
import numpy as np
import pytest
from graphs import picture_model

from clusteradm.node.edgetpu.engine import Engine
from clusteradm.node.edgetpu.tasks import Reader
from clusteradm.node.edgetpu.tensors import Preprocessor
from clusteradm.node.spec import answers
from clusteradm.node.spec.wire.manifest import CLASSIFIER, DETECTOR, POSE, SEGMENTATION

PHOTOGRAPHS = ("cat_720p.jpg", "owl.jpg", "parrot.jpg", "kite_and_cold.jpg")
CLASSIFIERS = (
    "mobilenet_v1_0.25_128_quant",
    "mobilenet_v2_1.0_224_quant",
    "tf2_mobilenet_v2_1.0_224_ptq",
)


@pytest.fixture
def data() -> Path:
    folder = os.environ.get("CLUSTERADM_TEST_DATA")
    if not folder:
        pytest.skip("CLUSTERADM_TEST_DATA names no folder with real models")
    return Path(folder)


def fed(engine: Engine, reader: Reader, photograph: Path) -> tuple[list[Any], tuple[int, int]]:
    """The outputs for a photograph, and its size."""
    found = Preprocessor(engine.input, None, reader.fit).feed(photograph.read_bytes(), None)
    assert found.size is not None
    return engine.invoke(found.tensor), found.size


def real(values: Any, details: dict[str, Any]) -> Any:
    """Dequantised as pycoral's classify.get_scores does it."""
    scale, zero = details["quantization"]
    return scale * (values.reshape(-1).astype(np.int64) - zero)


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_classes_are_pycorals(model: str, data: Path) -> None:
    engine = Engine((data / f"{model}.tflite").read_bytes(), None)
    reader = Reader(engine.outputs, engine.input, CLASSIFIER, top=7, threshold=0.01)
    for name in PHOTOGRAPHS:
        outputs, _ = fed(engine, reader, data / name)
        scores = real(outputs[0], engine.outputs[0])
        # get_classes(): the top_k of those with the threshold, in falling order. Which of equal ones it takes is left
        # to chance there: the first here.
        wanted = [(n, scores[n]) for n in sorted(range(len(scores)), key=lambda n: (-scores[n], n))[:7]]
        found = reader.short(outputs)["top"]
        assert found == [[n, round(float(score), 6)] for n, score in wanted if score >= 0.01]
        assert found[0][0] == int(np.argmax(outputs[0]))


def test_a_map_of_classes_is_pycorals_at_the_pictures_size(data: Path) -> None:
    engine = Engine((data / "deeplabv3_mnv2_dm05_pascal_quant.tflite").read_bytes(), None)
    labels = (data / "pascal_voc_segmentation_labels.txt").read_text().splitlines()
    reader = Reader(engine.outputs, engine.input, SEGMENTATION, labels=labels)
    outputs, size = fed(engine, reader, data / "cat_720p.jpg")
    assert size == (1280, 720)
    raw = outputs[0][0]  # segment.get_output(): the classes of 513x513 places
    result = reader.result(outputs, size)
    whole = np.array(result["map"]["values"])
    assert whole.shape == (720, 1280)
    # The place that covers the middle of each pixel.
    rows = ((2 * np.arange(720) + 1) * 513) // (2 * 720)
    columns = ((2 * np.arange(1280) + 1) * 513) // (2 * 1280)
    assert np.array_equal(whole, raw[rows][:, columns])
    found = {one["class"]: one for one in result["segments"]}
    assert found[8]["label"] == "cat" and found[8]["share"] > 0.1
    for number, one in found.items():
        assert one["share"] == pytest.approx(float(np.mean(whole == number)), abs=1e-6)
    assert sum(one["share"] for one in result["segments"]) == pytest.approx(1, abs=1e-5)


def test_key_points_are_those_of_pycorals_example(data: Path) -> None:
    engine = Engine((data / "movenet_single_pose_lightning_ptq.tflite").read_bytes(), None)
    reader = Reader(engine.outputs, engine.input, POSE)
    outputs, size = fed(engine, reader, data / "kite_and_cold.jpg")
    points = outputs[0].reshape(17, 3).astype(np.float64)  # y, x, score
    (pose,) = reader.result(outputs, size)["poses"]
    for (y, x, score), found, name in zip(points, pose["keypoints"], answers.POINTS, strict=True):
        assert found == {
            "name": name,
            "x": round(x * size[0], 2),
            "y": round(y * size[1], 2),
            "score": round(score, 6),
        }


def objects(engine: Engine, outputs: list[Any], scale: tuple[float, float], threshold: float) -> list[list[Any]]:
    """By the rule of pycoral's detect.get_objects(): boxes times the input's size, divided by the scale of the picture
    in it, cut off to whole pixels."""
    boxes, classes, scores, count = (output[0] for output in outputs)
    high, wide = engine.input["shape"][1:3]
    found = []
    for number in range(int(count)):
        if scores[number] >= threshold:
            ymin, xmin, ymax, xmax = (float(one) for one in boxes[number])
            sx, sy = int(wide) / scale[0], int(high) / scale[1]
            box = [int(xmin * sx), int(ymin * sy), int(xmax * sx), int(ymax * sy)]
            found.append([int(classes[number]), round(float(scores[number]), 6), *box])
    return found


@pytest.mark.parametrize("threshold", [0.0, 0.75])
def test_objects_of_the_detections_operator_are_pycorals(threshold: float) -> None:
    engine = Engine(heads.ssd(), None)
    reader = Reader(engine.outputs, engine.input, DETECTOR, threshold=threshold)
    outputs = engine.invoke(np.zeros(engine.input["shape"], np.uint8))
    size = (640, 480)
    expected = objects(engine, outputs, (heads.SSD_SIDE / 640, heads.SSD_SIDE / 480), threshold)
    assert reader.short(outputs, size)["objects"] == expected
    # Of two anchors that overlap one is left: its y, x, height and width are 0.5, 0.5, 0.5, 0.25.
    assert expected == [[0, 0.9, 240, 120, 400, 360], [1, 0.7, 400, 60, 560, 180]][: 1 if threshold else 2]


def test_a_quantised_yolo_of_a_photograph(data: Path) -> None:
    rows = np.zeros((heads.YOLO_PLACES, 4 + 2))
    rows[7] = [0.5, 0.5, 0.5, 0.25, 0.8, 0.1]
    rows[8] = [0.52, 0.5, 0.5, 0.25, 0.7, 0.1]
    rows[9] = [0.25, 0.5, 0.1, 0.1, 0.1, 0.6]
    engine = Engine(heads.yolo(rows), None)
    reader = Reader(engine.outputs, engine.input, DETECTOR)
    outputs, size = fed(engine, reader, data / "cat_720p.jpg")
    # 1280x720 is 64x36 of 64x64, with 14 rows of grey above: a row of the input is 20 of the picture.
    assert reader.short(outputs, size) == {
        "size": [1280, 720],
        "objects": [[0, 0.8, 320, 200, 960, 520], [1, 0.6, 256, 296, 384, 424]],
    }


def test_what_a_picture_is_fed_as_is_what_its_answer_is_read_from(data: Path) -> None:
    """The model hands out its input: a letterbox of the photograph."""
    engine = Engine(picture_model(shape=(1, 64, 64, 3)), None)
    pixels = Preprocessor(engine.input, None, "letterbox").tensor((data / "cat_720p.jpg").read_bytes(), None)
    shown = engine.invoke(pixels)[0].reshape(64, 64, 3)
    assert (shown[:14] == 114).all() and (shown[50:] == 114).all()
    assert shown[14:50].std() > 20
