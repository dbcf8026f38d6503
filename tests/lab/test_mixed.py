"""Hosts of several kinds in one cluster: Debian 12 and 13, three network tools, one Open MPI for all. One lab."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lost_host
import pytest
from commands import Cluster

from clusteradm.lab import Lab

pytestmark = pytest.mark.lab

SUITES, NETWORKS = ("bookworm", "trixie", "trixie"), ("networkmanager", "networkd", "ifupdown")
ONE_FOR_ALL = "    cluster_mpi: wheel\n"


@pytest.fixture(scope="module")
def mixed(lab_machine: None) -> Iterator[Cluster]:
    """A head and two compute nodes, bare, of which no two are of one kind."""
    lab = Lab(f"pytest-{os.getpid()}-mixed", say=lambda text: print(text, file=sys.stderr))
    try:
        lab.up(3, suites=SUITES, networks=NETWORKS)
        yield Cluster(lab)
    finally:
        lab.down()


def bootstrap(cluster: Cluster, *args: object, expect: int = 0) -> dict[str, Any]:
    process = cluster.start("bootstrap", "--json", *args)
    out, err = process.communicate(timeout=900)
    assert process.returncode == expect, f"{out[-3000:]}\n{err[-3000:]}"
    hosts: dict[str, Any] = json.loads(out)["hosts"]
    return hosts


def test_without_one_open_mpi_the_hosts_are_told_apart_before_any_job(mixed: Cluster) -> None:
    text = mixed.lab.inventory.read_text(encoding="utf-8")
    assert text.count(ONE_FOR_ALL) == 1
    mixed.lab.inventory.write_text(text.replace(ONE_FOR_ALL, ""), encoding="utf-8")
    try:
        hosts = bootstrap(mixed, expect=3)
        found = [one for one in mixed.health(expect=3)["not_ok"] if one["check"] == "drift"]
    finally:
        mixed.lab.inventory.write_text(text, encoding="utf-8")
    stopped = {
        name: task["result"]["msg"]
        for name, host in hosts.items()
        for task in host["tasks"]
        if task["status"] == "failed" and task["task"].startswith("Open MPI")
    }
    assert set(stopped) == {"w1", "w2"}
    for text in stopped.values():
        assert "Set cluster_mpi: wheel in the inventory" in text
    assert {(one["subject"], one["state"]) for one in found} == {(name, "MPI_GENERATION") for name in ("w1", "w2")}
    assert all(one["remedy"].startswith("set cluster_mpi: wheel in the inventory") for one in found)


def test_with_one_they_become_a_cluster_and_a_second_run_changes_nothing(mixed: Cluster) -> None:
    said = {
        name: task["result"]["msg"]
        for name, host in bootstrap(mixed).items()
        for task in host["tasks"]
        if task["task"] == "The cluster's network"
    }
    assert said == {
        "head": "eth0 is configured by NetworkManager",
        "w1": "enp2s0 is configured by systemd-networkd",
        "w2": "enp2s0 is configured by ifupdown",
    }
    assert {name: host["changed"] for name, host in bootstrap(mixed).items()} == {"head": 0, "w1": 0, "w2": 0}
    ask = "import sys; from mpi4py import MPI; print(sys.version_info[1], MPI.Get_library_version().split(',')[0])"
    version = ["/opt/clusteradm/bin/python3", "-c", f"import mpi4py; mpi4py.rc.initialize = False; {ask}"]
    assert [mixed.on(name, *version).strip() for name in ("head", "w1", "w2")] == [
        "11 Open MPI v5.0.11",
        "13 Open MPI v5.0.11",
        "13 Open MPI v5.0.11",
    ]
    mixed.well()


def test_every_result_is_right_also_without_a_host_that_lost_its_power(mixed: Cluster, tmp_path: Path) -> None:
    whole = lost_host.check(mixed, tmp_path)
    assert sorted(rank["host"] for rank in whole["ranks"] if rank["images"]) == ["head", "w1", "w2"]
