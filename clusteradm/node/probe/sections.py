"""Sections of a probe's document, each in a process of its own with a time limit.

A section is a module of this package with `probe(root, options)`. It reads below `root`, which tests set, and gives
None for what the host does not have: a missing file is an answer, not an error.
"""

import importlib
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, Optional, Tuple

from clusteradm.node.account import AccountTimeout, read_reply

# Name of the section in the document and of its module -> seconds that it may take.
# A trial imports a runtime and waits for a chip; the section "tpu" waits for the trial.
SECTIONS = {
    "system": 8.0,
    "machine": 8.0,
    "tpu": 50.0,
    "network": 8.0,
    "links": 8.0,
    "share": 8.0,
    "export": 8.0,
    "runtime": 35.0,
    "trial": 80.0,
}


def run(request: Dict[str, Any], reply: Callable[[Dict[str, Any]], None]) -> Dict[str, Any]:
    """Run the named sections, or all, side by side, and return one document.

    `request`: {"sections": [...], "options": {"shared", "user", "names", "interface", "address", "subnet", "head"}}.
    A section that fails, or takes too long, is {"error": text}, without effect on the others. "seconds": each one's
    duration.
    """
    options = request.get("options", {})
    running = {name: _begin(name, options) for name in request.get("sections") or SECTIONS}
    document: Dict[str, Any] = {"host": os.uname().nodename, "seconds": {}}
    # One thread each: no section waits with a full pipe until those before it are read.
    with ThreadPoolExecutor(len(running)) as pool:
        for name, (result, seconds) in zip(running, pool.map(lambda name: _end(name, *running[name]), running)):
            document[name] = result
            if seconds is not None:
                document["seconds"][name] = seconds
    return {"document": document}


def _begin(name: str, options: Dict[str, Any]) -> Tuple[int, int]:
    """Start a section in a process of its own; (process id, pipe of its reply)."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    try:
        os.close(reader)
        begun = time.monotonic()
        try:
            module = importlib.import_module("clusteradm.node.probe." + name)
            result = module.probe("/", options)
        except Exception as error:  # one broken section must not hide the others
            result = {"error": "%s: %s" % (type(error).__name__, error)}
        with os.fdopen(writer, "w", encoding="utf-8") as file:
            file.write(json.dumps([result, round(time.monotonic() - begun, 3)]) + "\n")
    finally:
        # Not sys.exit: this is a copy of the session, whose buffers and exit handlers are the parent's alone.
        os._exit(0)


def _end(name: str, child: int, reader: int) -> Tuple[Any, Optional[float]]:
    """The section's reply and its duration in seconds, None if it did not end."""
    try:
        result, seconds = json.loads(read_reply(reader, SECTIONS[name]).decode("utf-8", "replace"))
        os.waitpid(child, 0)
        return result, seconds
    except AccountTimeout as error:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, os.WNOHANG)  # one that hangs where no signal reaches it is left behind
        return {"error": str(error)}, None
    except ValueError:
        os.waitpid(child, 0)
        return {"error": "the probe's process died"}, None
    finally:
        os.close(reader)
