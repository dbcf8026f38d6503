"""The inspector: what it finds in a model, and that nothing else gets past it."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated as schema

from clusteradm.models.labels import embedded
from clusteradm.models.tflite.inspect import NotAModel, inspect


def test_the_lab_model_is_what_its_own_description_says(digits: bytes) -> None:
    said = json.loads((Path(__file__).resolve().parents[3] / "clusteradm/lab/digits/digits.json").read_text())
    model = inspect(digits, "digits.tflite")
    for found, expected in ((model.inputs[0], said["input"]), (model.outputs[0], said["output"])):
        assert list(found.shape) == expected["shape"]
        assert (found.dtype, found.zero_point) == (expected["dtype"], expected["zero_point"])
        assert found.scale == pytest.approx(expected["scale"])
        assert not found.dynamic
    assert model.classes == 10
    assert model.tpu_operations == 0
    assert model.cpu_operations["CONV_2D"] == 5
    assert model.min_runtime is None


def test_a_compiled_model(compiled: Callable[..., bytes]) -> None:
    model = inspect(compiled(cpu=2), "m.tflite")
    assert (model.tpu_operations, dict(model.cpu_operations)) == (1, {"SOFTMAX": 2})
    package = model.packages[0]
    assert (package.min_runtime, package.compiler) == (12, "compiler 16")
    assert (package.cached_bytes, package.streamed_bytes) == (300, 40)
    assert model.min_runtime == 12
    assert (model.inputs[0].shape, model.inputs[0].scale, model.inputs[0].zero_point) == ((1, 4, 4, 1), 0.25, 7)
    assert model.description == "made by a test"


def test_a_package_of_another_compiler_says_nothing_of_a_runtime(compiled: Callable[..., bytes]) -> None:
    model = inspect(compiled(b"ANOTHER\0 something"), "m.tflite")
    assert model.tpu_operations == 1
    assert model.min_runtime is None


def test_a_package_of_the_lab_says_so_and_what_its_chip_would_keep(compiled: Callable[..., bytes]) -> None:
    (package,) = inspect(compiled(b"LABTPU1\0" + bytes(8 + (9 << 20))), "m.tflite").packages
    assert "SIMULATED" in package.compiler and (package.cached_bytes, package.streamed_bytes) == (8 << 20, 1 << 20)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b"PK\3\4 and more", "a zip archive"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"hello, world", "not b'TFL3'"),
        (b"\x1c\0\0\0TFL", "TFL"),
    ],
)
def test_what_is_no_model_is_refused_by_one_sentence(data: bytes, said: str) -> None:
    with pytest.raises(NotAModel) as refused:
        inspect(data, "there/m.tflite")
    text = str(refused.value)
    assert text.startswith("there/m.tflite: not a TensorFlow Lite model")
    assert said in text


def test_a_model_cut_anywhere_is_refused(digits: bytes, compiled: Callable[..., bytes]) -> None:
    for data in (digits, compiled()):
        # The very last bytes may be padding that nothing refers to.
        for size in [*range(8, 400), *range(400, len(data) - 16, 997)]:
            with pytest.raises(NotAModel):
                inspect(data[:size], "cut.tflite")


def test_damage_is_refused_or_read_but_nothing_else_happens(digits: bytes, compiled: Callable[..., bytes]) -> None:
    chance = random.Random(2018)  # noqa: S311 - the same damage every time
    for data in (digits[:6000] + digits[-6000:], compiled(), compiled(cpu=3)):
        for _ in range(400):
            bad = bytearray(data)
            for _ in range(chance.randint(1, 12)):
                bad[chance.randrange(8, len(bad))] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
            try:
                inspect(bytes(bad), "bad.tflite")
            except NotAModel as refused:
                assert "damaged" in str(refused)
    for size in range(8, 2000, 7):
        with pytest.raises(NotAModel):
            inspect(chance.randbytes(4) + b"TFL3" + chance.randbytes(size), "noise.tflite")


def test_labels_inside_the_model(compiled: Callable[..., bytes]) -> None:
    archive = io.BytesIO(compiled())
    with zipfile.ZipFile(archive, "a") as members:
        members.writestr("labels.txt", "zero\none\n")
    data = archive.getvalue()
    assert embedded(data) == "zero\none\n"
    assert inspect(data, "m.tflite").tpu_operations == 1
    assert embedded(compiled()) is None
    assert embedded(data[:-3]) is None


# file: (input shape, TPU operations, CPU operations, minimum runtime, cached bytes, streamed bytes, labels)
REAL = {
    "mobilenet_v2_1.0_224_quant.tflite": ((1, 224, 224, 3), 0, 66, None, 0, 0, 1001),
    "mobilenet_v1_0.25_128_quant_edgetpu.tflite": ((1, 128, 128, 3), 1, 0, 12, 566912, 0, 1001),
    "mobilenet_v1_0.25_128_quant_cocompiled_with_3quant_edgetpu.tflite": (
        (1, 128, 128, 3),
        1,
        0,
        12,
        315840,
        251072,
        1001,
    ),
    "movenet_single_pose_lightning_ptq_edgetpu.tflite": ((1, 192, 192, 3), 1, 59, 12, 2862656, 2368, None),
    "split_concat_edgetpu.tflite": ((1, 8, 8, 3), 1, 0, 13, 192, 0, None),
    "keras_lstm_mnist_ptq_edgetpu.tflite": ((1, 28, 28), 1, 0, 12, 43968, 576, None),
}


@pytest.mark.parametrize("name", REAL)
def test_real_models(test_data: Path, name: str) -> None:
    data = (test_data / name).read_bytes()
    shape, on_tpu, on_cpu, runtime, cached, streamed, labels = REAL[name]
    model = inspect(data, name)
    assert model.inputs[0].shape == shape
    assert (model.tpu_operations, sum(model.cpu_operations.values())) == (on_tpu, on_cpu)
    assert model.min_runtime == runtime
    assert sum(package.cached_bytes for package in model.packages) == cached
    assert sum(package.streamed_bytes for package in model.packages) == streamed
    text = embedded(data)
    assert (len(text.splitlines()) if text else None) == labels


def test_every_real_model_is_read_and_cut_is_refused(test_data: Path) -> None:
    files = sorted(test_data.glob("*.tflite"))
    assert files
    for path in files:
        data = path.read_bytes()
        model = inspect(data, path.name)
        # A second reader, generated from the schema: it must have found the same.
        graph = schema.Model.GetRootAs(data, 0).Subgraphs(0)
        assert model.tpu_operations + sum(model.cpu_operations.values()) == graph.OperatorsLength()
        shapes = [graph.Tensors(graph.Inputs(number)).ShapeAsNumpy() for number in range(graph.InputsLength())]
        assert [list(tensor.shape) for tensor in model.inputs] == [list(shape) for shape in shapes]
        with pytest.raises(NotAModel):
            inspect(data[: len(data) // 2], path.name)
