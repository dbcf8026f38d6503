"""What is wrong with real boards first, done to bare ones: bootstrap mends it, or refuses that board and says why.

Only the playbook's first part runs here (prepare.yml), on boards that nobody bootstraps before.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusteradm import shipped
from clusteradm.lab import Lab

pytestmark = pytest.mark.lab

# The one is mended, with all that prepare.yml installs; the other is refused, and stays as bare as it was.
MENDED = "w2"
REFUSED = "w3"
SOURCES = "/etc/apt/sources.list.d"
# One of the packages that bootstrap installs, so that it has something to do.
TAKE_AWAY = "DEBIAN_FRONTEND=noninteractive apt-get -qq purge -y python3-venv >/dev/null"

# A package whose installation is interrupted: its script fails at the first time.
INTERRUPTED = """
mkdir -p /var/tmp/interrupted/DEBIAN && cd /var/tmp/interrupted/DEBIAN
cat >control <<-EOF
Package: interrupted
Version: 1
Architecture: all
Maintainer: nobody
Description: none
EOF
cat >postinst <<-EOF
#!/bin/sh
[ -e /var/tmp/interrupted/once ] || { touch /var/tmp/interrupted/once; echo no power >&2; exit 1; }
EOF
chmod 755 . postinst
dpkg-deb -b /var/tmp/interrupted /var/tmp/interrupted.deb >/dev/null
! dpkg -i /var/tmp/interrupted.deb >/dev/null 2>&1
"""

# What holds the name python3, and what needs it, made into packages again of the files that are there, then removed.
WITHOUT_PYTHON = """
mkdir -p /var/tmp/python && cd /var/tmp/python
for package in python3 python3-minimal python3-apt; do
    mkdir -p $package/DEBIAN
    dpkg-query -L $package | while read -r file; do
        [ -L "$file" ] || [ ! -d "$file" ] && [ -e "$file" ] && cp -a --parents "$file" $package
    done
    dpkg-query -s $package | grep -v -e ^Status: -e ^Conffiles: -e '^ /etc' >$package/DEBIAN/control
    cp /var/lib/dpkg/info/$package.postinst /var/lib/dpkg/info/$package.prerm $package/DEBIAN
    dpkg-deb -b $package . >/dev/null
    size=$(stat -c %s ${package}_*.deb) sum=$(sha256sum ${package}_*.deb | cut -d' ' -f1)
    sed '/^$/d' $package/DEBIAN/control
    printf 'Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n' ${package}_*.deb $size $sum
