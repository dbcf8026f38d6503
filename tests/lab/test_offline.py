"""Compute nodes without a way out but the head: refused with what to do, made into a cluster with cluster_offline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from agreement import run_ansible
from commands import SHARED, Cluster
from test_hardening import listening, on

from clusteradm import shipped
from clusteradm.lab import Lab
from clusteradm.lab.topology import SERVICES

pytestmark = pytest.mark.lab

# The lab's packages and wheels, of which only the head is to know; the admin comes from the same address, by SSH.
NO_WAY_OUT = f"ip rule add to {SERVICES} ipproto tcp dport 80 unreachable"
OFFLINE = ("w1", "w2")
BOOTSTRAP_SECONDS = 900


class Boards:
    """Three bare boards of which two have no way out, and bootstrap with `cluster_offline` or without it."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        document = yaml.safe_load(lab.inventory.read_text(encoding="utf-8"))
        document["all"]["vars"]["cluster_offline"] = True
        self.inventory = folder / "inventory.yml"
        self.inventory.write_text(yaml.safe_dump(document), encoding="utf-8")
        (folder / "known_hosts").write_bytes(lab.inventory.with_name("known_hosts").read_bytes())

    def run(self, command: str, *args: object, inventory: Path | None = None, expect: int = 0) -> dict[str, Any]:
        """The document of `clusteradm COMMAND --json`."""
        argv = [sys.executable, "-m", "clusteradm", command, "--json", "-i", str(inventory or self.inventory)]
        done = subprocess.run(
            [*argv, *map(str, args)], capture_output=True, text=True, timeout=BOOTSTRAP_SECONDS, check=False
        )
        assert done.returncode == expect, f"{done.returncode}\n{done.stderr[-4000:]}"
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def bootstrap(self, *args: object) -> dict[str, Any]:
        return dict(self.run("bootstrap", *args)["hosts"])

    def reason(self, node: str, playbook: str) -> str:
        """Why a board without a way out is refused by one of bootstrap's playbooks, without cluster_offline."""
        path = shipped.PLAYBOOKS / playbook
        run = self.run("bootstrap", "--limit", node, "--playbook", path, inventory=self.lab.inventory, expect=3)
        return " ".join(str(run["hosts"][node]["reason"]).split())


@pytest.fixture(scope="module")
def boards(lab_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boards]:
    lab = Lab(f"pytest-{os.getpid()}-offline", say=lambda text: print(text, file=sys.stderr))
    try:
        # systemd-networkd takes rules of others away when it is told to read its files again.
        lab.up(3, networks=["networkmanager"])
        for node in OFFLINE:
            on(lab, node, NO_WAY_OUT)
        yield Boards(lab, tmp_path_factory.mktemp("offline"))
    finally:
        lab.down()


def test_without_it_the_error_says_what_to_do(boards: Boards) -> None:
    reason = boards.reason("w1", "prepare.yml")
    assert f"Dead sources: http://{SERVICES}/debian-bookworm ./." in reason
    assert "Where only head has a way out, set cluster_offline: true in the inventory" in reason
    reason = boards.reason("w1", "tpu.yml")
    assert f"w1 cannot fetch the key of the Edge TPU's package source (http://{SERVICES}/tpu/key.asc)" in reason
    assert all(name in reason for name in ("cluster_tpu_source", "cluster_tpu_key", "cluster_offline: true"))


@pytest.fixture(scope="module")
def bootstrapped(boards: Boards) -> Boards:
    boards.bootstrap()
    return boards


def test_packages_wheels_and_keys_come_through_the_head(bootstrapped: Boards) -> None:
    lab = bootstrapped.lab
    for node in OFFLINE:
        assert lab.exec(
            node, ["wget", "-q", "-T", "3", "-t", "1", "-O-", f"http://{SERVICES}/"], check=False
        ).returncode
        for package in ("openmpi-bin", "nfs-common", "libedgetpu1-std", "chrony"):
            assert on(lab, node, f"dpkg-query -W -f '${{db:Status-Status}}' {package}") == "installed"
        on(lab, node, "/opt/clusteradm/bin/python3 -c 'import ai_edge_litert, numpy, mpi4py'")
    assert "libedgetpu1-std" in on(lab, "head", "find /var/cache/apt-cacher-ng -name '*.deb'")
    # Only root of the head writes what the others install.
    assert on(lab, "head", f"find {SHARED}/software -not -user root -o -perm /022 -not -type l") == ""
    assert "cannot touch" in lab.exec("w1", ["touch", f"{SHARED}/software/mine"], check=False).stderr


