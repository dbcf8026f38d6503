"""bootstrap.yml by ansible-playbook leads to a cluster at which clusteradm finds nothing to change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from agreement import run_ansible

from clusteradm import shipped
from clusteradm.lab import Lab

pytestmark = pytest.mark.lab

BOOTSTRAP = shipped.PLAYBOOKS / "bootstrap.yml"


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
