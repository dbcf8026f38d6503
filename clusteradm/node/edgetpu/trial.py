"""Trial of one Edge TPU: `python3 -m clusteradm.node.edgetpu.trial DEVICE NODE MODEL SECONDS WAIT`, by probe/trial.py.

Loads the delegate onto DEVICE, as libedgetpu lists it, whose device node is NODE, and runs one inference: of the file
MODEL, or if that is "" of the program's own model (trial_model.py), unless the library is too old for that. Writes what
it does as JSON lines, each before it does it: whatever ends this process, its parent knows how far it got.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time

from clusteradm.node.edgetpu import library as libedgetpu
from clusteradm.node.edgetpu import tflite, trial_model
from clusteradm.node.edgetpu.library import Library, TpuError, Turn, device_option

TYPE_CHECKING = False  # not imported from typing, which takes a quarter of this process's start
if TYPE_CHECKING:
    from typing import Any, Dict


def run(path: str, node: str, model: str, seconds: int, wait: float) -> None:
    """The trial. From its turn on it may take `seconds`; SIGALRM ends the process then. One whose turn does not come
    within `wait` seconds is not made, which is no fault of its TPU."""
    end = time.monotonic() + wait
    _say(stage="import", access=os.access(node, os.R_OK | os.W_OK))
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # NumPy's own threads spin when they start
    runtime = tflite.interpreter_module(*tflite.FOR_TPU)
    _say(stage="turn")
    with Turn(path, end - time.monotonic()) as turn:
        if not turn.mine:
            return
        signal.alarm(seconds)
        library = Library()
        delegate = _open(runtime, library, path)
    what = {"model_path": model} if model else _own_model(library)
    if what:
        _say(stage="allocate")
        interpreter = runtime.Interpreter(experimental_delegates=[delegate], **what)
        interpreter.allocate_tensors()
        _say(stage="invoke")
        interpreter.invoke()
        _say(inference=True)
    _say(stage="done")


def _open(runtime: Any, library: Library, path: str) -> Any:
    """The delegate on the device. Ends the process where it does not open."""
    _say(stage="list")
    devices = library.devices()
    _say(count=len(devices))
    try:
        option = {"device": device_option(path, devices)}
    except TpuError:
        library.set_verbosity(libedgetpu.LOUD)
        library.devices()
        listed = ", ".join(device.path for device in devices) or "none"
        raise TpuError("libedgetpu does not list %s, only: %s" % (path, listed)) from None
    _say(stage="load")
    try:
        return runtime.load_delegate(libedgetpu.NAME, option)
    except ValueError as error:
        # The library has one error for everything; asked again, loudly, it logs each step to standard error.
        _say(error=" ".join(str(error).split()), count=len(library.devices()))
        library.set_verbosity(libedgetpu.LOUD)
        try:
            runtime.load_delegate(libedgetpu.NAME, option)
        except ValueError:
            pass
        sys.exit(1)


def _own_model(library: Library) -> Dict[str, bytes]:
    """The program's own model as the interpreter's arguments; none where the library is too old for it."""
    found = re.search(r"RuntimeVersion\((\d+)\)", library.version())
    if found and int(found.group(1)) < trial_model.MIN_RUNTIME:
        return {}
    return {"model_content": trial_model.content()}


def _say(**about: Any) -> None:
    sys.stdout.write(json.dumps(about) + "\n")
    sys.stdout.flush()


def main() -> None:
    """The program."""
    path, node, model, seconds, wait = sys.argv[1:6]
    try:
        run(path, node, model, int(seconds), float(wait))
    except TpuError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
