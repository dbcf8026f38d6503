"""The real node program as a process of this machine, with its state in a folder of the test."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clusteradm.node.spec.wire.fleet import ResetOutcome, ResetTpu
from clusteradm.node.spec.wire.node import Apply
from clusteradm.transport import Node


def pythons() -> list[str]:
    """This Python, and the one that boards have, where there is one that runs (a version manager's shim may not)."""
    found = [sys.executable]
    old = shutil.which("python3.7")
    if old and subprocess.run([old, "--version"], capture_output=True).returncode == 0:
        found.append(old)
    return found


PYTHONS = pythons()


@pytest.fixture(params=PYTHONS, ids=lambda path: Path(path).name)
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Node]]:
    """Starts node programs that share one state; they are ended with the test."""
    nodes: list[Node] = []

    def one() -> Node:
        env = {**os.environ, "CLUSTERADM_STATE": str(tmp_path / "state")}
        nodes.append(Node.local(python=request.param, env=env))
        return nodes[-1]

    yield one
    for node in nodes:
        node.close()


@pytest.fixture
def do(start: Callable[[], Node]) -> Callable[..., dict[str, Any]]:
    """Run one task and return its result with its status."""
    node = start()
    count = iter(range(1000))

    def one(module: str, check: bool = False, body: bytes | None = None, **args: Any) -> dict[str, Any]:
        if body is not None:
            args["blob"] = hashlib.sha256(body).hexdigest()
            node.put_blobs({args["blob"]: body})
        task = {"index": 0, "name": "", "module": module, "args": args, "items": None, "check": check, "diff": True}
        for reply in node.ask(Apply(f"m{next(count)}", [task]), timeout=30):
            if reply.event.kind == "result":
                return {**reply.event.result, "status": reply.event.status}
        raise AssertionError("no result")

    return one


@pytest.fixture
def reset(start: Callable[[], Node], kernel: Any) -> Callable[..., ResetOutcome]:
    """Resets an Edge TPU. `kernel`: the test's own, which plays one on the files below its `root`."""
    node = start()

    def one(name: str, user: str = "cluster", seconds: float = 20.0) -> ResetOutcome:
        return node.call(ResetTpu(name, user, seconds, str(kernel.root)), timeout=60)

    return one
