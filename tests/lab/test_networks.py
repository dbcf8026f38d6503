"""The cluster's network by each tool that a host may have, as the boards' own tools show it. One lab for all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from agreement import run_ansible
from commands import Cluster
from jobs import wait

from clusteradm import shipped
from clusteradm.inventory import Host, load
from clusteradm.lab import Lab
from clusteradm.lab.topology import NETWORKS

pytestmark = pytest.mark.lab

GUARD = "/opt/clusteradm/bin/guard network"
FILES = {
    "networkmanager": "/etc/NetworkManager/system-connections/cluster.nmconnection",
    "networkd": "/etc/systemd/network/05-cluster.network",
    "netplan": "/etc/netplan/90-cluster.yaml",
    "ifupdown": "/etc/network/interfaces.d/cluster",
}
# What the tool says of the interface {0}, and a part of it that says that the cluster's file is in use.
SAYS = {
    "networkmanager": ("nmcli -g GENERAL.CONNECTION device show {0}", "cluster"),
    "networkd": ("networkctl status {0}", "Network File: /etc/systemd/network/05-cluster.network"),
    "netplan": ("networkctl status {0}; netplan get ethernets.{0}.addresses", "10-netplan-{0}.network"),
    "ifupdown": ("ifquery --state {0}; ifquery {0}", "{0}={0}"),
}


class Networks(Cluster):
    """A board of each kind: NAMES is board -> tool."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        super().__init__(lab)
        self.hosts: dict[str, Host] = dict(load(lab.inventory).hosts)
        self.tools = dict(zip(self.hosts, NETWORKS, strict=True))
        self.folder = folder

    def sh(self, node: str, command: str, *, check: bool = True) -> str:
        return self.on(node, "sh", "-c", command, check=check).strip()

    def addresses(self, node: str, interface: str) -> list[str]:
        return self.sh(node, f"ip -4 -o address show dev {interface} | awk '{{ print $4 }}'").split()

    def bootstrap(self, *args: object, expect: int = 0) -> dict[str, Any]:
        process = self.start("bootstrap", "--json", *args)
        out, err = process.communicate(timeout=900)
        assert process.returncode == expect, f"{out[-3000:]}\n{err[-3000:]}"
        document: dict[str, Any] = json.loads(out)
        return document

    def changed(self, *args: object) -> dict[str, list[str]]:
        """Host -> its tasks that changed something."""
        hosts = self.bootstrap(*args)["hosts"]
        found = {
            name: [task["task"] for task in host["tasks"] if task["status"] == "changed"]
            for name, host in hosts.items()
        }
        return {name: tasks for name, tasks in found.items() if tasks}

    def login(self, node: str, address: str) -> bool:
        """Whether one can log in at the address."""
        options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=30", "-o", f"HostKeyAlias={self.hosts[node].address}"]
        argv = self.lab.ssh_argv(node, ["true"])
        command = [argv[0], *options, "-o", f"HostName={address}", *argv[1:]]
        return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0

    def inventory(self, **of_each: Callable[[Host], object]) -> Path:
        """The lab's, with other variables of every host."""
        document = yaml.safe_load(self.lab.inventory.read_text(encoding="utf-8"))
        for group in document["all"]["children"].values():
            for name, variables in group["hosts"].items():
                variables.update({key: value(self.hosts[name]) for key, value in of_each.items()})
        (self.folder / "known_hosts").write_bytes(self.lab.inventory.with_name("known_hosts").read_bytes())
        path = self.folder / "inventory.yml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path


@pytest.fixture(scope="module")
def networks(lab_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Networks]:
    """A bare board of each kind."""
    lab = Lab(f"pytest-{os.getpid()}-networks", say=lambda text: print(text, file=sys.stderr))
    try:
        lab.up(len(NETWORKS), networks=NETWORKS)
        yield Networks(lab, tmp_path_factory.mktemp("networks"))
    finally:
        lab.down()


