"""Interpreter that sleeps for as long as a device would compute, and gives the same scores for every input.

SLEEPING_MS: milliseconds of an inference; several, separated by commas, are those of ranks 1, 2 ..., over and over.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

_SHAPE, _CLASSES = (1, 224, 224, 3), 1000


def seconds(rank: int) -> float:
    """Seconds of an inference on the device of a rank, from 1 on."""
    each = os.environ["SLEEPING_MS"].split(",")
    return float(each[(rank - 1) % len(each)]) / 1e3


class Interpreter:
    """What Engine asks of an interpreter, with a device that sleeps."""

    def __init__(self, model_content: bytes = b"", num_threads: int | None = None) -> None:
        self._seconds = seconds(int(os.environ.get("OMPI_COMM_WORLD_RANK", "1")))
        self._input = np.zeros(_SHAPE, np.uint8)
        self._scores = (np.arange(_CLASSES) % 251).astype(np.uint8)[None]

    def allocate_tensors(self) -> None:
        pass

    def reset_all_variables(self) -> None:
        pass

    def get_input_details(self) -> list[dict[str, Any]]:
        return [_details("x", 0, _SHAPE)]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [_details("y", 1, (1, _CLASSES))]

    def set_tensor(self, index: int, value: Any) -> None:
        self._input[...] = value

    def invoke(self) -> None:
        time.sleep(self._seconds)

    def get_tensor(self, index: int) -> Any:
        return self._scores.copy()


def _details(name: str, index: int, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"name": name, "index": index, "shape": np.array(shape), "dtype": np.uint8, "quantization": (1 / 255, 0)}
