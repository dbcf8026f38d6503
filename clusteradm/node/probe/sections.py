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
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

from clusteradm.node.account import AccountTimeout, kill_session, read_reply
from clusteradm.node.probe import pace

# Name of the section in the document and of its module -> seconds that it may take, at a usual pace (pace.py).
# A trial imports a runtime and waits for a chip; the section "tpu" waits for the trial.
SECTIONS = {
    "system": 8.0,
    "machine": 8.0,
    "tpu": 50.0,
    "network": 8.0,
    "links": 8.0,
    "login": 8.0,
    "share": 13.0,
    "export": 8.0,
    "runtime": 35.0,
    "trial": 80.0,
}
# For a section's process to start, which is no fault of what it asks.
_START_SECONDS = 60.0


def run(request: Dict[str, Any], reply: Callable[[Dict[str, Any]], None]) -> Dict[str, Any]:
    """Run the named sections, or all, side by side, and return one document.

    `request`: {"sections": [...], "options": {"shared", "user", "names", "interface", "address", "subnet", "head"}}.
    A section that fails is {"error": text}, one that takes too long {"error": text, "timeout": true}, without effect on
    the others. "seconds": each one's duration; "load": see pace.load().
    """
    options = request.get("options", {})
    running = {name: _begin(name, options) for name in request.get("sections") or SECTIONS}
    document: Dict[str, Any] = {"host": os.uname().nodename, "seconds": {}}
    lags = []
    # One thread each: no section waits with a full pipe until those before it are read.
    with ThreadPoolExecutor(len(running)) as pool:
        for name, ended in zip(running, pool.map(lambda name: _end(name, *running[name]), running)):
            document[name] = ended.result
            if ended.seconds is not None:
                document["seconds"][name] = ended.seconds
            if ended.lag is not None:
                lags.append(ended.lag)
    document["load"] = pace.load("/", lags)
    return {"document": document}


def _begin(name: str, options: Dict[str, Any]) -> Tuple[int, int]:
    """Start a section in a process of its own; (process id, pipe: the seconds that its start took, then its reply)."""
    forked = time.monotonic()
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    try:
        # A session of its own: when its time is over, all that it has started is ended with it.
        os.setsid()
        os.close(reader)
        module = None
        try:
            module = importlib.import_module("clusteradm.node.probe." + name)
            result: Any = None
        except Exception as error:  # one broken section must not hide the others
            result = {"error": "%s: %s" % (type(error).__name__, error)}
        begun = time.monotonic()
        pace.follow(begun - forked)
        os.write(writer, b"%.3f\n" % (begun - forked))
        # Should the session end before: it is what would have ended this process.
        signal.alarm(int(pace.seconds(SECTIONS[name])) + 2)
        if module is not None:
            try:
                result = module.probe("/", options)
            except Exception as error:
                result = {"error": "%s: %s" % (type(error).__name__, error)}
        with os.fdopen(writer, "w", encoding="utf-8") as file:
            file.write(json.dumps([result, round(time.monotonic() - begun, 3)]) + "\n")
    finally:
        # Not sys.exit: this is a copy of the session, whose buffers and exit handlers are the parent's alone.
        os._exit(0)


class _Ended(NamedTuple):
    """The section's reply; its duration in seconds, None if it did not end; how long its start took, None likewise."""

    result: Any
    seconds: Optional[float]
    lag: Optional[float]


def _end(name: str, child: int, reader: int) -> _Ended:
    lag = None
    try:
        data = read_reply(reader, _START_SECONDS)
        first, _, rest = data.partition(b"\n")
        lag = float(first)
        limit = pace.seconds(SECTIONS[name], pace.factor(lag))
        result, seconds = json.loads((rest or read_reply(reader, limit)).decode("utf-8", "replace"))
        os.waitpid(child, 0)
        return _Ended(result, seconds, lag)
    except AccountTimeout as error:
        kill_session(child)
        os.waitpid(child, os.WNOHANG)  # one that hangs where no signal reaches it is left behind
        return _Ended({"error": str(error), "timeout": True}, None, lag)
    except ValueError:
        os.waitpid(child, 0)
        return _Ended({"error": "the probe's process died"}, None, lag)
    finally:
        os.close(reader)
