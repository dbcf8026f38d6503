"""Train the lab's digit classifier and quantise it: writes digits.tflite, digits_float.tflite, labels.txt, digits.json.

    pip install '.[lab,convert-tf]'
    python -m clusteradm.lab.digits.train

Every layer is one that the Edge TPU compiler maps (convolution, mean, fully connected, softmax), the batch is static
and 1, input and output are uint8: pixels are fed as they are in the file. The held-out digits are used once, last.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import ai_edge_litert
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from clusteradm.lab.digits import data

HERE = Path(__file__).resolve().parent
SEED = 2018  # the year of the Edge TPU
EPOCHS = 60
BATCH = 64
CALIBRATION = 500  # training digits that the quantiser sees


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=EPOCHS, metavar="N", help="(%(default)s)")
    parser.add_argument("--into", type=Path, default=HERE, metavar="FOLDER", help="(%(default)s)")
    args = parser.parse_args()

    # Deterministic: the same machine and versions give the same file.
    tf.keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    digits = data.load()
    _say(f"{len(digits.train)} digits to train on, {len(digits.held_out)} held out")

    network = _train(digits.train, args.epochs)
    float_correct = _correct(digits.held_out, lambda image: np.asarray(network(_scaled(image[None])))[0])
    _say(f"float model: {float_correct} of {len(digits.held_out)} held-out digits right")
    content, floats = _quantise(network, digits.train)
    args.into.mkdir(parents=True, exist_ok=True)
    (args.into / "digits_float.tflite").write_bytes(floats)
    path = args.into / "digits.tflite"
    path.write_bytes(content)
    (args.into / "labels.txt").write_text("".join(f"{label}\n" for label in range(data.CLASSES)), encoding="utf-8")
    _say(f"{path}: {len(content)} bytes")

    card = _card(content, digits.held_out)
    card["held_out"]["correct"]["float"] = float_correct
    card["made"] = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "seed": SEED,
        "epochs": args.epochs,
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "ai-edge-litert": ai_edge_litert.__version__,
            "digits": data.PACKAGE,
        },
    }
    (args.into / "digits.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    _say(json.dumps(card, indent=2))
    return 0


def _network(batch: int | None) -> Any:
    """The classifier: float (batch, 28, 28, 1) in 0..1 -> probabilities (batch, 10)."""
    layers = tf.keras.layers
    image = tf.keras.Input((data.SIDE, data.SIDE, 1), batch_size=batch)
    x = image
    # Stride 2 halves the picture instead of a pooling layer: one operation less to run.
    for filters, stride in ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1)):
        x = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)  # folded into the convolution when converted
        x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    return tf.keras.Model(image, layers.Dense(data.CLASSES, activation="softmax")(x))


def _train(digits: data.Digits, epochs: int) -> Any:
    """A trained network. With only 4,000 digits, each is randomly moved, rotated and scaled in every epoch."""
    layers = tf.keras.layers
    image = tf.keras.Input((data.SIDE, data.SIDE, 1))
    x = layers.RandomRotation(0.04, fill_mode="constant", seed=SEED)(image)
    x = layers.RandomTranslation(0.08, 0.08, fill_mode="constant", seed=SEED + 1)(x)
    x = layers.RandomZoom(0.1, 0.1, fill_mode="constant", seed=SEED + 2)(x)
    network = _network(None)
    trainer = tf.keras.Model(image, network(x))
    steps = epochs * -(-len(digits) // BATCH)
    trainer.compile(
        optimizer=tf.keras.optimizers.AdamW(tf.keras.optimizers.schedules.CosineDecay(2e-3, steps), weight_decay=1e-3),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(),
        metrics=["accuracy"],
    )
    started = time.monotonic()
    for epoch in range(epochs):
        # One call per epoch, to print one line; the optimiser keeps its state.
        history = trainer.fit(_scaled(digits.images), digits.labels, batch_size=BATCH, epochs=1, verbose=0).history
        passed = time.monotonic() - started
        _say(
            f"epoch {epoch + 1}/{epochs}: loss {history['loss'][0]:.4f}, accuracy on the moved training digits "
            f"{history['accuracy'][0]:.4f}, {passed:.0f} s"
        )
    return network


def _quantise(network: Any, digits: data.Digits) -> tuple[bytes, bytes]:
    """The network as int8 .tflite with uint8 input and output and a static batch of 1; the same as float .tflite."""
    # A batch size of None would become a dynamic dimension, which the Edge TPU compiler refuses.
    fixed = _network(1)
    fixed.set_weights(network.get_weights())

    def samples() -> Iterator[list[NDArray[np.float32]]]:
        for image in digits.images[:CALIBRATION]:
            yield [_scaled(image[None])]

    converter = tf.lite.TFLiteConverter.from_keras_model(fixed)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.uint8
    with contextlib.redirect_stdout(io.StringIO()):  # Keras prints every variable that it saves
        content = bytes(converter.convert())
        return content, bytes(tf.lite.TFLiteConverter.from_keras_model(fixed).convert())


def _card(content: bytes, held_out: data.Digits) -> dict[str, Any]:
    """Properties and measurements of the model, for digits.json."""
    litert = Interpreter(model_content=content, num_threads=1)
    tensorflow = tf.lite.Interpreter(model_content=content, num_threads=1)
    times: list[float] = []
    correct = {
        "tensorflow": _correct(held_out, _runner(tensorflow, [])),
        "ai-edge-litert": _correct(held_out, _runner(litert, times)),
    }
    return {
        "file": "digits.tflite",
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "input": _tensor(litert.get_input_details()[0]),
        "output": _tensor(litert.get_output_details()[0]),
        "held_out": {"digits": len(held_out), "correct": correct},
        "cpu_ms": {"median": round(statistics.median(times) * 1e3, 3), "machine": _processor()},
    }


def _tensor(details: dict[str, Any]) -> dict[str, Any]:
    scale, zero_point = details["quantization"]
    return {
        "shape": [int(n) for n in details["shape"]],
        "dtype": np.dtype(details["dtype"]).name,
        "scale": float(scale),
        "zero_point": int(zero_point),
    }


def _runner(interpreter: Any, times: list[float]) -> Callable[[NDArray[np.uint8]], NDArray[Any]]:
    """A function from one image to the interpreter's output; seconds per inference are added to `times`."""
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]

    def run(image: NDArray[np.uint8]) -> NDArray[Any]:
        interpreter.set_tensor(entry, image[None, :, :, None])
        started = time.perf_counter()
        interpreter.invoke()
        times.append(time.perf_counter() - started)
        return np.array(interpreter.get_tensor(result)[0])

    return run


def _correct(digits: data.Digits, run: Callable[[NDArray[np.uint8]], NDArray[Any]]) -> int:
    return sum(
        int(np.argmax(run(image))) == int(label) for image, label in zip(digits.images, digits.labels, strict=True)
    )


def _scaled(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 (n, 28, 28) -> float32 (n, 28, 28, 1) in 0..1; quantised with scale 1/255 that is the pixel again."""
    return np.divide(images[..., None], 255, dtype=np.float32)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
