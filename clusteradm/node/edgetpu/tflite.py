"""The TensorFlow Lite runtime of this Python: tflite_runtime, or its successor ai_edge_litert (LiteRT)."""

from __future__ import annotations

import importlib

from clusteradm.node.edgetpu.library import TpuError

TYPE_CHECKING = False  # not imported from typing, which takes a quarter of this process's start
if TYPE_CHECKING:
    from typing import Any

# On CPUs LiteRT is up to 20 times as fast; with a TPU the older one fits more libraries.
FOR_TPU, FOR_CPU = ("tflite_runtime", "ai_edge_litert"), ("ai_edge_litert", "tflite_runtime")


def interpreter_module(*names: str) -> Any:
    """The module with `Interpreter` and `load_delegate` of the first runtime that is installed. Raises TpuError."""
    for name in names:
        try:
            return importlib.import_module(name + ".interpreter")
        except ImportError:
            continue
    raise TpuError("this Python has no TensorFlow Lite runtime: run clusteradm bootstrap")