def test_a_second_run_changes_nothing_by_either_engine(bootstrapped: Boards) -> None:
    assert {name: host["changed"] for name, host in bootstrapped.bootstrap().items()} == dict.fromkeys(
        ("head", *OFFLINE), 0
    )
    for node in ("head", "w1"):
        assert bootstrapped.bootstrap("--limit", node)[node]["changed"] == 0
    _, stats = run_ansible(bootstrapped.inventory, shipped.PLAYBOOKS / "bootstrap.yml")
    for host, counts in stats.items():
        assert (counts["changed"], counts["failures"], counts["unreachable"]) == (0, 0, 0), host


def test_the_cluster_works(bootstrapped: Boards) -> None:
    cluster = Cluster(bootstrapped.lab)
    cluster.env["CLUSTERADM_INVENTORY"] = str(bootstrapped.inventory)
    cluster.well()


def test_the_ports_are_the_heads_and_on_the_clusters_address(bootstrapped: Boards) -> None:
    lab = bootstrapped.lab
    ssh = {("tcp", "0.0.0.0", 22), ("tcp", "::", 22)}  # noqa: S104 - what sshd has
    address = "10.78.0.1"
    assert listening(lab, "head") - ssh == {("tcp", address, 2049), ("udp", address, 123), ("tcp", address, 3142)}
    for node in OFFLINE:
        assert listening(lab, node) == ssh


# A request to the proxy, as apt makes it or a program that looks for a way out; prints the first line of the answer.
ASK = """
import socket, sys
s = socket.create_connection(("10.78.0.1", 3142), 30, (sys.argv[2], 0) if sys.argv[2:] else None)
s.sendall(("%s HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n" % sys.argv[1]).encode())
print(s.recv(4096).decode(errors="replace").split("\\r\\n")[0])
"""


def test_the_proxy_serves_the_subnet_alone_and_is_no_tunnel(bootstrapped: Boards) -> None:
    lab = bootstrapped.lab

    def ask(request: str, *source: str) -> str:
        done = lab.exec("w1", ["python3", "-c", ASK, request, *source], check=False, timeout=60)
        return str(done.stdout).strip()

    index = f"GET http://{SERVICES}/debian-bookworm/./InRelease"
    assert " 200 " in ask(index) + " "
    # By a route of its own, from the board's other address.
    on(lab, "w1", "ip route add 10.78.0.1/32 via 10.77.0.1 dev $(ip -o -4 address show | awk '/10.77.0/ {print $2}')")
    try:
        assert "200" not in ask(index, "10.77.0.2")
    finally:
        on(lab, "w1", "ip route del 10.78.0.1/32 via 10.77.0.1")
    # No tunnel to where the head's own sources do not lead, no other ports, no page to control it by.
    for refused in (f"CONNECT {SERVICES}:443", f"CONNECT {SERVICES}:22", f"GET http://{SERVICES}:22/InRelease"):
        assert "200" not in ask(refused), refused
    for page in ("GET /acng-report.html", "GET /acng-report.html?doCount=Count+Data"):
        assert "200" not in ask(page), page


def test_after_a_reboot_of_all(bootstrapped: Boards) -> None:
    lab = bootstrapped.lab
    for node in ("head", *OFFLINE):
        lab.fault(node, "power")
    for node in ("head", *OFFLINE):
        lab.restore(node, 300)
    for node in OFFLINE:
        on(lab, node, NO_WAY_OUT)
        on(lab, node, "apt-get -qq update")
    assert ("tcp", "10.78.0.1", 3142) in listening(lab, "head")
    assert {name: host["changed"] for name, host in bootstrapped.bootstrap().items()} == dict.fromkeys(
        ("head", *OFFLINE), 0
    )
