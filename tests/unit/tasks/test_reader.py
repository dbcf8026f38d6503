"""What a model's outputs say, by task: whole numbers that were worked out by hand, or by pycoral's own rules."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clusteradm.node.edgetpu.tasks import NoReading, Reader
from clusteradm.node.edgetpu.tasks.numbers import best
from clusteradm.node.edgetpu.tasks.tensors import INLINE_NUMBERS
from clusteradm.node.job.outputs import Outputs
from clusteradm.node.spec import answers
from clusteradm.node.spec.wire.manifest import (
    CLASSIFIER,
    DETECTOR,
    EMBEDDING,
    PAD,
    POSE,
    RAW,
    SEGMENTATION,
    STRETCH,
    TASKS,
    Feed,
)


def about(
    shape: tuple[int, ...], dtype: Any = np.float32, quantization: tuple[float, int] = (0.0, 0), name: str = "t"
) -> dict[str, Any]:
    return {"shape": np.array(shape, np.int32), "dtype": dtype, "quantization": quantization, "name": name}


PICTURE = about((1, 300, 300, 3), np.uint8)
ROW = about((1, 5), np.uint8, (0.005, 0))


def test_a_classifiers_answer_is_its_first_classes_in_order() -> None:
    scores = [np.array([[10, 200, 30, 200, 0]], np.uint8)]
    assert Reader([ROW], PICTURE, top=3).short(scores) == {"top": [[1, 1.0], [3, 1.0], [2, 0.15]]}
    assert len(Reader([ROW], PICTURE, CLASSIFIER, top=50).short(scores)["top"]) == 5
    low = Reader([about((1, 2), np.int8, (1.0, 0))], PICTURE, top=1).short([np.array([[-128, 127]], np.int8)])
    assert low["top"] == [[1, 127.0]]
    labelled = Reader([ROW], PICTURE, top=2, labels=["a", "b", "c"]).result(scores)
    assert labelled == {"top": [{"class": 1, "label": "b", "score": 1.0}, {"class": 3, "score": 1.0}]}


def test_the_largest_numbers_are_rounded_to_themselves() -> None:
    row = [1.7e308, -1e303, 0.1234567, 2.0**60, float("inf")]
    found = Reader([about((1, 5), np.float64)], PICTURE, RAW).short([np.array([row])])
    assert found["outputs"][0]["values"] == [[*row[:2], 0.123457, 2.0**60, None]]
    reader = Reader([about((1, 4), np.float64)], PICTURE, EMBEDDING)
    assert (reader.numbers, Reader([ROW], PICTURE, top=3).numbers) == (4, 6)
    found = reader.short([np.array([row[:4]])])
    assert found["embedding"] == [*row[:2], 0.123457, 2.0**60]
    json.dumps(found, allow_nan=False)


def test_answers_below_the_threshold_are_left_out() -> None:
    scores = [np.array([[10, 200, 30, 100, 0]], np.uint8)]
    for least, classes in ((0.0, [1, 3, 2, 0]), (0.5, [1, 3]), (0.51, [1]), (1.01, [])):
        found = Reader([ROW], PICTURE, threshold=least, top=4).short(scores)
        assert [number for number, _ in found["top"]] == classes


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("quantization", [(1 / 255, 0), (0.1, -128), (0.0, 0), (1e308, 7), (float("nan"), 0)])
@pytest.mark.parametrize("least", [None, 0.003922, -5.0])
def test_scores_of_8_bits_are_those_of_wider_ones(
    dtype: Any, quantization: tuple[float, int], least: float | None
) -> None:
    values = np.arange(256, dtype=np.uint8).view(dtype)[None]
    with np.errstate(over="ignore"):
        wide = Reader([about((1, 256), np.int16, quantization)], PICTURE, threshold=least, top=256)
        narrow = Reader([about((1, 256), dtype, quantization)], PICTURE, threshold=least, top=256)
        wanted = wide.short([values.astype(np.int16)])
        assert narrow.short([values]) == wanted
        # Of another type than the interpreter told.
        assert narrow.short([values.astype(np.int16)]) == wanted


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.float16, np.float32, np.uint64])
def test_the_best_are_those_of_a_whole_sort(dtype: Any) -> None:
    random = np.random.default_rng(5)
    for count in (1, 2, 5, 100, 1001):
        for high in (2, 5, 120):
            values = random.integers(0, high, count).astype(dtype)
            for most in (0, 1, 5, count, count + 3):
                wanted = np.argsort(-values.astype(np.float64), kind="stable")[:most]
                assert best(values, most).tolist() == wanted.tolist()


def test_numbers_that_are_none_come_last() -> None:
    assert best(np.array([np.nan, -np.inf, 2, np.nan, np.inf], np.float32), 5).tolist() == [4, 2, 1, 0, 3]


def test_the_best_of_many_cost_no_sort_of_all() -> None:
    values = np.random.default_rng(1).random(1_000_000).astype(np.float32)

    def least(work: Any) -> float:
        times = []
        for _ in range(5):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
        return min(times)

    # 20 times here.
    assert least(lambda: best(values, 5)) * 3 < least(lambda: np.argsort(-values.astype(np.float64), kind="stable"))


def test_other_outputs_stand_in_the_result_or_beside_it(tmp_path: Path) -> None:
    small, large = np.array([[[1.5, np.nan]]], np.float32), np.arange(INLINE_NUMBERS + 1, dtype=np.int8)[None]
    shapes = [about(small.shape, np.float32, name="box"), about(large.shape, np.int8, (0.5, 1), name="mask")]
    result = Reader(shapes, PICTURE).result([small, large], None, Outputs(str(tmp_path / "outputs-x")).keep(12))
    assert result["outputs"][0] == {"name": "box", "shape": [1, 1, 2], "values": [[[1.5, None]]]}
    assert result["outputs"][1]["file"] == "outputs-x/000012-1.npy"
    assert (result["outputs"][1]["scale"], result["outputs"][1]["zero_point"]) == (0.5, 1)
    assert np.array_equal(np.load(tmp_path / result["outputs"][1]["file"]), large)
    json.dumps(result, allow_nan=False)
    whole = Reader(shapes, PICTURE).result([small, large])  # nowhere to keep it: all of it in the result
    assert whole["outputs"][1]["values"][0][:3] == [-0.5, 0.0, 0.5]


def test_a_classifiers_whole_outputs() -> None:
    found = Reader([about((1, 3), np.uint8, (0.5, 2))], PICTURE, RAW).result([np.array([[2, 4, 0]], np.uint8)])
    assert found["outputs"][0]["values"] == [[0.0, 1.0, -1.0]]


def test_a_feature_map_of_more_numbers_than_a_result_holds_is_no_embedding() -> None:
    assert Reader([about((1, 7, 7, 2000))], PICTURE, EMBEDDING).task == EMBEDDING
    with pytest.raises(NoReading, match="1x7x7x2048"):
        Reader([about((1, 7, 7, 2048))], PICTURE, EMBEDDING)


def test_an_embedding_is_its_vector() -> None:
    reader = Reader([about((1, 1, 1, 3), np.int8, (0.5, 1))], PICTURE, EMBEDDING)
    assert reader.result([np.array([[[[1, 3, -1]]]], np.int8)]) == {"embedding": [0.0, 1.0, -1.0]}


# Boxes ymin, xmin, ymax, xmax; their classes, scores and number, of which the third is beyond the number.
BOXES = np.array([[[0.125, 0.25, 0.5, 0.625], [-0.009, 0.0, 1.0225, 1.0], [0, 0, 1, 1]]], np.float32)
CLASSES, SCORES = np.array([[16, 0, 7]], np.float32), np.array([[0.9, 0.5, 0.4]], np.float32)
COUNT = np.array([2], np.float32)
DETECTION = "TFLite_Detection_PostProcess"
ORDERS = {
    "the operator's": (
        [(BOXES, DETECTION), (CLASSES, DETECTION + ":1"), (SCORES, DETECTION + ":2"), (COUNT, DETECTION + ":3")]
    ),
    "EfficientDet's": ([(SCORES, "Identity_1"), (BOXES, "Identity_3"), (COUNT, "Identity"), (CLASSES, "Identity_2")]),
    "a signature's": ([(CLASSES, "Stateful:2"), (COUNT, "Stateful:0"), (BOXES, "Stateful:3"), (SCORES, "Stateful:1")]),
}


@pytest.mark.parametrize("order", ORDERS)
def test_the_detections_operator_in_every_order_of_its_outputs(order: str) -> None:
    values = [value for value, _ in ORDERS[order]]
    given = [about(value.shape, name=name) for value, name in ORDERS[order]]
    reader = Reader(given, PICTURE, DETECTOR, labels=["person"])
    assert reader.result(values, (1000, 500)) == {
        "size": [1000, 500],
        "objects": [
            {"class": 16, "score": 0.9, "box": [250, 62, 625, 250]},
            # Beyond the picture's sides, and cut off to whole pixels, as pycoral gives it.
            {"class": 0, "label": "person", "score": 0.5, "box": [0, -4, 1000, 511]},
        ],
    }
    assert len(Reader(given, PICTURE, DETECTOR, threshold=0.6).result(values, (10, 10))["objects"]) == 1
    # Of an array the pixels are the input's.
    assert reader.short(values)["objects"][0] == [16, 0.9, 75, 37, 187, 150]


def test_what_a_detector_writes_without_sense_is_left_out() -> None:
    boxes = np.array([[[np.nan, 0, 1, 1], [0, 0, 1, 1e30], [0, 0, 1, 1]]], np.float32)
    given = [about(value.shape) for value in (BOXES, CLASSES, SCORES, COUNT)]
    reader = Reader(given, PICTURE, DETECTOR)
    for number, expected in ((99.0, 1), (-1.0, 0), (np.nan, 0), (3.0, 1)):
        found = reader.result([boxes, CLASSES, SCORES, np.array([number], np.float32)], (100, 100))
        assert len(found["objects"]) == expected
        json.dumps(found, allow_nan=False)


def test_a_picture_at_the_upper_left_is_counted_from_there() -> None:
    given = [about(value.shape) for value in (BOXES, CLASSES, SCORES, COUNT)]
    reader = Reader(given, PICTURE, DETECTOR, feed=Feed(fit=PAD))
    # 600x300 fills the upper half of 300x300: half a pixel of the input is one of the picture.
    assert reader.short(BOXES_AND_ALL, (600, 300))["objects"][0] == [16, 0.9, 150, 75, 375, 300]


BOXES_AND_ALL = [BOXES, CLASSES, SCORES, COUNT]


def grid(rows: int, numbers: int) -> Any:
    return np.zeros((rows, numbers), np.float32)


SIDE = 96  # 12 * 12 + 6 * 6 + 3 * 3 places
PLACES = 189
SMALL = about((1, SIDE, SIDE, 3), np.uint8)


@pytest.mark.parametrize("pixels", [1.0, float(SIDE)])
@pytest.mark.parametrize("turned", [False, True])
def test_yolo_v8_chooses_among_boxes_of_a_class(turned: bool, pixels: float) -> None:
    rows = grid(PLACES, 4 + 3)
    middle = np.array([0.5, 0.5, 0.25, 0.5], np.float32)
    rows[188] = [*middle, 0.1, 0.8, 0.2]
    rows[3] = [*middle, 0.1, 0.9, 0.2]  # the same object
    rows[4] = [*middle, 0.7, 0.1, 0.2]  # of another class
    rows[5] = [0.9, 0.9, 0.25, 0.5, 0, 0.3, 0]  # beyond the lower right corner
    rows[6] = [*middle, 0.2, 0.2, 0.2]
    rows[:, :4] *= pixels
    # The places of the last grid are far from the first pixel, whatever is found there.
    rows[187, :4] = np.array([0.9, 0.9, 0.1, 0.1]) * pixels
    value = (rows.T if turned else rows)[None]
    reader = Reader([about(value.shape)], SMALL, DETECTOR)
    assert reader.fit == "letterbox"
    found = reader.short([value], (960, 960))["objects"]
    assert found == [
        [1, 0.9, 360, 240, 600, 720],
        [0, 0.7, 360, 240, 600, 720],
        [1, 0.3, 744, 624, 960, 960],
    ]
    assert Reader([about(value.shape)], SMALL, DETECTOR, threshold=0.75).short([value], (960, 960))["objects"] == [
        [1, 0.9, 360, 240, 600, 720]
    ]


def test_yolo_of_a_wide_picture_counts_from_the_grey_above() -> None:
    rows = grid(PLACES, 5)
    rows[7] = [0.5, 0.5, 1.0, 0.5, 0.9]
    rows[8, :4] = 0.9
    found = Reader([about((1, 5, PLACES))], SMALL, DETECTOR).short([rows.T[None]], (960, 480))
    assert found == {"size": [960, 480], "objects": [[0, 0.9, 0, 0, 960, 480]]}


def test_yolo_v5_multiplies_by_the_objectness() -> None:
    rows = grid(3 * PLACES, 5 + 2)
    rows[0] = [0.5, 0.5, 0.2, 0.2, 0.9, 0.5, 0.8]
    rows[1] = [0.5, 0.5, 0.2, 0.2, 0.2, 1.0, 1.0]  # nothing there
    rows[2] = [0.55, 0.5, 0.2, 0.2, 0.8, 0.0, 0.8]  # overlaps by 0.6 of both
    found = Reader([about((1, 3 * PLACES, 7))], SMALL, DETECTOR).short([rows[None]], (100, 100))
    assert found["objects"] == [[1, 0.72, 40, 40, 60, 60]]


def test_yolo_quantised_is_yolo_in_real_numbers() -> None:
    random = np.random.default_rng(2)
    scale, zero = 1 / 200, -100
    quantised = random.integers(-100, 60, (1, 12, PLACES)).astype(np.int8)
    real = (quantised.astype(np.float64) - zero) * scale
    first = Reader([about(quantised.shape, np.int8, (scale, zero))], SMALL, DETECTOR).short([quantised], (640, 480))
    other = Reader([about(quantised.shape, np.float64)], SMALL, DETECTOR).short([real], (640, 480))
    assert first == other
    assert 5 < len(first["objects"]) < PLACES


def test_a_class_map_has_the_pictures_size(tmp_path: Path) -> None:
    small = np.array([[[0, 15], [15, 2]]], np.int64)
    reader = Reader([about(small.shape, np.int64)], PICTURE, SEGMENTATION, labels=["background", "a", "b"])
    found = reader.result([small], (5, 4))
    # The middle column of five is covered by the right one of two: its middle is at the boundary.
    rows = [[0, 0, 15, 15, 15]] * 2 + [[15, 15, 2, 2, 2]] * 2
    assert found["map"] == {"name": "t", "shape": [4, 5], "values": rows}
    assert found["segments"] == [
        {"class": 15, "share": 0.5},
        {"class": 2, "label": "b", "share": 0.3},
        {"class": 0, "label": "background", "share": 0.2},
    ]
    kept = reader.result([small], (5, 4), Outputs(str(tmp_path / "outputs-x")).keep(3))
    assert kept["map"] == {"name": "t", "shape": [4, 5], "file": "outputs-x/000003-map.png"}
    assert np.asarray(Image.open(tmp_path / "outputs-x" / "000003-map.png")).tolist() == rows


def test_a_map_of_scores_is_that_of_the_best_class() -> None:
    scores = np.zeros((1, 2, 2, 3), np.uint8)
    scores[0, 0, 1] = [1, 9, 9]
    scores[0, 1, 1] = [1, 2, 3]
    found = Reader([about(scores.shape, np.uint8, (0.1, 0))], PICTURE, SEGMENTATION).short([scores], (2, 2))
    assert found["map"]["values"] == [[0, 1], [0, 2]]
    mask = Reader([about((1, 2, 2, 1), np.uint8, (0.1, 0))], PICTURE, SEGMENTATION)
    assert mask.short([np.array([4, 5, 6, 0], np.uint8).reshape(1, 2, 2, 1)])["segments"] == [[0, 0.5], [1, 0.5]]


def test_of_a_picture_with_a_border_the_map_is_of_the_picture() -> None:
    small = np.array([[[1, 1], [7, 7]]], np.int32)  # the lower half is black
    found = Reader([about(small.shape, np.int32)], PICTURE, SEGMENTATION, feed=Feed(fit=PAD)).short([small], (8, 4))
    assert found["segments"] == [[1, 1.0]]


def test_a_map_that_is_none_is_an_error() -> None:
    reader = Reader([about((1, 2, 2), np.int32)], PICTURE, SEGMENTATION)
    with pytest.raises(ValueError, match="has the class -1"):
        reader.short([np.array([[[0, -1], [0, 0]]], np.int32)])
    with pytest.raises(ValueError, match="would have 20000x20000 pixels, more than 50000000"):
        reader.short([np.zeros((1, 2, 2), np.int32)], (20000, 20000))
    assert reader.short([np.array([[[0, 300], [0, 0]]], np.int32)], (2, 2))["segments"] == [[0, 0.75], [300, 0.25]]


def test_key_points_of_a_person() -> None:
    points = np.tile(np.array([0.25, 0.5, 0.5], np.float32), (1, 1, 17, 1))
    points[0, 0, 16] = [1.0, 0.0, 0.0]
    found = Reader([about(points.shape)], PICTURE, POSE).result([points], (640, 480))
    assert found["size"] == [640, 480]
    (pose,) = found["poses"]
    assert pose["score"] == round(8 / 17, 6)
    assert pose["keypoints"][0] == {"name": "nose", "x": 320.0, "y": 120.0, "score": 0.5}
    assert pose["keypoints"][16] == {"name": "right_ankle", "x": 0.0, "y": 480.0, "score": 0.0}
    assert Reader([about(points.shape)], PICTURE, POSE, threshold=0.6).result([points], (640, 480))["poses"] == []


def test_key_points_of_several_persons() -> None:
    rows = np.zeros((1, 6, 56), np.float32)
    rows[0, 2, :3], rows[0, 2, 55] = [0.5, 0.25, 0.75], 0.9
    found = Reader([about(rows.shape)], PICTURE, POSE, threshold=0.3).short([rows], (100, 200))["poses"]
    assert found[0][0] == 0.9 and found[0][1][0] == [25.0, 100.0, 0.75]
    assert len(found) == 1


def test_poses_of_posenets_decoder() -> None:
    points = np.zeros((1, 3, 17, 2), np.float32)
    points[0, 0, 0] = [150, 30]  # y, x in pixels of the input
    shapes = [points, np.full((1, 3, 17), 0.5, np.float32), np.array([[0.8, 0.1, 0]], np.float32), COUNT]
    found = Reader([about(one.shape) for one in shapes], PICTURE, POSE).short(shapes, (600, 600))["poses"]
    assert [score for score, _ in found] == [0.8, 0.1]
    assert found[0][1][0] == [60.0, 300.0, 0.5]


def test_poses_of_heat_maps() -> None:
    heat, moved = np.full((1, 3, 3, 17), -20.0, np.float32), np.zeros((1, 3, 3, 34), np.float32)
    heat[0, 1, 2, 0] = 0.0
    moved[0, 1, 2, 0], moved[0, 1, 2, 17] = 0.5, -1.0
    shapes = [moved, heat]
    takes = about((1, 33, 33, 3), np.uint8)
    found = Reader([about(one.shape) for one in shapes], takes, POSE).short(shapes, (33, 33))["poses"]
    # The middle row's heat stands for pixel 16, the last column's for pixel 32.
    assert found[0][1][0] == [31.0, 16.5, 0.5]


@pytest.mark.parametrize("task", TASKS)
def test_outputs_of_no_such_model_are_refused(task: str) -> None:
    with pytest.raises(NoReading, match=rf"float32 1x2x3 and .* none of a model for the task {task}"):
        Reader([about((1, 2, 3)), about((7,))], PICTURE, task)


def test_a_detector_that_takes_no_pictures_is_refused() -> None:
    with pytest.raises(NoReading, match=r"its input \(1x19x19x512\) is no picture"):
        Reader([about(value.shape) for value in BOXES_AND_ALL], about((1, 19, 19, 512)), DETECTOR)


def test_what_is_read_fits_the_form_that_is_checked() -> None:
    person = np.tile(np.array([0.25, np.nan, 0.5], np.float32), (1, 1, 17, 1))
    for reader, values in (
        (Reader([ROW], PICTURE), [np.zeros((1, 5), np.uint8)]),
        (Reader([about(value.shape) for value in BOXES_AND_ALL], PICTURE, DETECTOR), BOXES_AND_ALL),
        (Reader([about((1, 2, 2), np.int32)], PICTURE, SEGMENTATION), [np.zeros((1, 2, 2), np.int32)]),
        (Reader([about(person.shape)], PICTURE, POSE), [person]),
        (Reader([about((1, 5))], PICTURE, EMBEDDING), [np.array([[1, 2, np.nan, 4, np.inf]], np.float32)]),
        (Reader([about((7,))], PICTURE, RAW), [np.zeros(7, np.float32)]),
    ):
        sent = json.loads(json.dumps(reader.short(values, (640, 480)), allow_nan=False))
        assert answers.kind(sent) in answers.KINDS
        assert reader.fit == STRETCH


def test_a_picture_of_png_bytes_is_what_is_kept() -> None:
    kept: dict[str, bytes] = {}

    def keep(name: str, data: bytes) -> str:
        kept[name] = data
        return name

    Reader([about((1, 2, 2), np.int32)], PICTURE, SEGMENTATION).short([np.ones((1, 2, 2), np.int32)], (3, 3), keep)
    assert Image.open(io.BytesIO(kept["map.png"])).size == (3, 3)