done >Packages
dpkg --purge python3-apt python3 python3-minimal >/dev/null 2>&1
"""


def on(lab: Lab, node: str, command: str, *, check: bool = True) -> str:
    """The output of a shell command, run as root on a board."""
    return str(lab.exec(node, ["sh", "-c", command], check=check, timeout=120).stdout).strip()


def status_of(lab: Lab, node: str, package: str) -> str:
    return on(lab, node, f"dpkg-query -W -f '${{db:Status-Status}}' {package} 2>/dev/null", check=False)


class Prepared:
    """A run of prepare.yml on some boards, as --json tells it."""

    def __init__(self, lab: Lab, *nodes: str, inventory: Path | None = None, expect: int = 0) -> None:
        command = [sys.executable, "-m", "clusteradm", "bootstrap", "--json", "--limit", ":".join(nodes)]
        command += ["-i", str(inventory or lab.inventory), "--playbook", str(shipped.PLAYBOOKS / "prepare.yml")]
        done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == expect, f"{done.returncode}\n{done.stderr}"
        self.said = done.stderr
        self._hosts: dict[str, dict[str, Any]] = json.loads(done.stdout)["hosts"]

    def changed(self, node: str) -> list[str]:
        return [task["task"] for task in self._hosts[node]["tasks"] if task["status"] == "changed"]

    def result(self, node: str, name: str) -> dict[str, Any]:
        (task,) = [task for task in self._hosts[node]["tasks"] if task["task"] == name]
        return {**task["result"], "status": task["status"]}

    def reason(self, node: str) -> str:
        """Why the board was refused."""
        return " ".join(str(self._hosts[node]["reason"]).split())


@contextlib.contextmanager
def undone(lab: Lab, node: str, do: str, undo: str) -> Iterator[None]:
    on(lab, node, do)
    try:
        yield
    finally:
        on(lab, node, undo)


def test_a_release_in_the_archive_and_dead_sources_keep_nothing_from_being_installed(lab: Lab) -> None:
    mirror = "http://mirror.debian.example/debian buster main"
    dead = {"unreachable": "http://10.77.0.253/dead ./", "withdrawn": "http://10.77.0.254/withdrawn stable main"}
    files = "".join(f"echo 'deb [trusted=yes] {line}' >{SOURCES}/{name}.list; " for name, line in dead.items())
    with undone(lab, MENDED, f"{files} echo 'deb {mirror}' >{SOURCES}/old.list", f"rm {SOURCES}/*"):
        before = on(lab, MENDED, f"cd {SOURCES} && sha256sum unreachable.list withdrawn.list")
        first = Prepared(lab, MENDED)
        assert first.changed(MENDED) == [
            "Point them to the archive",
            "Mask the RPC services that NFS version 4 does without",
            "Install the packages",
        ]
        assert status_of(lab, MENDED, "openmpi-bin") == status_of(lab, MENDED, "nfs-common") == "installed"
        archive = "deb [check-valid-until=no] http://archive.debian.example/debian buster main"
        assert on(lab, MENDED, f"cat {SOURCES}/old.list") == archive
        assert on(lab, MENDED, f"cat {SOURCES}/old.list.*~") == f"deb {mirror}"
        # The dead ones are named, for a person to read too, and left to their owner.
        told = first.result(MENDED, "Every package source answers")
        assert told["status"] == "ignored"
        for source in (
            *(line.rsplit(" main")[0] for line in dead.values()),
            "http://archive.debian.example/debian buster",
        ):
            assert source in told["msg"] and source in first.said
        assert on(lab, MENDED, f"cd {SOURCES} && sha256sum unreachable.list withdrawn.list") == before
        # Again: nothing is missing, so nobody is asked.
        refreshed = on(lab, MENDED, "stat -c %y /var/lib/apt/lists/partial /var/cache/apt/pkgcache.bin")
        assert Prepared(lab, MENDED).changed(MENDED) == []
        assert on(lab, MENDED, "stat -c %y /var/lib/apt/lists/partial /var/cache/apt/pkgcache.bin") == refreshed


def test_a_source_that_is_dead_and_needed_is_named(lab: Lab) -> None:
    on(lab, MENDED, TAKE_AWAY)
    moved = "rm /var/lib/apt/lists/*_Packages; sed -i s/10.77.0.254/10.77.0.253/ /etc/apt/sources.list"
    with undone(lab, MENDED, moved, "sed -i s/10.77.0.253/10.77.0.254/ /etc/apt/sources.list"):
        reason = Prepared(lab, MENDED, expect=3).reason(MENDED)
    assert f"{MENDED} cannot install python3-venv: E: Package 'python3-venv' has no installation candidate" in reason
    assert "Dead sources: http://10.77.0.253/debian-bookworm ./" in reason and "run bootstrap again" in reason


def test_another_package_manager_is_waited_for_and_named(lab: Lab) -> None:
    on(lab, MENDED, TAKE_AWAY)
    hold = (
        "import fcntl, os, sys\n"
        "for name in ('/var/lib/dpkg/lock-frontend', '/var/lib/dpkg/lock'):\n"
        "    file = os.open(name, os.O_RDWR | os.O_CREAT, 0o640)\n"
        "    fcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print(os.getpid(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    argv = lab.exec_argv(MENDED, ["python3", "-c", hold])
    with (
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other,
        ThreadPoolExecutor() as pool,
    ):
        assert other.stdin is not None and other.stdout is not None
        process = other.stdout.readline().strip()
        running = pool.submit(Prepared, lab, MENDED)
        # It ends when it is seen to be waited for.
        while not running.done() and not on(lab, MENDED, "pgrep -x sleep", check=False):
            time.sleep(0.1)
        other.stdin.close()
        run = running.result()
    said = run.result(MENDED, "Refresh the package lists")["stdout"]
    assert f"waiting for another package manager: process {process} (python3)" in said
    assert run.changed(MENDED) == ["Install the packages"]
    assert status_of(lab, MENDED, "python3-venv") == "installed"


def test_a_half_configured_package_is_finished(lab: Lab) -> None:
    gone = "dpkg --purge interrupted >/dev/null; rm -r /var/tmp/interrupted*"
    with undone(lab, MENDED, INTERRUPTED, gone):
        assert status_of(lab, MENDED, "interrupted") == "half-configured"
        # One that cannot be finished is named, with what it says and the way out.
        on(lab, MENDED, "rm /var/tmp/interrupted/once")
        said = Prepared(lab, MENDED, expect=3).result(MENDED, "Finish half-configured packages")["stderr"]
        assert "no power" in said and "apt-get purge" in said
        assert Prepared(lab, MENDED).changed(MENDED) == ["Finish half-configured packages"]
        assert status_of(lab, MENDED, "interrupted") == "installed"
        assert on(lab, MENDED, "dpkg --audit") == ""
        assert Prepared(lab, MENDED).changed(MENDED) == []


def test_a_copied_disk_a_second_mac_and_a_full_disk_are_refused_all_at_once(lab: Lab) -> None:
    plan = lab.places.read_plan()
    assert plan is not None
    interface = {board.name: board.cluster_interface for board in plan.boards}
    mac = on(lab, MENDED, f"cat /sys/class/net/{interface[MENDED]}/address")
    own = on(lab, REFUSED, f"cat /sys/class/net/{interface[REFUSED]}/address")
    copied = on(lab, MENDED, "cat /etc/machine-id")
    do = (
        f"cp -p /etc/machine-id /run/own-id; echo {copied} >/etc/machine-id;"
        f" ip link set {interface[REFUSED]} address {mac}; mount -t tmpfs -o size=10M full /opt"
    )
    undo = (
        f"umount /opt; ip link set {interface[REFUSED]} address {own}; mv /run/own-id /etc/machine-id;"
        " rm -f /etc/systemd/network/10-mac.link"
    )
    with undone(lab, REFUSED, do, undo):
        run = Prepared(lab, MENDED, REFUSED, expect=3)
        reason = run.reason(REFUSED)
        # The others go on.
        assert run.reason(MENDED) == ""
        # The commands that it names do what they are for, as far as that can be seen without a reboot.
        for command in re.findall(r"sudo sh -c '(.*?); reboot'", reason):
            on(lab, REFUSED, command)
        again = Prepared(lab, MENDED, REFUSED, expect=3).reason(REFUSED)
        assert "machine-id" not in again and "/opt" in again
        link = on(lab, REFUSED, "cat /etc/systemd/network/10-mac.link").split()
        assert link[:2] == ["[Match]", f"MACAddress={mac}"] and re.fullmatch("MACAddress=02(:[0-9a-f]{2}){5}", link[3])
    assert run.changed(REFUSED) == []
    assert status_of(lab, REFUSED, "openmpi-bin") != "installed"
    assert f"{REFUSED} and {MENDED} have the same machine-id" in reason and "run bootstrap again" in reason
    assert f"{REFUSED} and {MENDED} have the same MAC {mac}" in reason
    assert f"{REFUSED} has 10 MiB free in /opt and needs 200 there" in reason


@pytest.mark.parametrize(
    ("options", "said"),
    [("size=64k,mode=755", "the disk is full"), ("ro", "the file system is read-only")],
)
def test_a_disk_that_takes_nothing_at_all(lab: Lab, options: str, said: str) -> None:
    do = f"mkdir -p /var/lib/clusteradm; mount -t tmpfs -o {options} full /var/lib/clusteradm"
    with undone(lab, REFUSED, do, "umount /var/lib/clusteradm"):
        reason = Prepared(lab, REFUSED, expect=3).reason(REFUSED)
    assert said in reason and "/var/lib/clusteradm" in reason and "on the host" in reason


def test_a_cluster_within_the_usb_gadgets_network_is_refused(lab: Lab, tmp_path: Path) -> None:
    document = yaml.safe_load(lab.inventory.read_text(encoding="utf-8"))
    document["all"]["vars"]["cluster_subnet"] = "192.168.0.0/16"
    for group in document["all"]["children"].values():
        for variables in group["hosts"].values():
            variables["cluster_ip"] = variables["cluster_ip"].replace("10.78.0.", "192.168.5.")
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    (tmp_path / "known_hosts").write_bytes(lab.inventory.with_name("known_hosts").read_bytes())
    # An interface that leads somewhere is none of those: both of a board's may be in the one network of a house.
    with undone(lab, MENDED, "ip route add default dev usb0 metric 9000", "ip route del default dev usb0 metric 9000"):
        run = Prepared(lab, MENDED, REFUSED, inventory=tmp_path / "inventory.yml", expect=3)
    assert run.changed(REFUSED) == [] and run.reason(MENDED) == ""
    assert f"usb0 on {REFUSED} has the network 192.168.100.0/24, which is in cluster_subnet" in run.reason(REFUSED)


def test_a_board_without_python_gets_it_first(lab: Lab) -> None:
    """The packages that hold nothing but the name python3 are removed, and offered by a source of the board's own."""
    on(lab, REFUSED, WITHOUT_PYTHON)
    try:
        on(lab, REFUSED, "! command -v python3")
        environment = {**os.environ, "CLUSTERADM_INVENTORY": str(lab.inventory)}
        command = [sys.executable, "-m", "clusteradm", "health", "--limit", REFUSED]
        health = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert re.search(r"clusteradm bootstrap .*--limit w3 installs python3", health.stdout + health.stderr)
        on(lab, REFUSED, "! command -v python3")
        # It cannot be had: apt says so, and nothing is tried again.
        reason = Prepared(lab, REFUSED, expect=3).reason(REFUSED)
        assert "there is no python3, and it cannot be installed" in reason and "package sources" in reason
        on(lab, REFUSED, f"echo 'deb [trusted=yes] file:/var/tmp/python ./' >{SOURCES}/python.list")
        # Refused later on, so that this is all that is installed.
        with undone(lab, REFUSED, "mount -t tmpfs -o size=1M full /opt", "umount /opt"):
            assert Prepared(lab, REFUSED, expect=3).changed(REFUSED) == ["Install python3"]
        assert status_of(lab, REFUSED, "python3") == "installed"
    finally:
        on(lab, REFUSED, f"dpkg -i /var/tmp/python/*.deb >/dev/null; rm -rf {SOURCES}/python.list /var/tmp/python")
    assert on(lab, REFUSED, "dpkg --audit; python3 -c 'import json; print(json.dumps(1))'") == "1"
