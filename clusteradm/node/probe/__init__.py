"""Probes: what a host is like right now. They only report; the admin side judges.

Each probe reads below a root that tests can set, and gives None for what is not there: a missing file is an answer.
"""

import importlib
import os
from typing import Any, Callable, Dict, Optional

# Name of the section in the document -> module with `probe(root, options)`.
SECTIONS = ("system", "machine", "tpu", "network", "links", "share", "runtime")


def run(request: Dict[str, Any], reply: Callable[[Dict[str, Any]], None]) -> Dict[str, Any]:
    """Run the sections asked for (all, unless named) and return one document.

    `request`: {"sections": [...], "options": {"shared", "user", "names", "interface", "head"}}. A section that fails is
    {"error": text}; the others are there all the same.
    """
    document: Dict[str, Any] = {"host": os.uname().nodename}
    for name in request.get("sections") or SECTIONS:
        module = importlib.import_module("clusteradm.node.probe." + name)
        try:
            document[name] = module.probe("/", request.get("options", {}))
        except Exception as error:  # one broken probe must not hide what the others saw
            document[name] = {"error": "%s: %s" % (type(error).__name__, error)}
    return {"document": document}


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
