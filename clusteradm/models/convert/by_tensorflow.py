"""Converter of Keras files and SavedModels: `python -m clusteradm.models.convert.by_tensorflow JOB`, by TensorFlow.

The network is traced with a batch of 1, whatever it was saved with: a batch that is left open becomes shapes that the
Edge TPU's compiler refuses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from clusteradm.models.channel import Channel, words
from clusteradm.models.convert.rows import Rows, run

_MOST_KINDS = 8


def convert(channel: Channel, source: Path, floats: Path, output: Path, ends: str) -> None:
    """Write the float model to `floats`, hear where its tensors are, write the quantised one."""
    channel.say(stage="import")
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    channel.say(stage="read")
    try:
        trackable, call, spec = _saved(tf, channel, source) if source.is_dir() else _keras(tf, channel, source)
        shape = _fixed(channel, spec)
        traced = tf.function(call, input_signature=[tf.TensorSpec(shape, spec.dtype, name="input")])
        # Weights become constants: an Edge TPU has no variables. The converter finds those of Keras 3 in no other way.
        function = convert_variables_to_constants_v2(traced.get_concrete_function(), lower_control_flow=False)
        floats.write_bytes(bytes(_converter(tf, function, trackable).convert()))
    except Exception as error:  # of Keras and TensorFlow, which raise of all kinds
        channel.fail(*_explained(error))
    channel.say(stage="float")
    rows = np.load(channel.hear()["tensors"], mmap_mode="r")
    samples = Rows(rows, lambda row: [np.array(row)], channel)

    def dataset() -> Iterator[Any]:
        yield from samples

    converter = _converter(tf, function, trackable)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = dataset
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = getattr(tf, ends)
    try:
        output.write_bytes(bytes(converter.convert()))
    except Exception as error:
        channel.fail(*_explained(error))
    channel.say(stage="done")


def _converter(tf: Any, function: Any, trackable: Any) -> Any:
    return tf.lite.TFLiteConverter.from_concrete_functions([function], trackable)


def _keras(tf: Any, channel: Channel, source: Path) -> tuple[Any, Callable[[Any], Any], Any]:
    """The network of a .keras or .h5 file: itself, a function of its input, and its input."""
    # Not compiled: losses and optimisers of its own are no part of it. Code in the file (Lambda layers) is not run.
    network = tf.keras.models.load_model(source, compile=False, safe_mode=True)
    inputs = list(network.inputs or ())
    if len(inputs) != 1:
        channel.fail(f"it has {len(inputs)} inputs; model convert takes networks with one")
    return network, lambda data: network(data, training=False), inputs[0]


def _saved(tf: Any, channel: Channel, source: Path) -> tuple[Any, Callable[[Any], Any], Any]:
    """The same of a SavedModel, by its signature for serving."""
    loaded = tf.saved_model.load(str(source))
    signatures = dict(loaded.signatures)
    names = ", ".join(sorted(signatures)) or "none"
    signature = signatures.get("serving_default") or (next(iter(signatures.values())) if len(signatures) == 1 else None)
    if signature is None:
        channel.fail(
            f"its signatures are: {names}; none of them is serving_default",
            "save it with signatures={'serving_default': FUNCTION}",
        )
    inputs = signature.structured_input_signature[1]
    if len(inputs) != 1:
        channel.fail(f"its signature has {len(inputs)} inputs; model convert takes networks with one")
    name, spec = next(iter(inputs.items()))
    return loaded, lambda data: signature(**{name: data}), spec


def _fixed(channel: Channel, spec: Any) -> list[int]:
    """The input's shape, its batch as 1."""
    if spec.shape is None or getattr(spec.shape, "rank", 0) is None:
        channel.fail("its input has no shape", "give the network an input of a fixed shape, and save it again")
    sides = [None if side is None else int(side) for side in spec.shape]
    if not sides or any(side is None for side in sides[1:]):
        shape = "x".join("?" if side is None else str(side) for side in sides)
        channel.fail(
            f"its input has no fixed size ({shape}): which one?",
            "give the network an input of a fixed shape (tf.keras.Input((224, 224, 3))), and save it again",
        )
    if sides[0] not in (None, 1):
        channel.fail(f"its batch size is {sides[0]}", "save it with a batch size of 1, or with none")
    return [1, *(int(side) for side in sides[1:] if side is not None)]


def _explained(error: Exception) -> tuple[str, str]:
    """What an exception of TensorFlow means, and what to do."""
    text = str(error)
    if "ERROR_NEEDS_FLEX_OPS" in text or "ops are not supported by the native TFLite runtime" in text:
        kinds = sorted(set(re.findall(r"'tf\.(\w+)' op is neither", text)) or {words(error)})
        return f"it has operations that TensorFlow Lite lacks: {', '.join(kinds[:_MOST_KINDS])}", (
            "replace them in the network"
        )
    if "safe_mode" in text:
        return (
            "it has Python code inside (a Lambda layer), which is not run",
            "replace the layer by one of Keras, or save the network as a SavedModel (model.export)",
        )
    unknown = re.search(r"Unknown layer: '?(\w+)|Could not locate class '(\w+)'", text)
    if unknown:
        return (
            f"it has a layer of its own, {unknown[1] or unknown[2]}, whose code is not in the file",
            "save the network as a SavedModel (model.export), which holds what it computes",
        )
    return f"TensorFlow cannot convert it: {words(error)}", ""


if __name__ == "__main__":
    run(convert)
