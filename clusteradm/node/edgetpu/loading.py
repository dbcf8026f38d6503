"""Loading of a model: `python3 -m clusteradm.node.edgetpu.loading MODEL tpu|cpu`, started by models/loading.py.

In a process of its own, which a model may crash. The operation of the Edge TPU is left out: no TPU is opened. Writes
what it does as JSON lines, each before it does it.
"""

from __future__ import annotations

import json
import os
import sys

from clusteradm.node.edgetpu import tflite
from clusteradm.node.edgetpu.library import TpuError

TYPE_CHECKING = False  # not imported from typing, which takes a quarter of this process's start
if TYPE_CHECKING:
    from typing import Any

TPU_OPERATION = "edgetpu-custom-op"


def run(path: str, target: str) -> None:
    """Load the model with the runtime that ranks use for this target."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # NumPy's own threads spin when they start
    runtime = tflite.interpreter_module(*(tflite.FOR_TPU if target == "tpu" else tflite.FOR_CPU))
    with open(path, "rb") as file:
        model = file.read()
    _say(stage="load")
    try:
        interpreter = runtime.Interpreter(model_content=model)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())
        # What the delegate would take. The runtime stops there, and what comes after it is not looked at.
        if TPU_OPERATION not in text:
            _say(stage="done", refused=text)
            return
    _say(stage="done")


def _say(**about: Any) -> None:
    sys.stdout.write(json.dumps(about) + "\n")
    sys.stdout.flush()


def main() -> None:
    """The program."""
    try:
        run(*sys.argv[1:3])
    except TpuError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
