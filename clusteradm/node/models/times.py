"""Time that an inference takes on this host's CPU: of models that are not stored, but sent for it."""

import json
import os
import shutil
import tempfile
from typing import Any, Dict, List

from clusteradm.node import blobs, child
from clusteradm.node.account import as_user
from clusteradm.node.child import PYTHON
from clusteradm.node.handler import handles
from clusteradm.node.probe.programs import run_all
from clusteradm.node.spec.wire.repository import ModelTimes, TimeModels

_SECONDS = 600.0  # for all of them
_MOST_TEXT = 500


@handles(TimeModels)
def measure(request: TimeModels) -> ModelTimes:
    """Run each of them in one process of the cluster user, by the runtime of its ranks."""
    if not os.path.exists(PYTHON):
        return ModelTimes((), "it has no runtime yet: run clusteradm bootstrap")
    folder = tempfile.mkdtemp(prefix="clusteradm-times-")
    try:
        os.chmod(folder, 0o755)  # noqa: S103 - the cluster user reads there
        paths: List[str] = []
        for number, sha256 in enumerate(request.models):
            path = os.path.join(folder, "%d.tflite" % number)
            shutil.copyfile(blobs.path_of(sha256), path)
            os.chmod(path, 0o444)
            paths.append(path)
        command = child.command(PYTHON, "edgetpu.times", *paths)
        ended: Dict[str, Any] = as_user(request.user, lambda: run_all([command], _SECONDS)[0], _SECONDS + 5)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for sha256 in request.models:
            blobs.drop(sha256)
    return _judged(ended, len(request.models))


def _judged(ended: Dict[str, Any], wanted: int) -> ModelTimes:
    taken: List[float] = []
    refused = ""
    for line in ended["out"].splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue  # a library that writes to standard output
        if isinstance(said, dict) and isinstance(said.get("ms"), float):
            taken.append(said["ms"])
        elif isinstance(said, dict) and "refused" in said:
            refused = str(said["refused"])
    if len(taken) == wanted:
        return ModelTimes(tuple(taken))
    if not refused and ended["timeout"]:
        refused = "it did not end within %d s" % _SECONDS
    if not refused and ended["status"] is not None and ended["status"] < 0:
        refused = "its runtime ends by signal %d" % -ended["status"]
    return ModelTimes(tuple(taken), (refused or " ".join(ended["err"][-1:]) or "no answer")[:_MOST_TEXT])
