"""Conversion of networks: what a source is, changes to float models, and real conversions by ai-edge-quantizer."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from made_models import Made, variable

from clusteradm import extras
from clusteradm.errors import UsageError
from clusteradm.models.child import Child, ChildFailed
from clusteradm.models.convert.conversion import conversion, difference, require
from clusteradm.models.convert.source import FLOAT, KERAS, SAVED_MODEL, look
from clusteradm.models.labels import archive
from clusteradm.models.tflite import rewriting
from clusteradm.models.tflite.inspect import inspect

DIGITS = Path(__file__).resolve().parents[3] / "clusteradm" / "lab" / "digits"
FLOATS = DIGITS / "digits_float.tflite"


def run(content: bytes, tensor: Any) -> list[Any]:
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], tensor)
    interpreter.invoke()
    return [interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()]


def with_open_batch() -> bytes:
    """A float network of an open batch that computes the shape which it reshapes to, as Keras' Flatten does."""
    made = Made()
    entry = made.tensor((1, 4, 4, 2), "float32", signature=(-1, 4, 4, 2))
    shape = made.tensor((4,), "int32")
    made.add("SHAPE", [entry], [shape], schema.BuiltinOptions.ShapeOptions, _shape_options())
    zero, one = (made.tensor((1,), "int32", np.array([value], "<i4")) for value in (0, 1))
    batch = made.tensor((), "int32")
    options = schema.StridedSliceOptionsT()
    options.shrinkAxisMask = 1
    made.add("STRIDED_SLICE", [shape, zero, one, one], [batch], schema.BuiltinOptions.StridedSliceOptions, options)
    count = made.tensor((), "int32", np.array(32, "<i4"))
    wanted = made.tensor((2,), "int32")
    pack = schema.PackOptionsT()
    pack.valuesCount = 2
    made.add("PACK", [batch, count], [wanted], schema.BuiltinOptions.PackOptions, pack)
    flat = made.tensor((1, 32), "float32", signature=(-1, 32))
    made.add("RESHAPE", [entry, wanted], [flat], schema.BuiltinOptions.ReshapeOptions, schema.ReshapeOptionsT())
    weights = made.tensor((3, 32), "float32", np.linspace(-1, 1, 96, dtype="<f4").reshape(3, 32))
    end = made.tensor((1, 3), "float32", signature=(-1, 3))
    dense = schema.FullyConnectedOptionsT()
    made.add("FULLY_CONNECTED", [flat, weights, -1], [end], schema.BuiltinOptions.FullyConnectedOptions, dense)
    return made.content([entry], [end])


def _shape_options() -> Any:
    options = schema.ShapeOptionsT()
    options.outType = schema.TensorType.INT32
    return options


def test_what_a_source_is(tmp_path: Path) -> None:
    assert look(FLOATS).kind == FLOAT
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert look(tmp_path / "a.h5").kind == KERAS
    with zipfile.ZipFile(tmp_path / "b.keras", "w") as members:
        members.writestr("config.json", "{}")
    assert look(tmp_path / "b.keras").kind == KERAS
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "saved_model.pb").touch()
    assert look(tmp_path / "s").kind == SAVED_MODEL


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(UsageError) as raised:
        look(path)
    return str(raised.value)


def test_what_is_no_source(tmp_path: Path, digits: bytes) -> None:
    path = tmp_path / "m"
    assert "it is quantised already" in refused(path, digits)
    assert "control flow" in refused(path, variable())
    assert "it is empty" in refused(path, b"")
    assert "damaged or truncated" in refused(path, FLOATS.read_bytes()[:9000])
    assert "onnx2tf" in refused(tmp_path / "m.onnx", b"\x08\7\x12\7pytorch")
    assert "litert-torch" in refused(tmp_path / "m.pt", b"PK\3\4 no zip")
    assert "the folder of the SavedModel" in refused(tmp_path / "saved_model.pb", b"\x08\1")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=r"a folder without saved_model\.pb"):
        look(tmp_path / "folder")
    with pytest.raises(UsageError, match="No such file"):
        look(tmp_path / "none")


