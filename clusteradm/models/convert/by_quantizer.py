"""Converter of float .tflite files: `python -m clusteradm.models.convert.by_quantizer JOB`, by ai-edge-quantizer.

Calibrates by the smallest and the largest number that each tensor had over all inputs: the result does not depend on
their order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_quantizer import calibrator, quantizer, recipe, recipe_manager
from ai_edge_quantizer.utils import qsv_utils, tfl_interpreter_utils

from clusteradm.models.channel import Channel, words
from clusteradm.models.convert.rows import Rows, run
from clusteradm.models.tflite import rewriting


def convert(channel: Channel, source: Path, floats: Path, output: Path, ends: str) -> None:
    """Write the model with a static batch to `floats`, hear where its tensors are, write the quantised one."""
    channel.say(stage="read")
    model = rewriting.unpacked(source.read_bytes())
    rewriting.widen_weights(model)
    rewriting.fix_batch(model)
    rewriting.drop_tensors(model)
    rewriting.sign(model)
    content = rewriting.packed(model)
    floats.write_bytes(content)
    channel.say(stage="float")
    rows = np.load(channel.hear()["tensors"], mmap_mode="r")
    plan = recipe.static_wi8_ai8()
    try:
        ranges = _calibrated(channel, content, plan, rows)
        channel.say(stage="quantise")
        done = quantizer.Quantizer(content, plan).quantize(ranges)
        result = rewriting.unpacked(bytes(done.quantized_model))
    except (RuntimeError, ValueError, KeyError, NotImplementedError) as error:
        channel.fail(f"ai-edge-quantizer cannot quantise it: {words(error)}")
    if ends == "uint8":
        rewriting.add_uint8_ends(result)
    output.write_bytes(rewriting.packed(result))
    channel.say(stage="done")


def _calibrated(channel: Channel, content: bytes, plan: Any, rows: Any) -> Any:
    """The range of every tensor over all inputs."""
    recipes = recipe_manager.RecipeManager()
    recipes.load_quantization_recipe(plan)
    calibration = calibrator.Calibrator(content, qsv_update_func=qsv_utils.min_max_update)
    interpreter = tfl_interpreter_utils.create_tfl_interpreter(content)
    key = next(iter(interpreter.get_signature_list()), None)
    name = next(iter(interpreter.get_signature_runner(key).get_input_details()))
    # It reads the list once before, to count it.
    inputs = Rows(rows, lambda row: {name: np.array(row)}, channel, silent=1)
    calibration.calibrate({key: inputs}, recipes)
    return calibration.get_model_qsvs()


if __name__ == "__main__":
    run(convert)
