"""Boards at hand: files to and from them, reboots in turns; by the boards' own tools."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Cluster

from clusteradm.lab import Lab

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def boards(lab_machine: None) -> Iterator[Cluster]:
    """Three boards that stay bare: none of this needs a cluster's software."""
    lab = Lab(f"pytest-{os.getpid()}-fleet", say=lambda text: print(text, file=sys.stderr))
    try:
        lab.up(3)
        yield Cluster(lab)
    finally:
        lab.down()


def test_files_to_boards_and_back(boards: Cluster, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "large").write_bytes(os.urandom(12 << 20))
    (data / "run.sh").write_text("#!/bin/sh\n")
    (data / "run.sh").chmod(0o750)
    boards.run("push", data, "there/")
    boards.run("push", "--sudo", "--limit", "w1", data / "run.sh", "/usr/local/sbin/lab-run")
    sums = boards.on("w2", "sha256sum", "/home/mendel/there/data/large").split()[0]
    assert sums == hashlib.sha256((data / "large").read_bytes()).hexdigest()
    owner = boards.on("w1", "stat", "-c", "%U %a", "/home/mendel/there/data/run.sh", "/usr/local/sbin/lab-run")
    assert owner.splitlines() == ["mendel 750", "root 750"]
    # A link of the user's, which root does not follow; as the user, it is no use.
    boards.on("w1", "su", "mendel", "-c", "ln -s /etc/shadow ~/secret")
    err = boards.run("pull", "--sudo", "--limit", "w1", "/home/mendel/secret", tmp_path / "back", expect=3)[1]
    assert "a link that root does not follow" in err
    boards.run("pull", "there/data", tmp_path / "back")
    for name in ("head", "w1", "w2"):
        assert (tmp_path / "back" / name / "data/large").read_bytes() == (data / "large").read_bytes()
    out = boards.run("pull", "--json", "there/data", tmp_path / "back")[0]
    assert [host["unchanged"] for host in json.loads(out)["hosts"].values()] == [2, 2, 2]


def test_boards_are_found_by_a_scan(boards: Cluster) -> None:
    """Of the lab's own network alone, and nobody is asked by multicast."""
    names = ("head", "w1", "w2")
    inventory = json.loads(boards.run("inventory", "--list")[0])["_meta"]["hostvars"]
    address = {name: inventory[name]["ansible_host"] for name in names}
    where = f"{address['head']}/28"
    out = boards.run("discover", "--seconds", 0, "--scan", where, "--json")[0]
    found = {board["host"]: board for board in json.loads(out)["boards"] if board["host"]}
    for name in names:
        kind = {"ssh-ed25519": "ed25519", "ecdsa-sha2-nistp256": "ecdsa", "ssh-rsa": "rsa"}[found[name]["key_type"]]
        printed = boards.on(name, "ssh-keygen", "-lf", f"/etc/ssh/ssh_host_{kind}_key.pub")
        assert found[name]["key"] == printed.split()[1] and found[name]["address"] == address[name]
        assert "OpenSSH" in found[name]["banner"] and not found[name]["note"]


def test_boards_in_turns_and_one_that_does_not_come_back(boards: Cluster) -> None:
    def boot(name: str) -> str:
        return boards.on(name, "cat", "/proc/sys/kernel/random/boot_id")

    before = {name: boot(name) for name in ("w1", "w2")}
    out, err = boards.run("reboot", "--rolling", 1, "--limit", "w1", "--hand-on", "--json")
    assert json.loads(out)["rebooted"] == ["w1"], err
    assert boot("w1") != before["w1"] and boot("w2") == before["w2"]
    assert "w1: in service" in err and "nothing is drained" in boards.run("drain")[1]
    boards.on("w1", "systemctl", "disable", "ssh")  # at its next boot it does not answer
    words = ("reboot", "--rolling", 1, "--limit", "compute", "--hand-on", "--boot-timeout", 10)
    err = boards.run(*words, expect=4)[1]
    assert "w1: it did not come back within 10 s" in err and "not begun: w2" in err
    assert boot("w2") == before["w2"]
    assert "clusteradm reboot" in boards.run("drain")[0]
    boards.on("w1", "systemctl", "enable", "--now", "ssh")
    boards.run("undrain", "w1")


def test_a_board_is_switched_off(boards: Cluster) -> None:
    boards.run("poweroff", "--limit", "w2", "--yes")
    end = time.monotonic() + 60
    while boards.lab.status()["nodes"]["w2"]["state"] == "running":
        assert time.monotonic() < end
        time.sleep(0.5)
