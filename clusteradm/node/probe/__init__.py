"""Probes: what a host is like right now. They only report; the admin side judges.

Each probe reads below a root that tests can set, and gives None for what is not there: a missing file is an answer.
"""

import importlib
import json
import os
import subprocess
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

# Name of the section in the document -> module with `probe(root, options)`.
SECTIONS = ("system", "machine", "tpu", "network", "links", "share", "runtime", "trial")


def run(request: Dict[str, Any], reply: Callable[[Dict[str, Any]], None]) -> Dict[str, Any]:
    """Run the sections asked for (all, unless named), side by side, and return one document.

    `request`: {"sections": [...], "options": {"shared", "user", "names", "interface", "head"}}. A section that fails is
    {"error": text}; the others are there all the same. "seconds": how long each took.
    """
    options = request.get("options", {})
    running = {name: _begin(name, options) for name in request.get("sections") or SECTIONS}
    document: Dict[str, Any] = {"host": os.uname().nodename, "seconds": {}}
    for name, (child, reader) in running.items():
        with os.fdopen(reader, encoding="utf-8") as file:
            text = file.read()
        os.waitpid(child, 0)
        try:
            document[name], document["seconds"][name] = json.loads(text)
        except ValueError:
            document[name] = {"error": "the probe's process died"}
    return {"document": document}


def _begin(name: str, options: Dict[str, Any]) -> Tuple[int, int]:
    """Start a section in a process of its own; (its number, where its answer can be read)."""
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
            answer = module.probe("/", options)
        except Exception as error:  # one broken probe must not hide what the others saw
            answer = {"error": "%s: %s" % (type(error).__name__, error)}
        with os.fdopen(writer, "w", encoding="utf-8") as file:
            json.dump([answer, round(time.monotonic() - begun, 3)], file)
    finally:
        # Not sys.exit: this is a copy of the session, whose buffers and exit handlers are the parent's alone.
        os._exit(0)


def read(*parts: str) -> Optional[str]:
    """A small file's text without the white space around it; None if it is not there or cannot be read."""
    try:
        with open(os.path.join(*parts), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def names(*parts: str) -> Any:
    """The names in a directory, sorted; none if it is not there."""
    try:
        return sorted(os.listdir(os.path.join(*parts)))
    except OSError:
        return []


def number(text: Optional[str]) -> Optional[int]:
    """A file's whole number; None where it is not there or holds something else."""
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def output(command: List[str], seconds: float = 10.0) -> Optional[str]:
    """What a program says; None where it is not there or does not end in time."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=seconds)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace")
