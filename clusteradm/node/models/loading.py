"""Trial of a deployed model on this host: whether the runtime of its ranks can load it. No TPU is opened."""

import json
import os
from typing import Any, Dict, NamedTuple, Optional

from clusteradm.node import child
from clusteradm.node.account import AccountError, as_user
from clusteradm.node.child import PYTHON
from clusteradm.node.probe.programs import run_all

# A board reads the model from the network and imports the runtime first; neither says anything about the model.
_SECONDS = 40.0
_MOST_TEXT = 500


class Trial(NamedTuple):
    """Outcome: not `tried` without a runtime, or in time; `refused`: why the runtime cannot load the model."""

    tried: bool
    refused: Optional[str] = None


_NOT_TRIED = Trial(False)


def trial(user: str, model: str, target: str, python: str = PYTHON) -> Trial:
    """Have the runtime of `user`'s ranks load the model at this path. `target`: FOR_TPU or FOR_CPU of
    node/spec/wire/repository.py."""
    if not os.path.exists(python):
        return _NOT_TRIED
    command = child.command(python, "edgetpu.loading", model, target)
    try:
        ended: Dict[str, Any] = as_user(user, lambda: run_all([command], _SECONDS)[0], _SECONDS + 5)
    except AccountError:
        return _NOT_TRIED
    for line in reversed(ended["out"].splitlines()):
        try:
            said = json.loads(line)
        except ValueError:
            continue  # a library that writes to standard output
        if isinstance(said, dict) and "stage" in said:
            return _judged(said, ended)
    return _NOT_TRIED


def _judged(said: Dict[str, Any], ended: Dict[str, Any]) -> Trial:
    if said.get("refused"):
        return Trial(True, str(said["refused"])[:_MOST_TEXT])
    status = ended["status"]
    if said["stage"] == "load" and status is not None and status < 0 and not ended["timeout"]:
        return Trial(True, "its runtime ends by signal %d when it loads the model" % -status)
    return Trial(said["stage"] == "done")
