"""The oldest release that can be had, with a Python 3.7 on the node: a board's distance from the admin's machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from clusteradm.inventory import load
from clusteradm.lab import Lab, LabError
from clusteradm.node.spec.wire.node import Hello
from clusteradm.transport import Connections

pytestmark = pytest.mark.lab

PYTHON = "/usr/bin/pypy3"


@pytest.fixture(scope="module")
def old_lab(lab_machine: None) -> Iterator[Lab]:
    """A head and one compute node of bullseye; their node package runs under PyPy, which is a Python 3.7."""
    lab = Lab(f"pytest-{os.getpid()}-bullseye", say=lambda text: print(text, file=sys.stderr))
    try:
        try:
            lab.up(2, suites=["bullseye"], python=PYTHON)
        except LabError as error:
            if "base-bullseye" in str(error) or "mmdebstrap" in str(error):
                pytest.skip(f"bullseye cannot be had any more: {error}")
            raise
        yield lab
    finally:
        lab.down()


def clusteradm(lab: Lab, *args: str, expect: int = 0) -> dict[str, Any]:
    environment = {**os.environ, "CLUSTERADM_INVENTORY": str(lab.inventory)}
    command = [sys.executable, "-m", "clusteradm", *args, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == expect, done.stderr[-3000:]
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_the_node_package_runs_under_python_3_7(old_lab: Lab) -> None:
    said = old_lab.exec("w1", [PYTHON, "--version"]).stdout
    assert said.startswith("Python 3.7.")
    cluster = load(old_lab.inventory)
    with Connections(cluster, cluster.path.parent / "known_hosts") as connections:
        for host in cluster.hosts.values():
            assert connections.node(host).call(Hello()).python.startswith("3.7.")


def test_bootstrap_health_and_a_second_run(old_lab: Lab) -> None:
    clusteradm(old_lab, "bootstrap")
    assert str(old_lab.exec("w1", ["findmnt", "-n", "-o", "FSTYPE", "/srv/cluster"]).stdout).strip() == "fuse.nfs4"
    hello = "cd && HOME=/home/cluster runuser -u cluster -- mpirun --host head,w1 -np 2 cat /etc/hostname"
    assert sorted(str(old_lab.exec("head", ["sh", "-c", hello], timeout=120).stdout).split()) == ["head", "w1"]
    document = clusteradm(old_lab, "health")
    assert [finding for finding in document["findings"] if finding["severity"] != "ok"] == []
    assert {"export", "mpi", "nfs", "tpu"} <= {finding["check"] for finding in document["findings"]}
    second = clusteradm(old_lab, "bootstrap")
    assert [host["changed"] for host in second["hosts"].values()] == [0, 0]