def holds(networks: Networks) -> None:
    """Every board has its cluster address from its own tool, and the admin's and the decoy's as they were."""
    for name, tool in networks.tools.items():
        host = networks.hosts[name]
        interface, wanted = host.cluster_interface, f"{host.cluster_ip}/24"
        command, part = (text.format(interface) for text in SAYS[tool])
        assert part in networks.sh(name, command), f"{name}, {tool}"
        assert networks.addresses(name, interface) == [wanted]
        management = "wlan0" if interface == "eth0" else "eth0"
        assert networks.addresses(name, management) == [f"{host.address}/24"]
        assert networks.addresses(name, "usb0") == ["192.168.100.2/24"]
        for other in networks.hosts.values():
            networks.sh(name, f"ping -c 1 -W 2 {other.cluster_ip}")


def test_bare_boards_have_one_tool_each(networks: Networks) -> None:
    has = "for name in nmcli netplan ifup; do command -v $name >/dev/null && echo $name; done; true"
    assert {name: networks.sh(name, has) for name in networks.hosts} == {
        "head": "nmcli",
        "w1": "",
        "w2": "netplan",
        "w3": "ifup",
    }
    for name in networks.hosts:
        assert networks.sh(name, "systemctl is-system-running") == "running"


def test_each_becomes_a_member_and_a_second_run_changes_nothing(networks: Networks) -> None:
    # The admin's connection is on another interface, whose tool is neither replaced nor restarted.
    since = "systemctl show -p ExecMainStartTimestampMonotonic NetworkManager systemd-networkd networking"
    before = {name: networks.sh(name, since) for name in networks.hosts}
    hosts = networks.bootstrap()["hosts"]
    said = {
        name: task["result"]["msg"]
        for name, host in hosts.items()
        for task in host["tasks"]
        if task["task"] == "The cluster's network"
    }
    assert said == {
        "head": "eth0 is configured by NetworkManager",
        "w1": "enp2s0 is configured by systemd-networkd",
        "w2": "eth0 is configured by systemd-networkd",
        "w3": "enp2s0 is configured by ifupdown",
    }
    assert {name: networks.sh(name, since) for name in networks.hosts} == before
    holds(networks)
    for name, tool in networks.tools.items():
        there = {other for other, file in FILES.items() if networks.sh(name, f"ls {file}", check=False)}
        assert there == {tool}
        mode = "600" if tool in ("networkmanager", "netplan") else "644"
        assert networks.sh(name, f"stat -c '%U:%G %a' {FILES[tool]}") == f"root:root {mode}"
        if tool != "networkmanager":
            assert networks.sh(name, "command -v nmcli", check=False) == ""
    assert networks.changed() == {}
    networks.well()


def test_ansible_finds_nothing_to_change(networks: Networks) -> None:
    results, stats = run_ansible(networks.lab.inventory, shipped.PLAYBOOKS / "bootstrap.yml")
    assert [key for key, found in results.items() for one in found if one["_status"] in ("changed", "failed")] == []
    assert {name: counts["changed"] for name, counts in stats.items()} == dict.fromkeys(networks.hosts, 0)


def change(networks: Networks, name: str, seconds: int) -> None:
    """Give the board another address, and do not confirm it."""
    host = networks.hosts[name]
    file = FILES[networks.tools[name]]
    # Beside the cluster's address it has more to lose.
    other = host.cluster_ip.replace("10.78.0.", "10.78.0.9")
    networks.sh(name, f"{GUARD} arm; sed -i 's/{host.cluster_ip}/{other}/' {file}; {GUARD} apply {seconds}")
    wait(lambda: networks.addresses(name, host.cluster_interface) == [f"{other}/24"])


