"""Trial of a deployed model on this host: whether the runtime of its ranks can load it. No TPU is opened."""

import json
import os
from typing import Any, Dict, Optional

from clusteradm.node import child
from clusteradm.node.account import AccountError, as_user
from clusteradm.node.child import PYTHON
from clusteradm.node.probe.programs import run_all

# A board reads the model from the network and imports the runtime first; neither says anything about the model.
_SECONDS = 40.0
_MOST_TEXT = 500


def refusal(user: str, model: str, target: str, python: str = PYTHON) -> Optional[str]:
    """Why the runtime of `user`'s ranks cannot load the model at this path; None where it can, and where that cannot be
    tried: without a runtime, or in time. `target`: FOR_TPU or FOR_CPU of node/spec/wire/repository.py."""
    if not os.path.exists(python):
        return None
    command = child.command(python, "edgetpu.loading", model, target)
    try:
        ended: Dict[str, Any] = as_user(user, lambda: run_all([command], _SECONDS)[0], _SECONDS + 5)
    except AccountError:
        return None
    for line in reversed(ended["out"].splitlines()):
        try:
            said = json.loads(line)
        except ValueError:
            continue  # a library that writes to standard output
        if isinstance(said, dict) and "stage" in said:
            return _refusal(said, ended)
    return None


def _refusal(said: Dict[str, Any], ended: Dict[str, Any]) -> Optional[str]:
    if said.get("refused"):
        return str(said["refused"])[:_MOST_TEXT]
    status = ended["status"]
    if said["stage"] == "load" and status is not None and status < 0 and not ended["timeout"]:
        return "its runtime ends by signal %d when it loads the model" % -status
    return None
