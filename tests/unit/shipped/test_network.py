"""Which tool configures the cluster's interface, and what that one is given (playbooks/vars/network.yml).

The shell commands run here, on a host made of files and of programs that say what theirs would.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusteradm import shipped
from clusteradm.playbook.render.jinja import Templates

NETWORK_FILES = {
    "networkmanager": "etc/NetworkManager/system-connections/cluster.nmconnection",
    "networkd": "etc/systemd/network/05-cluster.network",
    "netplan": "etc/netplan/90-cluster.yaml",
    "ifupdown": "etc/network/interfaces.d/cluster",
}
TOOLS = ("awk", "basename", "cat", "grep", "head", "ls", "sed", "sh")
# One for all: what it has compiled once, it keeps.
TEMPLATES = Templates()
LAN = "[Match]\nName=eth0\n\n[Network]\nDHCP=yes\n# a remark\n[DHCPv4]\nClientIdentifier=mac\n"


class _Rendered(dict[str, Any]):
    """Variables that are templates of each other."""

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        return TEMPLATES.string(value, self) if isinstance(value, str) and "{" in value else value


class PretendedHost:
    """A root folder, and the programs that are on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin = root / "bin"
        self.bin.mkdir()
        self.vars: dict[str, Any] = {
            "cluster_ip": "10.20.0.2",
            "cluster_subnet": "10.20.0.0/24",
            "cluster_interface": "eth0",
            "inventory_hostname": "pc-1",
            "managed": "Written by a test.",
        }
        for tool in TOOLS:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        self.units()
        self.program("ip")

    def program(self, name: str, says: str = "", status: int = 0) -> None:
        """One that says the same to whatever it is asked."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\ncat <<'E'\n{says}\nE\nexit {status}\n" if says else f"#!/bin/sh\nexit {status}\n")
        path.chmod(0o755)

    def units(self, *active: str) -> None:
        path = self.bin / "systemctl"
        path.write_text(f"#!/bin/sh\ncase ' {' '.join(active)} ' in *\" $3 \"*) exit 0 ;; esac\nexit 3\n")
        path.chmod(0o755)

    def networkd(self, setup: str, file: str = "n/a", version: int = 252, more: str = "") -> None:
        path = self.bin / "networkctl"
        said = f"\x25 2: eth0\n                  Network File: {file}\n{more}"
        path.write_text(
            f"#!/bin/sh\ncase $1 in\nlist) echo '  2 eth0 ether routable {setup}' ;;\n"
            f"--version) echo 'systemd {version} (x)' ;;\nstatus) cat <<'E'\n{said}\nE\nesac\n"
        )
        path.chmod(0o755)

    def ip(self, *addresses: str, gateway: str = "") -> None:
        """`addresses`: "A/P" or "A/P dynamic"."""
        lines = "\n".join(
            f"2: eth0    inet {line.replace(' ', ' brd 0.0.0.0 scope global ')} eth0" for line in addresses
        )
        route = f"default via {gateway} proto dhcp" if gateway else ""
        path = self.bin / "ip"
        path.write_text(
            f"#!/bin/sh\ncase $* in\n*address*) cat <<'E'\n{lines}\nE\n;;\n*route*) echo '{route}' ;;\nesac\n"
        )
        path.chmod(0o755)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def scope(self) -> _Rendered:
        files = (shipped.PLAYBOOKS / "vars" / name for name in ("cluster.yml", "network.yml"))
        read = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]
        return _Rendered({**read[0], **read[1], **self.vars})

    def look(self, *parts: str) -> list[str]:
        """What the shell commands print."""
        scope = self.scope()
        script = "\n".join(scope[part] for part in parts or ("network_finder", "network_look"))
        script = script.replace("PATH=$PATH:/usr/sbin:/sbin\n", "")
        for folder in ("etc", "run", "proc", "sys", "usr/lib"):
            script = script.replace(f"/{folder}/", f"{self.root}/{folder}/")
        done = subprocess.run(
            [str(self.bin / "sh"), "-c", script],
            env={"PATH": str(self.bin)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.replace(str(self.root), "").splitlines()

    def kind(self) -> list[str]:
        return [line for line in self.look("network_finder") if line.split()[0] in ("network", "unfit")]

    def judged(self) -> _Rendered:
        scope = self.scope()
        scope["interface"] = {"stdout_lines": self.look()}
        return scope

    def bootstrap(self) -> str:
        """The text of the file that a run would write; it is written."""
        scope = self.judged()
        assert not (scope["network_refusal"] or "").strip()
        name = scope["network_file"].lstrip("/")
        template = shipped.TEMPLATES / "node" / f"{name}.j2"
        names = (
            "network_origin",
            "network_address",
            "network_kept",
            "network_dhcp",
            "network_fixed",
            "network_gateway",
        )
        names += ("network_dns", "network_alone", "network_kept_lines", "netplan_id", "network_lines", "profile_uuid")
        text = TEMPLATES.file(
            template.read_text(encoding="utf-8"),
            str(template),
            {**self.vars, "interface": scope["interface"], **{name: scope[name] for name in names}},
        )
        # As on the host: netplan and networkd name files by their places there.
        self.write(name, text)
        return text


@pytest.fixture
def host(tmp_path: Path) -> PretendedHost:
    return PretendedHost(tmp_path)


def networkd_has_it(host: PretendedHost) -> None:
    host.units("systemd-networkd", "NetworkManager")
    host.networkd("configured", "/etc/systemd/network/10-lan.network")
    host.program("ifquery")


def a_stanza(host: PretendedHost) -> None:
    host.units("NetworkManager", "systemd-networkd")
    host.networkd("unmanaged")
    host.program("ifquery", "address: 192.168.7.5")


def networkmanager_runs(host: PretendedHost) -> None:
    host.units("NetworkManager", "systemd-networkd")
    host.networkd("unmanaged")
    host.program("ifquery", status=1)
    host.program("ifup")
    host.program("nmcli", status=10)


def networkd_runs(host: PretendedHost) -> None:
    host.units("systemd-networkd")
    host.networkd("unmanaged")
    host.program("ifup")
    host.program("ifquery", status=1)


def ifupdown_is_there(host: PretendedHost) -> None:
    host.program("ifup")
    host.program("ifquery", status=1)


def nothing(host: PretendedHost) -> None:
    # As left by ifupdown when it was removed.
    host.write("etc/network/interfaces", "iface eth0 inet dhcp\n")


@pytest.mark.parametrize(
    ("situation", "kind"),
    [
        (networkd_has_it, "networkd"),
        (a_stanza, "ifupdown"),
        (networkmanager_runs, "networkmanager"),
        (networkd_runs, "networkd"),
        (ifupdown_is_there, "ifupdown"),
        (nothing, "networkmanager"),
    ],
)
def test_the_tool_that_is_there(host: PretendedHost, situation: Callable[[PretendedHost], None], kind: str) -> None:
    situation(host)
    assert host.kind() == [f"network {kind}"]


@pytest.mark.parametrize(
    ("situation", "wanted", "unfit"),
    [
        (networkd_has_it, "networkd", []),
        (networkd_has_it, "networkmanager", ["unfit holds networkd"]),
        (a_stanza, "networkd", ["unfit holds ifupdown"]),
        (networkmanager_runs, "networkd", []),
        (networkmanager_runs, "ifupdown", []),
        (networkd_runs, "networkmanager", ["unfit NetworkManager does not run"]),
        (ifupdown_is_there, "networkd", ["unfit systemd-networkd does not run"]),
        (nothing, "ifupdown", ["unfit ifupdown is not installed"]),
    ],
)
def test_the_tool_that_the_inventory_demands(
    host: PretendedHost, situation: Callable[[PretendedHost], None], wanted: str, unfit: list[str]
) -> None:
    situation(host)
    host.vars["cluster_network"] = wanted
    assert host.kind() == [*unfit, f"network {wanted}"]


def test_what_networkd_reads_is_kept_and_a_second_run_makes_the_same(host: PretendedHost) -> None:
    host.units("systemd-networkd")
    host.write("etc/systemd/network/10-lan.network", LAN)
    host.write("etc/systemd/network/10-lan.network.d/more.conf", "[Network]\nVLAN=office\n")
    host.networkd("configured", f"{host.root}/etc/systemd/network/10-lan.network")
    host.ip("192.168.1.61/24 dynamic", gateway="192.168.1.1")
    first = host.bootstrap()
    assert first.splitlines()[1:] == [
        "# Besides /etc/systemd/network/10-lan.network",
        *("[Match]", "Name=eth0", "", "[Network]", "Address=10.20.0.2/24", ""),
        "# What that file says beside its [Match]: systemd-networkd reads one file for an interface.",
        *("[Network]", "DHCP=yes", "[DHCPv4]", "ClientIdentifier=mac", "[Network]", "VLAN=office"),
    ]
    host.write(NETWORK_FILES["networkd"], first.replace("/etc/systemd", f"{host.root}/etc/systemd"))
    host.networkd("configured", f"{host.root}/{NETWORK_FILES['networkd']}")
    host.ip("10.20.0.2/24 static", "192.168.1.61/24 dynamic", gateway="192.168.1.1")
    assert "in use" in host.look()
    assert host.bootstrap() == first


def of_networkd(host: PretendedHost) -> list[str]:
    return host.bootstrap().partition("[Network]\n")[2].split()


def test_what_nobody_has_configured_for_good_is_kept_where_networkd_would_flush_it(host: PretendedHost) -> None:
    host.units("systemd-networkd")
    host.networkd("unmanaged")
    host.ip("192.168.1.61/24 static", "169.254.7.9/16 static", gateway="192.168.1.1")
    wanted = ["Address=10.20.0.2/24", "Address=192.168.1.61/24", "Gateway=192.168.1.1"]
    assert of_networkd(host) == wanted
    host.networkd("configured", f"{host.root}/{NETWORK_FILES['networkd']}")
    host.ip("192.168.1.61/24 static", "10.20.0.2/24 static", gateway="192.168.1.1")
    assert of_networkd(host) == wanted
    # Another cluster_ip: the admin comes by the old one, or does not.
    host.vars.update(cluster_ip="10.20.0.9", ansible_host="10.20.0.2")
    assert of_networkd(host) == [
        *("Address=10.20.0.9/24", "Address=192.168.1.61/24", "Address=10.20.0.2/24", "Gateway=192.168.1.1")
    ]
    host.vars.update(cluster_ip="10.20.0.8", ansible_host="192.168.1.61")
    assert "Address=10.20.0.9/24" not in of_networkd(host)


def test_an_interface_with_nothing_on_it(host: PretendedHost) -> None:
    host.units("systemd-networkd")
    host.networkd("unmanaged")
    assert of_networkd(host) == ["Address=10.20.0.2/24", "IPv6AcceptRA=no"]


def test_an_address_by_dhcp_that_is_the_clusters_becomes_a_fixed_one(host: PretendedHost) -> None:
    host.units("systemd-networkd")
    host.write("etc/systemd/network/10-lan.network", "[Match]\nName=eth0\n[Network]\nDHCP=yes\n")
    dns = (
        "                   DNS: 10.20.0.254\n                        10.20.0.253\n                   NTP: 10.20.0.1\n"
    )
    host.networkd("configured", f"{host.root}/etc/systemd/network/10-lan.network", more=dns)
    host.ip("10.20.0.2/24 dynamic", gateway="10.20.0.254")
    first = host.bootstrap()
    assert "\nAddress=10.20.0.2/24\nGateway=10.20.0.254\nDNS=10.20.0.254\nDNS=10.20.0.253\n" in first
    assert first.endswith("[Network]\nDHCP=no\n")
    host.write(NETWORK_FILES["networkd"], first.replace("/etc/systemd", f"{host.root}/etc/systemd"))
    host.networkd("configured", f"{host.root}/{NETWORK_FILES['networkd']}", more=dns)
    host.ip("10.20.0.2/24 static", gateway="10.20.0.254")
    assert host.bootstrap() == first


def netplan(host: PretendedHost, match: str = "Name=eth0", key: str = "eth0") -> None:
    host.units("systemd-networkd")
    host.program("netplan")
    host.write("etc/netplan/50-cloud-init.yaml", f"network:\n  ethernets:\n    {key}: {{dhcp4: true}}\n")
    host.write(f"run/systemd/network/10-netplan-{key}.network", f"[Match]\n{match}\n[Network]\nDHCP=ipv4\n")
    host.networkd("configured", f"{host.root}/run/systemd/network/10-netplan-{key}.network")
    host.ip("192.168.1.61/24 dynamic", gateway="192.168.1.1")


@pytest.mark.parametrize("key", ["eth0", "lan"])
def test_netplan_is_told_under_the_name_that_it_has_for_the_interface(host: PretendedHost, key: str) -> None:
    netplan(host, "PermanentMACAddress=02:00:00:00:00:01\nName=eth0", key)
    # The pattern in the shell commands is that of the place on a host.
    lines = [line.replace(str(host.root), "") for line in host.look()]
    assert f"netplan {key}" in lines
    wanted = {"network": {"version": 2, "ethernets": {key: {"addresses": ["10.20.0.2/24"]}}}}
    assert yaml.safe_load(host.bootstrap()) == wanted
    host.ip("192.168.1.61/24 dynamic", "10.20.0.2/24 static", gateway="192.168.1.1")
    assert yaml.safe_load(host.bootstrap()) == wanted


@pytest.mark.parametrize("match", ["Name=en* eth*", "Driver=virtio_net", "Name=eth0 eth1"])
def test_a_definition_of_several_interfaces_is_not_given_the_address_of_one(host: PretendedHost, match: str) -> None:
    netplan(host, match, "all")
    assert host.bootstrap().splitlines()[-2:] == ["[Network]", "DHCP=ipv4"]
    assert (host.root / NETWORK_FILES["networkd"]).exists() and not (host.root / NETWORK_FILES["netplan"]).exists()


def test_netplan_alone_about_an_interface_with_addresses_of_nobodys(host: PretendedHost) -> None:
    netplan(host)
    for file in ("etc/netplan/50-cloud-init.yaml", "run/systemd/network/10-netplan-eth0.network"):
        (host.root / file).unlink()
    host.write("etc/netplan/00-other.yaml", "network: {version: 2}\n")
    host.networkd("unmanaged")
    host.ip("192.168.1.61/24 static", gateway="192.168.1.1")
    first = host.bootstrap()
    assert yaml.safe_load(first)["network"]["ethernets"] == {
        "eth0": {
            "addresses": ["10.20.0.2/24", "192.168.1.61/24"],
            "routes": [{"to": "0.0.0.0/0", "via": "192.168.1.1"}],
        }
    }
    # What netplan then makes of the cluster's own file alone.
    host.write("run/systemd/network/10-netplan-eth0.network", "[Match]\nName=eth0\n[Network]\nAddress=10.20.0.2/24\n")
    host.networkd("configured", f"{host.root}/run/systemd/network/10-netplan-eth0.network")
    host.ip("10.20.0.2/24 static", "192.168.1.61/24 static", gateway="192.168.1.1")
    assert host.bootstrap() == first


def ifupdown(host: PretendedHost, known: str = "", sourced: str = "source /etc/network/interfaces.d/*") -> None:
    host.program("ifup")
    host.program("ifquery", known or "address: 192.168.7.5\nnetmask: 255.255.255.0")
    host.write("etc/network/interfaces", f"{sourced.replace('/etc/', f'{host.root}/etc/')}\niface eth0 inet dhcp\n")


def test_ifupdown_gets_a_stanza_beside_the_persons_own(host: PretendedHost) -> None:
    ifupdown(host)
    host.ip("192.168.7.5/24 static")
    stanza = ["auto eth0", "iface eth0 inet static", "    address 10.20.0.2/24"]
    assert host.bootstrap().splitlines()[2:] == stanza
    ifupdown(host, "address: 192.168.7.5\naddress: 10.20.0.2")
    host.ip("192.168.7.5/24 static", "10.20.0.2/24 static")
    assert host.bootstrap().splitlines()[2:] == stanza
    # Another cluster_ip: the admin comes by the old one.
    host.vars.update(cluster_ip="10.20.0.9", ansible_host="10.20.0.2")
    assert host.bootstrap().splitlines()[4::2] == ["    address 10.20.0.9/24", "    address 10.20.0.2/24"]
    host.vars.update(ansible_host="192.168.7.5")
    host.vars.update(cluster_ip="10.20.0.8")
    assert host.bootstrap().splitlines()[4::2] == ["    address 10.20.0.8/24", "    address 10.20.0.2/24"]


def test_ifupdown_gets_no_second_stanza_of_one_address(host: PretendedHost) -> None:
    ifupdown(host, "address: 10.20.0.2/24")
    host.ip("10.20.0.2/24 static")
    assert "iface" not in host.bootstrap().partition("Another stanza of eth0")[2]


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("source /etc/network/interfaces.d/*", True),
        ("source interfaces.d/*", True),
        ("source-directory /etc/network/interfaces.d", True),
        ("source-directory interfaces.d/", True),
        ("source /etc/network/interfaces.d/cluster", True),
        ("# source /etc/network/interfaces.d/*", False),
        ("source /etc/network/interfaces.d/*.cfg", False),
        ("", False),
    ],
)
def test_a_folder_that_ifupdown_does_not_read_is_refused(host: PretendedHost, line: str, read: bool) -> None:
    ifupdown(host, sourced=line)
    said = " ".join((host.judged()["network_refusal"] or "").split())
    assert said == (
        ""
        if read
        else "/etc/network/interfaces on pc-1 does not read /etc/network/interfaces.d/cluster. Run sudo sh -c 'echo"
        ' "source /etc/network/interfaces.d/cluster" >>/etc/network/interfaces\' there, and then bootstrap again.'
    )


def refused(host: PretendedHost, *lines: str) -> str:
    scope = host.scope()
    scope["interface"] = {"stdout_lines": list(lines)}
    return " ".join((scope["network_refusal"] or "").split())


def test_what_a_tool_cannot_do_is_said(host: PretendedHost) -> None:
    unmanaged = refused(host, "network networkmanager", "GENERAL.STATE:10 (unmanaged)")
    assert "NetworkManager does not manage eth0 on pc-1" in unmanaged and "cluster_network" in unmanaged
    assert "older than version 244" in refused(host, "network networkd", "version 241")
    early = "origin /etc/systemd/network/00-lan.network"
    assert "00-lan.network on pc-1 is for eth0 and comes before" in refused(
        host, "network networkd", "version 252", early
    )
    for fine in ("origin /etc/systemd/network/10-lan.network", "origin /run/systemd/network/10-netplan-eth0.network"):
        assert refused(host, "network networkd", "version 252", fine) == ""