def back(networks: Networks) -> None:
    for name in networks.hosts:
        wanted = [f"{networks.hosts[name].cluster_ip}/24"]
        pending = "ls /var/lib/clusteradm/guard | grep -v back; systemctl list-timers --all --no-legend 'clusteradm-*'"
        wait(lambda: networks.addresses(name, networks.hosts[name].cluster_interface) == wanted)  # noqa: B023
        wait(lambda: networks.sh(name, pending, check=False) == "")  # noqa: B023
    holds(networks)


def test_a_change_that_nobody_confirms_is_taken_back(networks: Networks) -> None:
    before = {name: networks.sh(name, f"cat {FILES[tool]}") for name, tool in networks.tools.items()}
    for name in networks.hosts:
        change(networks, name, 25)
    back(networks)
    assert {name: networks.sh(name, f"cat {FILES[tool]}") for name, tool in networks.tools.items()} == before


def test_the_power_goes_before_a_change_is_confirmed(networks: Networks) -> None:
    for name in networks.hosts:
        change(networks, name, 300)
        networks.lab.fault(name, "power")
    for name in networks.hosts:
        networks.lab.restore(name)
    back(networks)
    for name in networks.hosts:
        assert networks.sh(name, "systemctl is-system-running --wait") == "running"
        assert "putting the old one back" in networks.sh(name, "journalctl -b -q -u 'clusteradm-guard@*'")
        assert "ordering cycle" not in networks.sh(name, "journalctl -b -q")
    assert networks.changed("--playbook", shipped.PLAYBOOKS / "network.yml") == {}


def reboot(networks: Networks) -> None:
    boots = {name: networks.lab.status()["nodes"][name]["boots"] for name in networks.hosts}
    for name in networks.hosts:
        networks.sh(name, "systemctl reboot", check=False)

    def again() -> bool:
        nodes = networks.lab.status()["nodes"]
        return all(nodes[name]["boots"] > boots[name] and nodes[name]["state"] == "running" for name in boots)

    wait(again)


def test_a_reboot_keeps_the_address(networks: Networks) -> None:
    reboot(networks)
    wait(lambda: all(networks.addresses(name, host.cluster_interface) for name, host in networks.hosts.items()))
    holds(networks)


def test_what_the_inventory_demands_and_the_host_contradicts(networks: Networks) -> None:
    tools = {"head": "networkd", "w1": "ifupdown", "w2": "networkmanager", "w3": "networkd"}
    path = networks.inventory(cluster_network=lambda host: tools[host.name])
    failed = {
        name: task["result"]["msg"]
        for name, host in networks.bootstrap("-i", path, expect=3)["hosts"].items()
        for task in host["tasks"]
        if task["status"] == "failed"
    }
    assert set(failed) == set(tools)
    assert "cluster_network of head is networkd, but NetworkManager configures eth0 there" in failed["head"]
    assert "but systemd-networkd configures enp2s0 there" in failed["w1"]
    assert "but systemd-networkd configures eth0 there" in failed["w2"]
    assert "but ifupdown configures enp2s0 there" in failed["w3"]


# The last: it moves the cluster's address to the interface that the admin comes by.
def test_one_interface_for_the_cluster_and_the_admin(networks: Networks) -> None:
    def other(host: Host) -> str:
        return "wlan0" if host.cluster_interface == "eth0" else "eth0"

    path = networks.inventory(cluster_interface=other)
    playbook = ("-i", path, "--playbook", shipped.PLAYBOOKS / "network.yml")
    assert set(networks.changed(*playbook)) == set(networks.hosts)

    def as_wanted() -> bool:
        return all(
            sorted(networks.addresses(name, other(host))) == sorted([f"{host.address}/24", f"{host.cluster_ip}/24"])
            and networks.addresses(name, host.cluster_interface) == []
            for name, host in networks.hosts.items()
        )

    assert as_wanted()
    assert networks.changed(*playbook) == {}
    for name, host in networks.hosts.items():
        assert networks.login(name, host.address)
    reboot(networks)
    wait(as_wanted)
    for name, host in networks.hosts.items():
        assert networks.login(name, host.address)
