"""The engine: an answer depends on its input alone, and an input on which a model fails costs no other."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_models as made
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from clusteradm.models.tflite import schema
from clusteradm.node.edgetpu import engine as engine_module
from clusteradm.node.edgetpu import operators, tflite
from clusteradm.node.edgetpu.engine import Engine, InferenceError
from clusteradm.node.edgetpu.library import DeviceError, TpuError
from clusteradm.node.edgetpu.tasks import Reader

MODELS = Path(__file__).resolve().parents[2] / "fixtures" / "tflite"
TAKES = {"name": "x", "shape": [1, 4], "dtype": np.float32, "quantization": (0.0, 0)}
ONES = np.ones((1, 4), np.float32)


def warm(model: bytes) -> Engine:
    engine = Engine(model, None)
    engine.warm_up()
    return engine


def saved(name: str) -> bytes:
    return (MODELS / f"{name}.tflite").read_bytes()


@pytest.mark.parametrize("build", [made.variable, made.recurrent])
def test_what_a_model_remembers_of_other_inputs_is_in_no_answer(build: Callable[[], bytes]) -> None:
    engine = warm(build())
    answers = [engine.invoke(ONES * factor)[0].tolist() for factor in (3, 1, 2, 1)]
    assert answers == [[[3.0] * 4], [[1.0] * 4], [[2.0] * 4], [[1.0] * 4]]


def test_random_numbers_with_a_seed_are_the_same_for_every_input() -> None:
    engine = warm(made.random())
    first, second = (engine.invoke(np.array([4], np.int32))[0].tolist() for _ in range(2))
    assert first == second


def test_the_warm_up_leaves_no_trace() -> None:
    cold, engine = Engine(made.recurrent(), None), warm(made.recurrent())
    assert cold.invoke(ONES)[0].tolist() == engine.invoke(ONES)[0].tolist() == [[1.0] * 4]


def test_the_lstm_of_the_edge_tpus_own_test_data() -> None:
    folder = os.environ.get("CLUSTERADM_TEST_DATA")
    if not folder:
        pytest.skip("CLUSTERADM_TEST_DATA names no folder with real models")
    path = Path(folder) / "keras_lstm_mnist_ptq.tflite"
    pictures = np.random.default_rng(3).integers(0, 256, (12, 1, 28, 28), dtype=np.uint8)
    alone = []
    for picture in pictures:
        interpreter = Interpreter(model_path=str(path))
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture)
        interpreter.invoke()
        alone.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).tolist())
    engine = warm(path.read_bytes())
    assert [engine.invoke(picture)[0].tolist() for picture in pictures] == alone
    assert [engine.invoke(picture)[0].tolist() for picture in pictures[::-1]] == alone[::-1]


def test_the_operators_that_keep_state_are_those_of_the_schema() -> None:
    names = {schema.OPERATORS[number] for number in operators.KEEP_STATE}
    assert names == {"VAR_HANDLE", "RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM", "MULTINOMIAL"}
    assert operators.numbers(made.variable()) == {142, 143, 0, 144, 129}
    assert operators.numbers(saved("while_forever")) == {61, 82, 101, 119}
    for damaged in (b"", b"\xff" * 64, made.variable()[:40]):
        assert operators.numbers(damaged) == set()


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("gather_ids", np.array([[0, 1, 2, 3]], np.int32), [np.array([[4, 5, 6, n]], np.int32) for n in (99, -1)]),
        ("lut_picture", np.full((1, 4, 4, 1), 9, np.uint8), [np.full((1, 4, 4, 1), n, np.uint8) for n in (255, 200)]),
    ],
)
def test_an_input_on_which_a_model_fails_costs_no_other(name: str, good: Any, bad: list[Any]) -> None:
    engine = warm(saved(name))
    before = engine.invoke(good)[0].tolist()
    texts = []
    for tensor in bad:
        with pytest.raises(InferenceError, match="gather index out of bounds") as failure:
            engine.invoke(tensor)
        texts.append(str(failure.value))
        assert engine.invoke(good)[0].tolist() == before
    # Nor does the text depend on what failed before.
    assert all(text.count("gather index out of bounds") == 1 for text in texts)


def test_an_engine_that_fails_on_everything_is_the_ranks_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = warm(saved("gather_ids"))

    def fails(self: Engine, tensor: Any) -> Any:
        raise RuntimeError("the TPU has fallen off the bus")

    monkeypatch.setattr(Engine, "_run", fails)
    with pytest.raises(TpuError, match="inference fails: the TPU has fallen off the bus"):
        engine.invoke(np.zeros((1, 4), np.int32))


def answer(model: bytes, tensor: Any) -> dict[str, Any]:
    engine = warm(model)
    result = Reader(engine.outputs, engine.input).result(engine.invoke(tensor))
    json.dumps(result, allow_nan=False)
    return result


def test_what_json_has_no_number_for_is_null() -> None:
    result = answer(saved("log_nan"), np.array([[-1, 0, 1, 2, 3]], np.float32))
    found = [(one["class"], one["score"]) for one in result["top"]]
    assert found == [(4, 1.098612), (3, 0.693147), (2, 0.0), (1, None), (0, None)]


def test_a_string_output_is_text() -> None:
    result = answer(saved("string_out"), np.array([[2]], np.int32))
    assert result["outputs"][0]["values"] == [["bird"]]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (np.array([1 + 2j, complex("nan")], np.complex64), [[1.0, 2.0], [None, 0.0]]),
        (np.array([b"caf\xc3\xa9", b"\xff"], object), ["caf\u00e9", "\ufffd"]),
        (np.array([True, False]), [True, False]),
        (np.array(float("inf")), None),
    ],
)
def test_outputs_of_every_type(value: Any, written: object) -> None:
    details = [{"name": "y", "shape": list(value.shape), "dtype": value.dtype, "quantization": (0.0, 0)}]
    result = Reader(details, TAKES).result([value])
    assert json.loads(json.dumps(result, allow_nan=False))["outputs"][0]["values"] == written


def test_a_large_string_output_is_a_file_that_holds_no_objects() -> None:
    value = np.array([b"w%d" % number for number in range(2000)], object)
    details = [{"name": "y", "shape": [2000], "dtype": value.dtype, "quantization": (0.0, 0)}]
    kept: dict[str, bytes] = {}

    def keep(name: str, data: bytes) -> str:
        kept[name] = data
        return name

    result = Reader(details, TAKES).result([value], None, keep)
    loaded = np.load(io.BytesIO(kept[result["outputs"][0]["file"]]))  # without pickles
    assert loaded[1999] == "w1999"


@pytest.mark.parametrize("has_pycoral", [True, False])
def test_pycoral_is_loaded_only_where_the_table_of_runtimes_has_it(
    has_pycoral: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebuilt pycoral for a newer Python is of another runtime than the one that was tried."""
    folder = tmp_path / "pycoral" / "utils"
    folder.mkdir(parents=True)
    (folder / "edgetpu.py").write_text("def make_interpreter(model, device):\n    return ['pycoral', model, device]\n")
    monkeypatch.syspath_prepend(tmp_path)
    asked: list[str] = []

    class Runtime:
        @staticmethod
        def load_delegate(library: str, options: dict[str, str]) -> str:
            return f"{library} {options['device']}"

        @staticmethod
        def Interpreter(model_content: bytes, experimental_delegates: list[str]) -> list[Any]:
            return ["runtime", model_content, *experimental_delegates]

    def module(*names: str) -> type[Runtime]:
        asked.extend(names)
        return Runtime

    monkeypatch.setattr(tflite, "HAS_PYCORAL", has_pycoral)
    monkeypatch.setattr(tflite, "interpreter_module", module)
    made_of = engine_module._on_tpu(b"m", "pci:1")
    for name in [name for name in sys.modules if name.partition(".")[0] == "pycoral"]:
        monkeypatch.delitem(sys.modules, name)
    assert made_of == (["pycoral", b"m", "pci:1"] if has_pycoral else ["runtime", b"m", "libedgetpu.so.1 pci:1"])
    assert asked == ([] if has_pycoral else list(tflite.FOR_TPU))
    # The tests run on a Python for which the table has LiteRT.
    assert tflite.FOR_TPU == ("ai_edge_litert", "tflite_runtime")


