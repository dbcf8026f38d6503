"""The profile of the private network, for what an interface may already have (playbooks/network.yml)."""

from __future__ import annotations

import configparser

import pytest

from clusteradm import shipped
from clusteradm.playbook.render.jinja import Templates

TEMPLATE = shipped.TEMPLATES / "node" / "etc" / "NetworkManager" / "system-connections" / "cluster.nmconnection.j2"
OFF = ["GENERAL.STATE:30 (disconnected)", "GENERAL.CON-UUID:", "IP4.GATEWAY:"]
ON = ["GENERAL.STATE:100 (connected)", "GENERAL.CON-UUID:5c7a5f04-7f0c-4b6e-9a2e-6d1f2c0a8e11"]
OTHER = ["GENERAL.STATE:100 (connected)", "GENERAL.CON-UUID:0d3f42d5-0f1e-3e2b-a2a4-5a7c1b9f0c11"]


def profile(lines: list[str], ip: str = "10.20.0.2", **more: str) -> configparser.ConfigParser:
    text = Templates().file(
        TEMPLATE.read_text(encoding="utf-8"),
        str(TEMPLATE),
        {
            "managed": "Written by a test.",
            "profile_uuid": "5c7a5f04-7f0c-4b6e-9a2e-6d1f2c0a8e11",
            "cluster_interface": "eth0",
            "cluster_ip": ip,
            "cluster_subnet": "10.20.0.0/24",
            "inventory_hostname": "coral-1",
            "interface": {"stdout_lines": lines},
            **more,
        },
    )
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.read_string(text)
    return parsed


def ipv4(lines: list[str], ip: str = "10.20.0.2", **more: str) -> dict[str, str]:
    return dict(profile(lines, ip, **more)["ipv4"])


ALONE = {"method": "manual", "address1": "10.20.0.2/24", "never-default": "true"}


def test_an_interface_with_nothing_on_it() -> None:
    parsed = profile(OFF)
    assert dict(parsed["ipv4"]) == ALONE
    assert dict(parsed["connection"]) == {
        "id": "cluster",
        "uuid": "5c7a5f04-7f0c-4b6e-9a2e-6d1f2c0a8e11",
        "type": "ethernet",
        "interface-name": "eth0",
        # NetworkManager's own profiles have 0 or less: this one wins at boot.
        "autoconnect-priority": "100",
    }
    # "disabled" would be better and is unknown to the NetworkManager of Mendel (1.14).
    assert dict(parsed["ipv6"]) == {"method": "ignore"}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(
            [*OTHER, "address 169.254.7.9/16 static", "IP4.GATEWAY:--"], ALONE, id="an address of its own making"
        ),
        pytest.param(["address 10.20.0.2/24 static", "own 10.20.0.2/24", *ON, "IP4.GATEWAY:"], ALONE, id="again"),
        pytest.param(
            ["address 10.20.0.9/24 static", "own 10.20.0.9/24", *ON, "IP4.GATEWAY:"], ALONE, id="another cluster_ip"
        ),
        pytest.param(
            ["address 192.168.1.61/24 dynamic", *OTHER, "IP4.GATEWAY:192.168.1.1", "IP4.DNS[1]:192.168.1.1"],
            {"method": "auto", "address1": "10.20.0.2/24"},
            id="the admin comes over it, by DHCP",
        ),
        pytest.param(
            ["address 10.20.0.2/24 static", "own 10.20.0.2/24", "dhcp", *ON, "IP4.GATEWAY:"],
            {"method": "auto", "address1": "10.20.0.2/24"},
            id="by DHCP, and there is no lease today",
        ),
        pytest.param(
            [
                "address 192.168.1.61/24 static",
                "address 192.168.7.5/30 static",
                *OTHER,
                "IP4.GATEWAY:192.168.1.1",
                "IP4.DNS[1]:192.168.1.1",
                "IP4.DNS[2]:192.168.1.2",
            ],
            {
                "method": "manual",
                "address1": "10.20.0.2/24",
                "address2": "192.168.1.61/24",
                "address3": "192.168.7.5/30",
                "gateway": "192.168.1.1",
                "dns": "192.168.1.1;192.168.1.2;",
            },
            id="the admin comes over it, by fixed addresses",
        ),
        pytest.param(
            ["address 10.20.0.2/24 dynamic", *OTHER, "IP4.GATEWAY:10.20.0.254", "IP4.DNS[1]:10.20.0.254"],
            {"method": "manual", "address1": "10.20.0.2/24", "gateway": "10.20.0.254", "dns": "10.20.0.254;"},
            id="its address is already the cluster's",
        ),
    ],
)
def test_what_is_there_is_kept(lines: list[str], expected: dict[str, str]) -> None:
    assert ipv4(lines) == expected


def test_the_address_by_which_the_admin_comes_is_kept_even_if_it_was_the_clusters() -> None:
    lines = ["address 10.20.0.9/24 static", "own 10.20.0.9/24", *ON, "IP4.GATEWAY:"]
    assert ipv4(lines, ansible_host="10.20.0.9") == {**ALONE, "address2": "10.20.0.9/24"}
    assert ipv4(lines, ansible_host="192.168.1.61") == ALONE


def test_a_second_run_sees_what_the_first_made_and_makes_the_same() -> None:
    before = [
        "address 192.168.1.61/24 static",
        *OTHER,
        "IP4.GATEWAY:192.168.1.1",
        "IP4.DNS[1]:192.168.1.1",
    ]
    after = [
        "address 10.20.0.2/24 static",
        "address 192.168.1.61/24 static",
        "own 10.20.0.2/24",
        *ON,
        "IP4.GATEWAY:192.168.1.1",
        "IP4.DNS[1]:192.168.1.1",
    ]
    assert ipv4(before) == ipv4(after)
