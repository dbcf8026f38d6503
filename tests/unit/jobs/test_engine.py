"""The engine: an answer depends on its input alone, and an input on which a model fails costs no other."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_models as made
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from clusteradm.models.tflite import schema
from clusteradm.node.edgetpu import operators
from clusteradm.node.edgetpu.engine import Engine, InferenceError
from clusteradm.node.edgetpu.library import TpuError
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
