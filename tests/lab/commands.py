"""The commands as a person gives them, and the nodes behind them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

from clusteradm.lab import Lab

SHARED = "/srv/cluster"
SECONDS = 300.0  # for any command, also on a busy machine


def _take_interrupts() -> None:
    """A test run in the background ignores Ctrl-C, and so would its children; a person's command does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ill(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The errors and warnings of health, without slow links: how fast they are is a matter of the machine's load."""
    return [each for each in document["findings"] if each["severity"] != "ok" and each["state"] != "SLOW_LINK"]


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
        out, err = process.communicate(timeout=SECONDS)
        assert process.returncode == expect, f"{args}: {process.returncode}\n{out}\n{err}"
        return out, err

    def infer(self, *args: object, expect: int = 0) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.run("infer", *args, "--json", expect=expect)[0])
        return document

    def health(self, *args: object, expect: int | None = 0) -> dict[str, Any]:
        """The document of `health --json`, with its errors and warnings as "not_ok". `expect`: None for any status."""
        process = self.start("health", "--json", *args)
        out, err = process.communicate(timeout=SECONDS)
        document: dict[str, Any] = json.loads(out)
        document["not_ok"] = ill(document)
        only_links = any(finding["severity"] != "ok" for finding in document["findings"]) and not document["not_ok"]
        status = 0 if only_links else process.returncode
        assert expect in (None, status), f"{process.returncode}\n{document['not_ok']}\n{err}"
        return document

    def well(self) -> None:
        """Wait until health finds nothing wrong: what was restarted or restored is itself again by and by."""
        deadline = time.monotonic() + SECONDS
        while ill := self.health(expect=None)["not_ok"]:
            assert time.monotonic() < deadline, ill
            time.sleep(1)

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