_KINDS = (
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "S1",
    "O",
)


@pytest.mark.parametrize("name", [*_KINDS, "float64", "complex64"])
@pytest.mark.parametrize("zero", [0, 128, -128, 255, 300, -1, 2**31 - 1, -(2**31)])
def test_a_warm_up_is_made_of_numbers_that_each_input_can_hold(
    name: str, zero: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the zero point of one input is none of another's numbers: each gets its own, or the nearest."""
    tried: list[list[Any]] = []

    def refuse(self: Engine, tensors: list[Any]) -> None:
        tried.append(tensors)
        raise RuntimeError("not this one")

    monkeypatch.setattr(Engine, "_load", lambda self: None)
    monkeypatch.setattr(Engine, "_run", refuse)
    engine = object.__new__(Engine)
    engine.path = None
    kind = np.dtype(name)
    engine.inputs = [
        {"shape": [1, 2], "dtype": np.uint8, "quantization": (0.5, 7)},
        {"shape": [3], "dtype": kind.type, "quantization": (0.5, zero)},
    ]
    engine.input = engine.inputs[0]
    assert engine.warm_up() == 0.0
    assert [first.tolist() for first, _ in tried] == [[[0, 0]], [[1, 1]], [[7, 7]]]
    last = tried[-1][1]
    assert (last.dtype.kind, last.shape) == (kind.kind, (3,))
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        assert last.tolist() == [min(max(zero, limits.min), limits.max)] * 3
    elif kind.kind == "f" and abs(zero) < 2048:
        assert last.tolist() == [float(zero)] * 3


def test_what_is_no_model_is_not_taken_for_a_tpu_that_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime has the same error for both; an engine would be ended for the second, with all that it serves."""

    def opened(model: bytes, option: str) -> None:
        tflite.interpreter_module(*tflite.FOR_CPU).Interpreter(model_content=model)
        raise ValueError("Failed to load delegate from libedgetpu.so.1")

    monkeypatch.setattr(engine_module, "_on_tpu", opened)
    monkeypatch.setattr(engine_module, "_OPEN_SECONDS", 0.0)
    for model in (b"no model", made.recurrent()[:600]):
        with pytest.raises(TpuError, match="the model cannot be loaded: The model is not a valid") as refused:
            engine_module._open_on_tpu(model, "/dev/null", "pci:0")
        assert not isinstance(refused.value, DeviceError)
    with pytest.raises(DeviceError, match="did not open"):
        engine_module._open_on_tpu(made.recurrent(), "/dev/null", "pci:0")
