"""The committed model is the file that its card describes, and does on the held-out digits what the card says."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from pathlib import Path

import numpy as np
import pytest

from clusteradm.lab import digits as package
from clusteradm.lab.digits import data

litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs the extra `lab`")

FOLDER = Path(package.__file__).parent
MODEL = FOLDER / "digits.tflite"
CARD = json.loads((FOLDER / "digits.json").read_text())
# What the Edge TPU compiler maps, and all that the model may use.
MAPPED = {"QUANTIZE", "CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"}


@pytest.fixture(scope="module")
def interpreter():  # type: ignore[no-untyped-def]
    made = litert.Interpreter(model_path=str(MODEL), num_threads=1)
    made.allocate_tensors()
    return made


def test_the_file_is_the_one_of_the_card() -> None:
    content = MODEL.read_bytes()
    assert hashlib.sha256(content).hexdigest() == CARD["sha256"]
    assert len(content) == CARD["bytes"] < 1_000_000
    assert content[4:8] == b"TFL3"


def test_the_readme_quotes_the_card() -> None:
    readme = (FOLDER / "README.md").read_text()
    correct = CARD["held_out"]["correct"]
    assert CARD["sha256"] in readme
    assert f"{CARD['bytes']:,} bytes" in readme
    for name in ("float", "tensorflow", "ai-edge-litert"):
        assert f"| {correct[name]} of 1,000 |" in readme
    assert f"{CARD['cpu_ms']['median']} ms" in readme


@pytest.mark.parametrize("side", ["input", "output"])
def test_input_and_output(interpreter, side: str) -> None:  # type: ignore[no-untyped-def]
    (details,) = interpreter.get_input_details() if side == "input" else interpreter.get_output_details()
    said = CARD[side]
    assert details["dtype"] is np.uint8 and said["dtype"] == "uint8"
    assert details["shape"].tolist() == details["shape_signature"].tolist() == said["shape"]
    assert details["quantization"] == (pytest.approx(said["scale"]), said["zero_point"])


def test_a_pixel_is_fed_as_it_is() -> None:
    # Who feeds the file's pixels and who quantises pixel / 255 must feed the same.
    assert CARD["input"]["scale"] == pytest.approx(1 / 255, rel=1e-6)
    assert CARD["input"]["zero_point"] == 0


def test_it_is_int8_throughout_with_operations_that_an_edge_tpu_has(interpreter) -> None:  # type: ignore[no-untyped-def]
    assert np.float32 not in {details["dtype"] for details in interpreter.get_tensor_details()}
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(MODEL.read_bytes(), 0))
    assert {names[code.builtinCode] for code in model.operatorCodes} == MAPPED


def test_one_label_a_class() -> None:
    assert (FOLDER / "labels.txt").read_text().split() == [str(digit) for digit in range(data.CLASSES)]


def test_it_is_as_accurate_as_the_card_says_and_fast_enough(interpreter, digits: data.Split) -> None:  # type: ignore[no-untyped-def]
    entry, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    correct, times = 0, []
    for image, label in zip(digits.held_out.images, digits.held_out.labels, strict=True):
        interpreter.set_tensor(entry, image[None, :, :, None])
        started = time.perf_counter()
        interpreter.invoke()
        times.append(time.perf_counter() - started)
        correct += int(np.argmax(interpreter.get_tensor(result)) == label)
    assert correct == CARD["held_out"]["correct"]["ai-edge-litert"]
    assert correct > 970
    # The simulated TPU takes 2.6 ms: the true answer must be there long before.
    assert statistics.median(times) < 0.0013
