"""The commands as a person gives them, and the nodes behind them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

from clusteradm.lab import Lab

SHARED = "/srv/cluster"


def _take_interrupts() -> None:
    """A test run in the background ignores Ctrl-C, and so would its children; a person's command does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Cluster:
    """A lab that was bootstrapped."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.env = {**os.environ, "CLUSTERADM_INVENTORY": str(lab.inventory)}

    def start(self, *args: object, **more: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "clusteradm", *map(str, args)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "preexec_fn": _take_interrupts}
        return subprocess.Popen(command, env=self.env, **{**pipes, **more})

    def run(self, *args: object, expect: int = 0) -> tuple[str, str]:
        process = self.start(*args)
        out, err = process.communicate(timeout=180)
        assert process.returncode == expect, f"{args}: {process.returncode}\n{out}\n{err}"
        return out, err

    def infer(self, *args: object, expect: int = 0) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.run("infer", *args, "--json", expect=expect)[0])
        return document

    def health(self, *args: object, expect: int = 0) -> dict[str, Any]:
        """The document of `health --json`, with its errors and warnings as "not_ok".

        Without slow links: how fast they are is a matter of what else the machine does.
        """
        process = self.start("health", "--json", *args)
        out, err = process.communicate(timeout=180)
        document: dict[str, Any] = json.loads(out)
        ill = [finding for finding in document["findings"] if finding["severity"] != "ok"]
        document["not_ok"] = [finding for finding in ill if finding["state"] != "SLOW_LINK"]
        only_links = bool(ill) and not document["not_ok"]
        assert (0 if only_links else process.returncode) == expect, f"{process.returncode}\n{ill}\n{err}"
        return document

    def on(self, node: str, *argv: str, check: bool = True) -> str:
        return str(self.lab.exec(node, list(argv), check=check, timeout=120).stdout)

    def restore(self) -> None:
        """Undo every fault of the boards."""
        for name, node in self.lab.status()["nodes"].items():
            if node["fault"] or node["state"] != "running":
                self.lab.restore(name)

    @property
    def nodes(self) -> list[str]:
        return sorted(self.lab.status()["nodes"])
