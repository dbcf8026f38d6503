"""Report on a model: task, cost, Edge TPU, obstacles; on real models where they are, and on made ones."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from child import measured
from made_models import Made, variable

from clusteradm.models import zoo
from clusteradm.models.inspection import cost, edge_tpu
from clusteradm.models.inspection.report import Report, report, reports
from clusteradm.models.tflite import graph
from clusteradm.models.tflite.inspect import NotAModel

HOSTILE = Path(__file__).resolve().parents[2] / "fixtures" / "models"


def report_of(made: Made, inputs: list[int], outputs: list[int]) -> Report:
    return report(made.content(inputs, outputs), "m.tflite")


def texts(found: Report) -> list[str]:
    return [f"{one.what}: {one.why}" for one in found.obstacles]


# file: (task, parameters, multiply-accumulates, operations that would be mapped, of)
REAL = {
    # Published: 3.5 million parameters, 300 million MACs (Sandler et al. 2018, table 4).
    "mobilenet_v2_1.0_224_quant.tflite": ("classifier", 3_489_097, 300_775_552, 66, 66),
    "tf2_mobilenet_v2_1.0_224_ptq.tflite": ("classifier", 3_489_097, 300_775_552, 68, 68),
    # Published: 0.47 million parameters, 14 million MACs (tensorflow/models, mobilenet_v1.md).
    "mobilenet_v1_0.25_128_quant.tflite": ("classifier", 467_593, 13_570_304, 31, 31),
    # 28 steps of (28 + 20) x 80 weights, then 560 x 10: by hand.
    "keras_lstm_mnist_ptq.tflite": ("classifier", 9_530, 28 * 48 * 80 + 5600, 6, 6),
    # The compiled twin has 59 on the CPU: 98 of 157 on the Edge TPU.
    "movenet_single_pose_lightning_ptq.tflite": ("pose", 2_325_110, 270_549_504, 98, 157),
    "deeplabv3_mnv2_dm05_pascal_quant.tflite": ("segmentation", 688_357, 867_496_704, 71, 72),
    "split_concat.tflite": ("unknown", 0, 0, 3, 3),
}


@pytest.mark.parametrize("name", REAL)
def test_real_models(test_data: Path, name: str) -> None:
    found = report((test_data / name).read_bytes(), name)
    assert found.forecast is not None
    values = (found.task.kind, found.parameters, found.macs, found.forecast.mapped, found.forecast.total)
    assert values == REAL[name]
    assert found.obstacles[-1].mend == f"edgetpu_compiler -s -o . {name}"


def test_compiled_models(test_data: Path) -> None:
    names = [
        "mobilenet_v1_0.25_128_quant_edgetpu.tflite",
        "ssd_mobilenet_v1_coco_quant_postprocess_segment_0_of_2_edgetpu.tflite",
        "ssd_mobilenet_v1_coco_quant_postprocess_segment_1_of_2_edgetpu.tflite",
        "deeplabv3_mnv2_dm05_pascal_quant_edgetpu.tflite",
    ]
    alone, first, second, deeplab = (one.to_json() for one in reports([test_data / name for name in names]))
    assert [one["task"]["kind"] for one in (alone, first, second)] == ["classifier", "segment", "detector"]
    assert alone["compiled"] == {
        "operations": 1,
        "cpu_operations": {},
        "compilers": ["cl/"],
        "min_runtime": 12,
        "cached_bytes": 566912,
        "streamed_bytes": 0,
        "tokens": ["6d146c3f97d6648c"],
        "shares_with": [],
    }
    assert alone["labels"] == {
        "count": 1001,
        "first": ("background", "tench, Tinca tinca", "goldfish, Carassius auratus"),
        "problem": None,
    }
    assert alone["normalisation"] == {"mean": [127.5], "std": [127.5]}
    assert alone["obstacles"] == [] and alone["forecast"] is None
    assert first["compiled"]["shares_with"] == [str(test_data / names[2])]
    assert first["compiled"]["tokens"] == second["compiled"]["tokens"] == ["aa514b815318ea97"]
    assert [one["operations"] for one in deeplab["obstacles"]] == [
        {"ARG_MAX": 1},
        {"RESIZE_BILINEAR": 3, "CONV_2D": 2, "QUANTIZE": 1, "CONCATENATION": 1},
    ]


def test_the_compiled_twin_agrees_with_the_forecast(test_data: Path) -> None:
    """What stays on the CPU in a compiled model is what was said of the one that it was made of."""
    before = report((test_data / "movenet_single_pose_lightning_ptq.tflite").read_bytes(), "m.tflite")
    after = report((test_data / "movenet_single_pose_lightning_ptq_edgetpu.tflite").read_bytes(), "m.tflite")
    assert before.forecast is not None
    assert before.forecast.total - before.forecast.mapped == sum(after.model.cpu_operations.values())


def test_the_digits(digits: bytes) -> None:
    found = report(digits, "digits.tflite")
    assert (found.task.kind, found.parameters, found.macs) == ("classifier", 70_122, 5_532_544)
    assert texts(found) == ["it is not compiled: an Edge TPU runs compiled models"]
    json.dumps(found.to_json())


def test_the_command_that_compiles_is_for_a_shell_and_writes_beside_the_model(digits: bytes) -> None:
    (obstacle,) = report(digits, "my models/it's.tflite").obstacles
    words = ["edgetpu_compiler", "-s", "-o", "my models", "my models/it's.tflite"]
    assert shlex.split(obstacle.mend) == words


def test_multiply_accumulates_by_hand() -> None:
    made = Made()
    picture, end = made.tensor((1, 8, 8, 3)), made.tensor((1, 8, 8, 16))
    made.add("CONV_2D", [picture, made.weights(16, 3, 3, 3), made.weights(16, dtype="int32")], [end])
    deep = made.tensor((1, 4, 4, 16))
    made.add("DEPTHWISE_CONV_2D", [end, made.weights(1, 3, 3, 16), made.weights(16, dtype="int32")], [deep])
    up = made.tensor((1, 8, 8, 5))
    made.add("TRANSPOSE_CONV", [made.weights(4, dtype="int32"), made.weights(5, 2, 2, 16), deep], [up])
    flat = made.tensor((1, 7))
    made.add("FULLY_CONNECTED", [up, made.weights(7, 320), -1], [flat])
    found = report_of(made, [picture], [flat])
    assert found.macs == 8 * 8 * 16 * 27 + 4 * 4 * 16 * 9 + 4 * 4 * 16 * 5 * 4 + 7 * 320
    # The output's shape, four int32, is no parameter; the biases are.
    assert found.parameters == 16 * 27 + 16 + 9 * 16 + 16 + 5 * 4 * 16 + 7 * 320


def test_shared_weights_count_once() -> None:
    made = Made()
    first, second = made.tensor((1, 4)), made.tensor((1, 4))
    weights = made.weights(4, 4)
    made.add("FULLY_CONNECTED", [first, weights, -1], [second])
    made.add("FULLY_CONNECTED", [second, weights, -1], [first])
    assert report_of(made, [first], [second]).parameters == 16


@pytest.mark.parametrize(
    ("shapes", "last", "task", "why"),
    [
        (((1, 4, 4, 3), (1, 20)), "SOFTMAX", "classifier", "scores"),
        (((1, 64), (1, 20)), "FULLY_CONNECTED", "classifier", "logits"),
        (((1, 8, 8, 3), (1, 64)), "MEAN", "embedding", "pooling"),
        (((1, 64), (1, 64)), "L2_NORMALIZATION", "embedding", "length 1"),
        (((1, 64, 64, 3), (1, 64, 64, 21)), "CONV_2D", "segmentation", "21 scores"),
        (((1, 64, 64, 3), (1, 32, 32, 1)), "LOGISTIC", "segmentation", "32x32"),
        (((1, 320, 320, 3), (1, 2100, 84)), "CONCATENATION", "detector", "2100 rows"),
        (((1, 320, 320, 3), (1, 84, 2100)), "CONCATENATION", "detector", "2100 rows"),
        (((1, 257, 257, 3), (1, 17, 3)), "RESHAPE", "pose", "17 key points"),
        (((1, 16), (1, 1)), "FULLY_CONNECTED", "unknown", "nothing says"),
    ],
)
def test_tasks(shapes: tuple[tuple[int, ...], ...], last: str, task: str, why: str) -> None:
    made = Made()
    entry, end = made.tensor(shapes[0]), made.tensor(shapes[1])
    made.add(last, [entry], [end])
    found = report_of(made, [entry], [end])
    assert (found.task.kind, why in found.task.why) == (task, True)


def test_a_detector_by_its_outputs_or_its_operation() -> None:
    made = Made()
    entry = made.tensor((1, 300, 300, 3))
    ends = [made.tensor(shape, "float32") for shape in ((1, 10, 4), (1, 10), (1, 10), (1,))]
    made.add("TFLite_Detection_PostProcess", [entry], ends)
    assert report_of(made, [entry], ends).task.kind == "detector"
    made.model.operatorCodes[0].customCode = "mine"
    found = report_of(made, [entry], [ends[2], ends[0], ends[3], ends[1]])
    assert (found.task.kind, "four outputs" in found.task.why) == ("detector", True)


def test_obstacles_in_the_order_in_which_to_mend_them() -> None:
    made = Made()
    entry = made.tensor((1, 8, 8, 3), "float32", signature=(-1, 8, 8, 3))
    a, b, c = (made.tensor((1, 8, 8, 3), "float32") for _ in range(3))
    made.add("FlexErf", [entry], [a])
    made.add("ADD", [a, a], [b])
    made.add("LEAKY_RELU", [b], [c])
    found = report_of(made, [entry], [c])
    assert texts(found) == [
        "FlexErf (1): operations of TensorFlow itself (Flex), which neither an Edge TPU nor the nodes' runtimes have",
        "the input 't0' has no fixed shape: the compiler places every tensor in the chip's memory beforehand",
        "floating-point numbers: ADD (1): it is not quantised: an Edge TPU computes with 8-bit numbers",
        "LEAKY_RELU (1): an Edge TPU has no such operation",
        "it is not compiled: an Edge TPU runs compiled models",
    ]
    assert found.obstacles[2].mend == "clusteradm model convert m.tflite --calibration INPUTS --output INT8.tflite"
    assert found.obstacles[3].mend == "use RELU, RELU6 or PRELU"
    assert found.forecast == edge_tpu.Forecast(0, 3, "FlexErf", "it works on float32")


def test_what_only_a_setting_keeps_off() -> None:
    made = Made()
    tensors = [made.tensor((1, 8, 8, 3)) for _ in range(6)]
    pool = schema.Pool2DOptionsT()
    pool.fusedActivationFunction = schema.ActivationFunctionType.RELU
    made.add("MAX_POOL_2D", tensors[:1], tensors[1:2], schema.BuiltinOptions.Pool2DOptions, pool)
    ends = [made.tensor((4,), "int32", np.array(row, "<i4")) for row in ([0] * 4, [1, 8, 8, 3], [1, 2, 2, 1])]
    options = schema.BuiltinOptions.StridedSliceOptions
    made.add("STRIDED_SLICE", [tensors[1], *ends], [tensors[2]], options, schema.StridedSliceOptionsT())
    made.add("FULLY_CONNECTED", [tensors[2], tensors[3], -1], [tensors[4]])
    made.add("SOFTMAX", [tensors[4]], [tensors[5]])
    found = report_of(made, [tensors[0], tensors[3]], [tensors[5]])
    assert sorted(one.why for one in found.obstacles[:-1]) == [
        "a pooling with an activation in it is not supported",
        "a slice with steps other than 1 is not supported",
        "a softmax is supported over one dimension of at most 16,000 elements",
        "weights that the model computes are not supported: they have to be constant",
    ]
    assert found.forecast is not None and found.forecast.mapped == 0


def test_control_flow_and_sixteen_bits() -> None:
    assert texts(report(variable(), "m.tflite"))[0].startswith("control flow: CALL_ONCE (1): ")
    made = Made()
    entry, end = made.tensor((1, 4), "int16"), made.tensor((1, 4), "int16")
    made.add("ADD", [entry, entry], [end])
    assert texts(report_of(made, [entry], [end]))[0] == "int16 numbers: ADD (1): it is quantised to 16 bits"


def test_a_compiled_model_and_its_token(compiled: Callable[..., bytes]) -> None:
    found = report(compiled(cpu=1), "m.tflite")
    assert (found.compiled, found.tokens, found.forecast) == (True, (), None)
    assert texts(found)[0].startswith("SOFTMAX (1): the compiler left them on the CPU")


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("mobilenet_v2_1.0_224_quant_edgetpu.tflite", (1, 224, 224, 3), (2.6, 2.6, "benchmarks")),
        ("tf2_mobilenet_v2_1.0_224_ptq.tflite", (1, 224, 224, 3), (2.6, 2.6, "benchmarks")),
        ("my-mobilenet-v2-1.0.tflite", (1, 224, 224, 3), (2.6, 2.6, "benchmarks")),
        ("mobilenet_v2_1.0_224_inat_insect_quant.tflite", (1, 224, 224, 3), (2.7, None, "models")),
        ("efficientnet-edgetpu-M_quant_edgetpu.tflite", (1, 240, 240, 3), (8.7, 10.6, "benchmarks")),
        ("inception_v4_299_quant.tflite", (1, 299, 299, 3), (85, 102, "benchmarks")),
        ("deeplabv3_mnv2_pascal_quant.tflite", (1, 513, 513, 3), (52, 241, "benchmarks")),
        ("keras_post_training_unet_mv2_128_quant.tflite", (1, 128, 128, 3), (3.3, 5.7, "benchmarks")),
        ("ssd_mobilenet_v1_coco_quant_postprocess.tflite", (1, 300, 300, 3), (10.0, 14.8, "reference")),
        ("tf2_ssd_mobilenet_v2_coco17_ptq.tflite", (1, 300, 300, 3), (7.6, None, "models")),
        ("ssd_mobilenet_v2_coco_quant.tflite", (1, 300, 300, 3), (7.3, None, "object-detection")),
        ("mobilenet_v2_1.0_224_quant.tflite", (1, 192, 192, 3), None),
        ("mobilenet_v1_1.0_224_segment_0_of_2_edgetpu.tflite", (1, 224, 224, 3), None),
        ("mine.tflite", (1, 224, 224, 3), None),
    ],
)
def test_published_times(name: str, shape: tuple[int, ...], expected: tuple[float, float | None, str] | None) -> None:
    told = zoo.latency(name, shape)
    assert (told and (told.usb, told.dev_board, told.source.rpartition("/")[2])) == expected


def test_the_catalogue_and_the_inspection_say_the_same() -> None:
    for model in zoo.models():
        width, height = map(int, model.input.split("x"))
        told = zoo.latency(f"{model.name}{zoo.COMPILED}.tflite", (1, height, width, 3))
        assert (told and (told.usb, told.source)) == (model.source and (model.usb, model.source))
    assert sum(model.usb is None for model in zoo.models()) == 2  # of which nothing is published


@pytest.mark.parametrize("name", ["bomb_inputs.tflite", "bomb_pack.tflite"])
def test_a_small_file_that_unfolds_is_refused(name: str) -> None:
    spent = measured(report, (HOSTILE / name).read_bytes(), name)
    assert spent.error.startswith(f"NotAModel: {name}: begins like a TensorFlow Lite model but is damaged")
    assert (spent.seconds < 2, spent.mebibytes < 32) == (True, True)


def test_shapes_without_bounds_cost_nothing() -> None:
    made = Made()
    entry, end = made.tensor((1, *[2**31 - 1] * 60), "int8"), made.tensor((1, *[2**31 - 1] * 60))
    made.add("CONV_2D", [entry, made.tensor((2**31 - 1,) * 60, "int8", np.ones(4, "int8"))], [end])
    spent = measured(report, made.content([entry], [end]), "m.tflite")
    assert (spent.error, spent.seconds < 1) == ("", True)
    assert spent.result.macs == 1 << 62 and spent.result.parameters == 16


def test_a_part_of_a_model_is_refused(digits: bytes) -> None:
    for length in range(0, len(digits), 997):
        with pytest.raises(NotAModel):
            report(digits[:length], "m.tflite")


def test_the_graph_is_that_of_the_generated_reader(digits: bytes) -> None:
    found, other = graph.read(digits)[0], schema.ModelT.InitFromPackedBuf(digits).subgraphs[0]
    assert [one.outputs for one in found.operations] == [tuple(one.outputs) for one in other.operators]
    assert [one.shape for one in found.tensors] == [tuple(one.shape) for one in other.tensors]
    assert cost.operation_macs(found, found.operations[0]) == 0  # QUANTIZE


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_scalars_where_an_operation_takes_more(count: int) -> None:
    names = [name for name in vars(schema.BuiltinOperator) if name.isupper() and name not in ("CUSTOM", "DELEGATE")]
    for name in names:
        made = Made()
        inputs = [made.tensor((), "int8"), *(made.weights() for _ in range(count - 1))]
        made.add(name, inputs, [made.tensor((), "int8")])
        assert report_of(made, inputs[:1], [count]).macs in (0, 1)
