"""Times of models on the CPU: `python3 -m clusteradm.node.edgetpu.times MODEL ...`, started by models/times.py.

Writes a JSON line for each: the milliseconds of one inference, the fastest of several, as a rank runs it.
"""

import json
import sys
import time
from typing import Any

import numpy as np

from clusteradm.node.edgetpu.engine import Engine, InferenceError
from clusteradm.node.edgetpu.library import TpuError

_RUNS = 5


def milliseconds(path: str) -> float:
    """Of one inference of the model in this file. Raises TpuError and InferenceError, ValueError for no model."""
    with open(path, "rb") as file:
        engine = Engine(file.read(), None)
    engine.warm_up()
    tensor = np.zeros(engine.input["shape"], engine.input["dtype"])
    taken = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        engine.invoke(tensor)
        taken.append(time.perf_counter() - started)
    return 1000 * min(taken)


def _say(**about: Any) -> None:
    sys.stdout.write(json.dumps(about) + "\n")
    sys.stdout.flush()


def main() -> None:
    """The program."""
    for path in sys.argv[1:]:
        try:
            _say(ms=milliseconds(path))
        except (TpuError, InferenceError, OSError, RuntimeError, ValueError) as error:
            _say(refused=" ".join(str(error).split()))
            return


if __name__ == "__main__":
    main()