def test_float_models_that_cannot_be_converted(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    made = Made()
    first, second = made.tensor((1, 4), "float32"), made.tensor((1, 4), "float32")
    end = made.tensor((1, 4), "float32")
    made.add("ADD", [first, second], [end])
    assert "it has 2 inputs" in refused(path, made.content([first, second], [end]))
    made.add("FlexErf", [end], [first])
    assert "that the nodes' runtimes lack: FlexErf" in refused(path, made.content([second], [end]))
    made = Made()
    entry = made.tensor((1, 1, 1, 3), "float32", signature=(-1, -1, -1, 3))
    end = made.tensor((1, 1, 1, 3), "float32")
    made.add("RELU", [entry], [end])
    assert "its input has no fixed size (?x?x?x3): which one?" in refused(path, made.content([entry], [end]))
    made = Made()
    entry, weights, end = made.tensor((1, 4), "float32"), made.weights(4, 4), made.tensor((1, 4), "float32")
    made.add("FULLY_CONNECTED", [entry, weights, -1], [end])
    assert "dynamic range quantisation" in refused(path, made.content([entry], [end]))
    made = Made()
    entry, end = made.tensor((1, 4), "int32"), made.tensor((1, 4), "float32")
    made.add("CAST", [entry], [end])
    assert "its input is of the type int32" in refused(path, made.content([entry], [end]))


def test_an_open_batch_becomes_one_of_1() -> None:
    before = with_open_batch()
    assert inspect(before, "m").inputs[0].dynamic
    model = rewriting.unpacked(before)
    assert rewriting.fix_batch(model)
    rewriting.drop_tensors(model)
    after = rewriting.packed(model)
    found = inspect(after, "m")
    assert (found.inputs[0].dynamic, dict(found.cpu_operations)) == (False, {"FULLY_CONNECTED": 1, "RESHAPE": 1})
    tensor = np.random.default_rng(0).random((1, 4, 4, 2), np.float32)
    assert np.array_equal(run(before, tensor)[0], run(after, tensor)[0])
    assert not rewriting.fix_batch(rewriting.unpacked(after))


def test_weights_of_float16_become_those_of_float32() -> None:
    made = Made()
    entry, end = made.tensor((1, 4), "float32"), made.tensor((1, 2), "float32")
    half = made.tensor((2, 4), "int16", np.linspace(-1, 1, 8).astype("<f2"))
    made.graph.tensors[half].type = schema.TensorType.FLOAT16
    wide = made.tensor((2, 4), "float32")
    made.add("DEQUANTIZE", [half], [wide])
    options = schema.BuiltinOptions.FullyConnectedOptions
    made.add("FULLY_CONNECTED", [entry, wide, -1], [end], options, schema.FullyConnectedOptionsT())
    before = made.content([entry], [end])
    model = rewriting.unpacked(before)
    assert rewriting.widen_weights(model)
    after = rewriting.packed(model)
    assert dict(inspect(after, "m").cpu_operations) == {"FULLY_CONNECTED": 1}
    tensor = np.array([[1, -2, 3, 0.5]], np.float32)
    assert np.array_equal(run(before, tensor)[0], run(after, tensor)[0])


@pytest.fixture(scope="module")
def tensors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calibration tensors of the digits' shape."""
    path = tmp_path_factory.mktemp("tensors") / "tensors.npy"
    np.save(path, np.random.default_rng(1).random((20, 1, 28, 28, 1), np.float32))
    return path


def converted(source: Path, folder: Path, ends: str, tensors: Path) -> bytes:
    folder.mkdir(exist_ok=True)
    said: list[tuple[int, int]] = []
    with conversion(look(source), folder, ends, lambda text: None) as going:
        assert going.model.inputs[0].shape == (1, 28, 28, 1)
        content = going.quantise(tensors, lambda done, total: said.append((done, total)))
    assert said and all(total == 20 for _, total in said)
    return content


def test_a_real_conversion_with_ends_of_both_kinds(tmp_path: Path, tensors: Path) -> None:
    signed = converted(FLOATS, tmp_path / "a", "int8", tensors)
    unsigned = converted(FLOATS, tmp_path / "b", "uint8", tensors)
    one, other = inspect(signed, "m"), inspect(unsigned, "m")
    assert (one.inputs[0].dtype, one.outputs[0].dtype) == ("int8", "int8")
    assert (other.inputs[0].dtype, other.outputs[0].dtype) == ("uint8", "uint8")
    assert (other.inputs[0].name, other.outputs[0].name) == (one.inputs[0].name, one.outputs[0].name)
    assert other.inputs[0].zero_point == one.inputs[0].zero_point + 128
    assert other.cpu_operations["QUANTIZE"] == 2 and "float32" not in other.work
    pixels = np.random.default_rng(2).integers(0, 256, (1, 28, 28, 1), np.uint8)
    # The ends add and take 128, and nothing else.
    assert np.array_equal(
        run(signed, (pixels.astype(int) - 128).astype(np.int8))[0].astype(int) + 128, run(unsigned, pixels)[0]
    )
    # The same ranges, whatever the order of the inputs.
    again = tmp_path / "reversed.npy"
    np.save(again, np.load(tensors)[::-1])
    assert converted(FLOATS, tmp_path / "c", "int8", again) == signed


def test_labels_inside_stay_inside_and_signatures_are_not_needed(tmp_path: Path, tensors: Path) -> None:
    model = rewriting.unpacked(FLOATS.read_bytes())
    model.signatureDefs = None
    labels = io.BytesIO()
    with zipfile.ZipFile(labels, "w") as members:
        members.writestr("labels.txt", "zero\none\n")
    (tmp_path / "m.tflite").write_bytes(rewriting.packed(model) + labels.getvalue())
    content = converted(tmp_path / "m.tflite", tmp_path / "a", "uint8", tensors)
    assert zipfile.ZipFile(io.BytesIO(content)).read("labels.txt") == b"zero\none\n"
    assert archive(content) == labels.getvalue()


def test_what_the_converter_cannot_do_is_a_sentence(tmp_path: Path) -> None:
    np.save(tmp_path / "wrong.npy", np.zeros((3, 1, 5), np.float32))
    with conversion(look(FLOATS), tmp_path, "int8", lambda text: None) as going, pytest.raises(UsageError) as raised:
        going.quantise(tmp_path / "wrong.npy", lambda done, total: None)
    assert "ai-edge-quantizer cannot quantise it: " in str(raised.value)


def test_a_child_that_crashes_is_told_by_its_last_words(tmp_path: Path) -> None:
    with Child("clusteradm.node.job.alone", str(tmp_path / "none.json")) as child, pytest.raises(ChildFailed) as raised:
        list(child.lines())
    assert "the process alone failed: FileNotFoundError" in str(raised.value)


def test_difference(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[0, 1], [2, 3]], np.float32))
    np.save(tmp_path / "b.npy", np.array([[0, 1.5], [2, 2]], np.float32))
    assert difference(tmp_path / "a.npy", tmp_path / "b.npy") == {"mean": 0.375, "worst": 1.0, "low": 0.0, "high": 3.0}


def test_a_missing_extra_is_named_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    there = extras.importlib.util.find_spec
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None if name == "tensorflow" else there(name))
    with pytest.raises(UsageError) as raised:
        require(look(tmp_path / "a.h5"))
    assert "the conversion of a Keras network needs Python packages that are not here: tensorflow" in str(raised.value)
    assert "-m pip install" in str(raised.value) and "tensorflow-cpu" in str(raised.value)
