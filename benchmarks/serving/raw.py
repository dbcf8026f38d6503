"""The floor: the runtime's own loop on the simulated TPU, in a process of its own: copy in, invoke, copy out."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from ai_edge_litert.interpreter import Interpreter, load_delegate


def main() -> None:
    """`raw.py MODEL SECONDS`: p50 in seconds, inferences a second, as JSON."""
    delegate = load_delegate("libedgetpu.so.1", {"device": "pci:0"})
    interpreter = Interpreter(sys.argv[1], experimental_delegates=[delegate])
    interpreter.allocate_tensors()
    put, get = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    tensor = np.ones(put["shape"], put["dtype"])
    took = []
    start = time.perf_counter()
    while time.perf_counter() < start + float(sys.argv[2]):
        began = time.perf_counter()
        interpreter.set_tensor(put["index"], tensor)
        interpreter.invoke()
        interpreter.get_tensor(get["index"])
        took.append(time.perf_counter() - began)
    whole = time.perf_counter() - start
    json.dump({"p50": sorted(took)[len(took) // 2], "rate": len(took) / whole}, sys.stdout)


if __name__ == "__main__":
    main()
