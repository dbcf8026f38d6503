"""Conversions of the digits' network on the real digits: by ai-edge-quantizer, and by TensorFlow from all its formats.

TensorFlow is in a virtual environment of its own, made once and kept in the cache (1.8 GB, a minute).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow_environment

from clusteradm.lab.digits import data

ROOT = Path(__file__).resolve().parents[1]
FLOATS = ROOT / "clusteradm" / "lab" / "digits" / "digits_float.tflite"
# The network of clusteradm/lab/digits/train.py without what training needs, its weights from the float .tflite.
NETWORK = """
import sys
import numpy as np
import tensorflow as tf
from clusteradm.models.tflite import graph

floats = graph.read(open(sys.argv[1], "rb").read())[0]
layers = tf.keras.layers
image = x = tf.keras.Input((28, 28, 1))  # of an open batch, as networks are
for filters, stride in ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1)):
    x = layers.Conv2D(filters, 3, strides=stride, padding="same", activation="relu")(x)
x = layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(x))
network = tf.keras.Model(image, x)
weights = []
for one in floats.operations:
    if one.name in ("CONV_2D", "FULLY_CONNECTED"):
        kernel, bias = (floats.tensors[number] for number in one.inputs[1:3])
        values = np.frombuffer(kernel.weights, "<f4").reshape(kernel.shape)
        weights += [np.moveaxis(values, 0, -1), np.frombuffer(bias.weights, "<f4")]
network.set_weights(weights)
network.save("digits.keras")
network.save("digits.h5")
network.export("digits")
"""


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with digits to calibrate with, in train/, and held-out ones, in held_out/, and the truth of both."""
    folder = tmp_path_factory.mktemp("digits")
    split = data.load()
    train = data.Digits(split.train.images[:500], split.train.labels[:500])
    data.write_images(train, folder / "train", folder / "train.csv")
    data.write_images(split.held_out, folder / "held_out", folder / "held_out.csv")
    return folder


@pytest.fixture(scope="session")
def tensorflow() -> Path:
    """The Python of a virtual environment with TensorFlow and all that clusteradm needs."""
    return tensorflow_environment.python()


def convert(python: Path | str, source: Path, digits: Path, *more: str) -> dict[str, Any]:
    """Convert with digits/train, and compare on digits/held_out afterwards; the document."""
    output = digits / f"{source.name}-int8.tflite"
    words = ["model", "convert", source, "--calibration", digits / "train", "--mean", "0", "--std", "255"]
    words += ["--truth", digits / "train.csv", "--output", output, "--json", *more]
    done = subprocess.run(
        [str(python), "-m", "clusteradm", *map(str, words)],
        cwd=digits,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "path": output}


def held_out(path: Path, digits: Path) -> int:
    """How many of the 1,000 held-out digits a model reads right."""
    from clusteradm.jobs import truth
    from clusteradm.jobs.alone import Alone
    from clusteradm.jobs.inputs import LocalInputs, resolve
    from clusteradm.models import advice
    from clusteradm.models.tflite.inspect import inspect

    inputs = resolve([str(digits / "held_out")])
    assert isinstance(inputs, LocalInputs)
    model = inspect(path.read_bytes(), "m")
    form = advice.form(model.inputs[0], advice.feed(model, (0.0,), (255.0,), None))
    folder = digits / f"work-{path.name}"
    folder.mkdir(exist_ok=True)
    answers = Alone(inputs, folder).answers(path, form, (), 1, lambda done, total: None)
    found = truth.score(answers.results, truth.read(digits / "held_out.csv"), 1)
    assert found is not None and found.labelled == 1000
    return found.right


def check(document: dict[str, Any], digits: Path, ends: str = "uint8") -> None:
    """8 bits throughout, a static batch, all for the Edge TPU, and within one point of the float model."""
    model = document["model"]
    assert [model[side][0]["dtype"] for side in ("inputs", "outputs")] == [ends, ends]
    assert model["inputs"][0]["shape"] == [1, 28, 28, 1] and not model["inputs"][0]["dynamic"]
    forecast = model["forecast"]
    assert forecast["mapped"] == forecast["total"] and [one["what"] for one in model["obstacles"]] == [
        "it is not compiled"
    ]
    before, after = document["accuracy"]["float"], document["accuracy"]["int8"]
    assert before["labelled"] == 500 and before["top_1"] > 0.98 and abs(before["top_1"] - after["top_1"]) <= 0.01
    assert document["warnings"] == []
    assert abs(held_out(document["path"], digits) - held_out(FLOATS, digits)) <= 10


def test_a_float_tflite(digits: Path) -> None:
    assert held_out(FLOATS, digits) == 993
    check(convert(sys.executable, FLOATS, digits), digits)
    check(convert(sys.executable, FLOATS, digits, "--ends", "int8"), digits, "int8")


def test_keras_and_saved_models(digits: Path, tensorflow: Path) -> None:
    subprocess.run(
        [tensorflow, "-c", NETWORK, FLOATS],
        cwd=digits,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"},
        check=True,
        timeout=300,
    )
    check(convert(tensorflow, digits / "digits.keras", digits), digits)
    check(convert(tensorflow, digits / "digits.h5", digits, "--ends", "int8"), digits, "int8")
    check(convert(tensorflow, digits / "digits", digits), digits)
