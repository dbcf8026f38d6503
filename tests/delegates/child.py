"""One attempt: `python3 child.py RUNTIME LIBRARY MODEL`. Python 3.7 or newer, with the runtime and NumPy.

Loads LIBRARY as a delegate into RUNTIME (tflite_runtime or ai_edge_litert), runs MODEL, and prints {"result": "works"
or "wrong", "registration": bytes}. A crash ends this process.
"""

import ctypes
import importlib
import json
import sys

import numpy as np


def main() -> None:
    """The program."""
    name, library, model = sys.argv[1:4]
    runtime = importlib.import_module(name + ".interpreter")
    interpreter = runtime.Interpreter(model_path=model, experimental_delegates=[runtime.load_delegate(library)])
    # Before anything can crash that the size explains.
    try:
        size = ctypes.c_size_t.in_dll(ctypes.CDLL(library), "registration_size").value
    except ValueError:  # a shim
        size = None
    print(json.dumps({"registration": size}), flush=True)
    interpreter.allocate_tensors()
    given = np.arange(64, dtype=np.int32).reshape(1, 64)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], given)
    interpreter.invoke()
    answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    result = "works" if np.array_equal(answer, given[:, ::-1]) else "wrong"
    print(json.dumps({"registration": size, "result": result}), flush=True)


if __name__ == "__main__":
    main()
