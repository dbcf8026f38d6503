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


def by_ansible(lab: Lab) -> dict[str, dict[str, int]]:
    """Run it; the counts of each host, on which nothing failed."""
    _, stats = run_ansible(lab.inventory, BOOTSTRAP)
    for host, counts in stats.items():
        assert (counts["failures"], counts["unreachable"]) == (0, 0), host
    return stats


def nothing_to_change(lab: Lab) -> None:
    command = [sys.executable, "-m", "clusteradm", "bootstrap", "--json", "-i", str(lab.inventory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    for name, host in json.loads(done.stdout)["hosts"].items():
        tasks = [task["task"] for task in host["tasks"] if task["status"] == "changed"]
        assert (tasks, host["changed"], host["failed"]) == ([], 0, 0), name


def test_after_ansible_clusteradm_changes_nothing(two_boards: Lab) -> None:
    stats = by_ansible(two_boards)
    assert len(stats) == 2 and all(counts["changed"] > 10 for counts in stats.values())
    nothing_to_change(two_boards)


def test_one_open_mpi_for_all_by_ansible(two_boards: Lab) -> None:
    """The wheel on hosts that had the distribution's before."""
    text = two_boards.inventory.read_text(encoding="utf-8")
    user = "    ansible_user: mendel\n"
    assert text.count(user) == 1
    two_boards.inventory.write_text(text.replace(user, f"{user}    cluster_mpi: wheel\n"), encoding="utf-8")
    assert all(counts["changed"] > 0 for counts in by_ansible(two_boards).values())
    nothing_to_change(two_boards)
    for board in ("head", "w1"):
        done = two_boards.exec(board, ["/opt/clusteradm/bin/mpirun", "--version"], timeout=60)
        assert "Open MPI) 5." in done.stdout
