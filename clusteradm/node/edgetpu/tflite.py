"""The TensorFlow Lite runtime of this Python: tflite_runtime, or its successor ai_edge_litert (LiteRT)."""

from __future__ import annotations

import importlib
import sys

from clusteradm.node.edgetpu.library import TpuError

TYPE_CHECKING = False  # not imported from typing, which takes a quarter of this process's start
if TYPE_CHECKING:
    from typing import Any

# The last Python for which the table of runtimes (playbooks/vars/runtimes.yml) has pycoral, whose runtime is the older
# one. On later ones LiteRT is the table's; a pycoral that is there is somebody's rebuild for another runtime.
LAST_WITH_PYCORAL = (3, 9)
HAS_PYCORAL = sys.version_info[:2] <= LAST_WITH_PYCORAL

# On CPUs LiteRT is up to 20 times as fast.
FOR_CPU = ("ai_edge_litert", "tflite_runtime")
FOR_TPU = ("tflite_runtime", "ai_edge_litert") if HAS_PYCORAL else FOR_CPU


def interpreter_module(*names: str) -> Any:
    """The module with `Interpreter` and `load_delegate` of the first runtime that is installed. Raises TpuError."""
    for name in names:
        try:
            return importlib.import_module(name + ".interpreter")
        except ImportError:
            continue
    raise TpuError("this Python has no TensorFlow Lite runtime: run clusteradm bootstrap")
