"""Boards at hand: files to and from them, reboots in turns; by the boards' own tools."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Cluster
from jobs import wait

from clusteradm.lab import Lab

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def boards(lab_machine: None) -> Iterator[Cluster]:
    """Three boards that stay bare: none of this needs a cluster's software."""
    lab = Lab(f"pytest-{os.getpid()}-fleet", say=lambda text: print(text, file=sys.stderr))
    try:
        lab.up(3)
        yield Cluster(lab)
    finally:
        lab.down()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """The build of the Debian package, begun before the other tests, which mostly wait."""
    command = [sys.executable, ROOT / "packaging/deb.py", tmp_path_factory.mktemp("deb")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.usefixtures("package")
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
    # From within the lab's network, which this machine's own has no way to.
    words = ["discover", "--seconds", "0", "--scan", f"{address['head']}/28", "--json"]
    command = [
        "nsenter",
        f"--net={boards.lab.inventory.with_name('netns')}",
        sys.executable,
        "-m",
        "clusteradm",
        *words,
    ]
    done = subprocess.run(command, env=boards.env, capture_output=True, text=True, timeout=180, check=True)
    found = {board["host"]: board for board in json.loads(done.stdout)["boards"] if board["host"]}
    for name in names:
        assert not found[name]["note"], found[name]
        kind = {"ssh-ed25519": "ed25519", "ecdsa-sha2-nistp256": "ecdsa", "ssh-rsa": "rsa"}[found[name]["key_type"]]
        printed = boards.on(name, "ssh-keygen", "-lf", f"/etc/ssh/ssh_host_{kind}_key.pub")
        assert found[name]["key"] == printed.split()[1] and found[name]["address"] == address[name]
        assert "OpenSSH" in found[name]["banner"]


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


def test_the_debian_package_is_installed_and_removed(boards: Cluster, package: subprocess.Popen[str]) -> None:
    """On a board, which is Debian 12; lintian has nothing to say but what the package's overrides name."""
    out, err = package.communicate(timeout=900)
    assert package.returncode == 0, err
    deb = Path(out.strip())
    lintian = ["lintian", "--fail-on=error,warning", str(deb)] if shutil.which("lintian") else ["true"]
    with subprocess.Popen(lintian, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as checked:
        boards.run("push", "--sudo", "--limit", "w1", deb, "/tmp/")
        boards.on("w1", "dpkg", "--install", f"/tmp/{deb.name}")
        assert boards.on("w1", "clusteradm", "-V").split()[0] == "clusteradm"
        assert "--rolling N" in boards.on("w1", "clusteradm", "help", "reboot")
        boards.on("w1", "sh", "-c", "cd /tmp && clusteradm inventory init --head 10.0.0.1 -o /tmp/i.yml")
        assert "10.0.0.1" in boards.on("w1", "clusteradm", "inventory", "-i", "/tmp/i.yml", "--list")
        files = boards.on("w1", "dpkg", "-L", "clusteradm").splitlines()
        assert {"/usr/share/man/man1/clusteradm-exec.1.gz", "/usr/share/zsh/vendor-completions/_clusteradm"} <= {*files}
        boards.on("w1", "dpkg", "--purge", "clusteradm")
        assert (
            boards.on("w1", "sh", "-c", "ls -d /usr/lib/clusteradm /usr/bin/clusteradm 2>&1 || true").count("No such")
            == 2
        )
        said = checked.communicate(timeout=600)[0]
    assert checked.returncode == 0, said


def test_a_board_is_switched_off(boards: Cluster) -> None:
    boards.run("poweroff", "--limit", "w2", "--yes")
    wait(lambda: boards.lab.status()["nodes"]["w2"]["state"] != "running")
