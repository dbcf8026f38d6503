"""The floor: the runtime's own loop on the simulated TPU, in a process of its own: copy in, invoke, copy out."""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, load_delegate


class Loop:
    """A model on the device."""

    def __init__(self, model: str) -> None:
        delegate = load_delegate("libedgetpu.so.1", {"device": "pci:0"})
        self._interpreter = Interpreter(model, experimental_delegates=[delegate])
        self._interpreter.allocate_tensors()
        self.input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]

    def __call__(self, tensor: Any) -> Any:
        """One inference."""
        self._interpreter.set_tensor(self.input["index"], tensor)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output["index"])


def main() -> None:
    """`raw.py MODEL SECONDS RATE`: p50 in seconds, inferences a second, seconds of processor for each, as JSON.

    RATE: so many a second, by the clock; 0 for as many as it can.
    """
    loop, rate = Loop(sys.argv[1]), float(sys.argv[3])
    tensor = np.ones(loop.input["shape"], loop.input["dtype"])
    loop(tensor)
    took: list[float] = []
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    while time.perf_counter() < start + float(sys.argv[2]):
        if rate:
            time.sleep(max(0.0, start + len(took) / rate - time.perf_counter()))
        began = time.perf_counter()
        loop(tensor)
        took.append(time.perf_counter() - began)
    whole = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = {"p50": sorted(took)[len(took) // 2], "rate": len(took) / whole, "cpu": spent / len(took)}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
