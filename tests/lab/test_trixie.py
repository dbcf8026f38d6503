"""Debian 13: Python 3.13, Ganesha 6.5, Open MPI 5, whose launcher has settings of its own. One lab for all of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import lost_host
import pytest
from commands import Cluster

from clusteradm.lab import Lab

pytestmark = pytest.mark.lab

SERVER = "/etc/ganesha/ganesha.conf"


@pytest.fixture(scope="module")
def trixie(lab_machine: None) -> Iterator[Cluster]:
    """A head and two compute nodes, bare."""
    lab = Lab(f"pytest-{os.getpid()}-trixie", say=lambda text: print(text, file=sys.stderr))
    try:
        lab.up(3, suites=["trixie"])
        yield Cluster(lab)
    finally:
        lab.down()


def changed(cluster: Cluster) -> dict[str, int]:
    process = cluster.start("bootstrap", "--json")
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, f"{out[-3000:]}\n{err[-3000:]}"
    return {name: host["changed"] for name, host in json.loads(out)["hosts"].items()}


def test_bare_boards_become_a_cluster_and_a_second_run_changes_nothing(trixie: Cluster) -> None:
    assert all(count > 0 for count in changed(trixie).values())
    assert changed(trixie) == {"head": 0, "w1": 0, "w2": 0}
    for node in ("w1", "w2"):
        assert trixie.on(node, "findmnt", "-n", "-o", "FSTYPE,SOURCE", "/srv/cluster").split()[:2] == [
            "fuse.nfs4",
            "head:/cluster",
        ]
    # What the head replaces by its own path, as the desired state of serving, is there for the others.
    for number in ("1", "2", "3"):
        trixie.on("head", "sh", "-c", f"cd /srv/cluster && echo {number} >.new && mv .new replaced")
        assert [trixie.on(node, "cat", "/srv/cluster/replaced").strip() for node in ("w1", "w2")] == [number] * 2
    trixie.on("head", "rm", "/srv/cluster/replaced")
    # What the launcher itself says that it goes by.
    said = trixie.on("head", "sh", "-c", "cd / && HOME=/home/cluster runuser -u cluster -- prte_info --all")
    for name, value in (
        ("prte_if_include", "10.78.0.0/24"),
        ("oob_tcp_keepalive_time", "2"),
        ("plm_ssh_no_tree_spawn", "1"),
    ):
        assert f'"{name}" (current value: "{value}"' in " ".join(said.split())


def test_three_faults_each_with_its_cause(trixie: Cluster) -> None:
    trixie.lab.fault("head", "hot")
    trixie.lab.fault("w1", "wedged")
    trixie.lab.fault("w2", "permission")
    try:
        tpus = [finding for finding in trixie.health(expect=3)["not_ok"] if finding["check"] == "tpu"]
    finally:
        trixie.restore()
    found = {finding["subject"].split()[0]: finding["state"] for finding in tpus}
    assert found == {"head": "THROTTLED", "w1": "WEDGED", "w2": "NO_PERMISSION"}
    trixie.well()


def test_a_job_goes_on_without_a_host_that_lost_its_power(trixie: Cluster, tmp_path: Path) -> None:
    assert len(lost_host.check(trixie, tmp_path)["ranks"]) == 3


# The last: what was running counts on the server for some time after a restart.
def test_a_server_that_ends_at_once_is_named_with_its_last_words(trixie: Cluster) -> None:
    # Without the setting that a container needs, by a drop-in of somebody else's.
    dropin, quiet = (
        "/run/systemd/system/nfs-ganesha.service.d",
        "systemctl daemon-reload; systemctl restart nfs-ganesha",
    )
    start = "ExecStart=/usr/bin/ganesha.nfsd -f /run/broken.conf -L /var/log/ganesha/ganesha.log"
    broken = f"mkdir -p {dropin}; printf '[Service]\\nExecStart=\\n{start}\\n' >{dropin}/z.conf; {quiet}"
    trixie.on("head", "sh", "-ec", f"grep -v io_flusher {SERVER} >/run/broken.conf; {broken}")
    try:
        said = trixie.run("bootstrap", "--limit", "head", expect=3)[0]
    finally:
        trixie.on("head", "sh", "-ec", f"rm -r {dropin}; {quiet}")
    assert "takes no connections at 10.78.0.1, port 2049" in said
    assert "Failed to PR_SET_IO_FLUSHER with EPERM" in said
