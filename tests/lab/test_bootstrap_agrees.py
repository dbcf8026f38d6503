"""bootstrap.yml by either program leads to a cluster at which the other one finds nothing to change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from agreement import Results, run_ansible

from clusteradm import shipped
from clusteradm.lab import Lab

pytestmark = pytest.mark.lab

BOOTSTRAP = shipped.PLAYBOOKS / "bootstrap.yml"


def changed(results: Results) -> list[str]:
    return [
        " / ".join(key) for key, found in results.items() for one in found if one["_status"] in ("changed", "failed")
    ]


def test_after_clusteradm_ansible_changes_nothing(cluster_lab: Lab) -> None:
    results, stats = run_ansible(cluster_lab.inventory, BOOTSTRAP)
    assert changed(results) == []
    assert len(stats) == 4
    for host, counts in stats.items():
        assert (counts["changed"], counts["failures"], counts["unreachable"]) == (0, 0, 0), host
        assert counts["ok"] > 20, host


@pytest.fixture(scope="module")
def two_boards(lab_machine: None) -> Iterator[Lab]:
    lab = Lab(f"pytest-{os.getpid()}-two")
    try:
        lab.up(2)
        yield lab
    finally:
        lab.down()


def test_after_ansible_clusteradm_changes_nothing(two_boards: Lab) -> None:
    _, stats = run_ansible(two_boards.inventory, BOOTSTRAP)
    for host, counts in stats.items():
        assert (counts["failures"], counts["unreachable"]) == (0, 0), host
        assert counts["changed"] > 10, host
    command = [sys.executable, "-m", "clusteradm", "bootstrap", "--json", "-i", str(two_boards.inventory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    for name, host in json.loads(done.stdout)["hosts"].items():
        tasks = [task["task"] for task in host["tasks"] if task["status"] == "changed"]
        assert (tasks, host["changed"], host["failed"]) == ([], 0, 0), name
