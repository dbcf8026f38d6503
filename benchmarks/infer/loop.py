"""The raw loop over an interpreter, alone (`python loop.py MODEL IMAGES FIRST END`) and as the task of the peers.

Alone it says "ready", waits for a line, runs, and prints a JSON document: when each inference ended, by the monotonic
clock of this host, the classes that it found, and the processor time that it took.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from processes import memory


class Loop:
    """A model and images; one thread."""

    def __init__(self, model: str, images: str) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._images = np.load(images, mmap_mode="r")
        self._interpreter = Interpreter(model_content=Path(model).read_bytes(), num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self.run(0, 2)

    def run(self, first: int, end: int, stamps: list[float] | None = None) -> list[int]:
        """The best class of images `first` to `end` (not included), counted round; `stamps`: when each was ready."""
        found = []
        interpreter, rows = self._interpreter, len(self._images)
        for number in range(first, end):
            row = number % rows
            interpreter.set_tensor(self._input, self._images[row : row + 1])
            interpreter.invoke()
            found.append(int(interpreter.get_tensor(self._output).argmax()))
            if stamps is not None:
                stamps.append(time.monotonic())
        return found


@cache
def _loop(model: str, images: str) -> Loop:
    return Loop(model, images)


def chunk(model: str, images: str, first: int, end: int) -> list[int]:
    """The best classes of a chunk of images; the model is loaded once in each process."""
    return _loop(model, images).run(first, end)


def main(model: str, images: str, first: int, end: int) -> None:
    loop = Loop(model, images)
    print("ready", flush=True)
    sys.stdin.readline()
    stamps: list[float] = [time.monotonic()]
    before = _processor()
    found = loop.run(first, end, stamps)
    document: dict[str, Any] = {
        "stamps": stamps,
        "classes": found,
        "cpu": _processor() - before,
        "memory": memory(os.getpid()),
    }
    print(json.dumps(document), flush=True)


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
