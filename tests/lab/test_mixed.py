"""Hosts of several kinds in one cluster: Debian 12 and 13, three network tools, one Open MPI for all. One lab."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Cluster

from clusteradm.lab import Lab
from clusteradm.lab.digits import data

pytestmark = pytest.mark.lab

MODEL = Path(data.__file__).with_name("digits.tflite")
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
    out, err = process.communicate(timeout=600)
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
    assert mixed.health()["not_ok"] == []


def test_every_result_is_right_also_without_a_host_that_lost_its_power(mixed: Cluster, tmp_path: Path) -> None:
    digits = data.load().held_out
    images, truth, compiled = tmp_path / "images", tmp_path / "truth.csv", tmp_path / "digits_edgetpu.tflite"
    data.write_images(digits, images, truth)
    for copy in range(9):
        shutil.copytree(images, tmp_path / f"more-{copy}", copy_function=os.link)
    mixed.run("lab", "compile-model", MODEL, "--output", compiled)
    mixed.run("deploy-model", compiled, "--name", "digits", "--labels", MODEL.with_name("labels.txt"))
    whole = mixed.infer("--model", "digits", images, "--truth", truth, "--output", tmp_path / "whole.jsonl")
    assert whole["accuracy"]["right"] / len(digits.images) > 0.95
    assert sorted(rank["host"] for rank in whole["ranks"] if rank["images"]) == ["head", "w1", "w2"]

    many = [images, *(tmp_path / f"more-{copy}" for copy in range(9))]
    job = mixed.start("infer", "--model", "digits", *many, "--output", tmp_path / "lost.jsonl", "--json")
    journal = "cat /srv/cluster/jobs/*/journal.jsonl | wc -l"
    done = int(mixed.on("head", "sh", "-c", journal))
    try:
        while int(mixed.on("head", "sh", "-c", journal)) < done + 50:
            assert job.poll() is None
        mixed.lab.fault("w2", "power")
        out, err = job.communicate(timeout=90)
    finally:
        job.kill()
        mixed.lab.restore("w2")
    assert job.returncode == 0, err
    document = json.loads(out)
    assert document["attempts"] == 2 and document["images"] == 10 * len(digits.images)
    answers = [json.loads(line)["top"][0]["label"] for line in (tmp_path / "lost.jsonl").read_text().splitlines()]
    alone = [json.loads(line)["top"][0]["label"] for line in (tmp_path / "whole.jsonl").read_text().splitlines()]
    assert answers == alone * 10
