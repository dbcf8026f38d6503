"""The rest of the board and the cluster, judged from what the probes read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clusteradm.health import drift, links, machine
from clusteradm.inventory import Host
from clusteradm.node.probe import links as link_probe
from clusteradm.node.probe import machine as machine_probe


def host(name: str, address: str = "10.0.0.1") -> Host:
    return Host(name, ("compute",), {"cluster_ip": address, "cluster_interface": "eth0"}, {})


def put(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


# A Dev Board: the i.MX 8M's zone and its fan (Mendel's device tree), Samsung eMMC.
BOARD = {
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "sys/class/thermal/thermal_zone0/temp": "48000",
    "sys/class/thermal/thermal_zone0/trip_point_0_type": "passive",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp": "85000",
    "sys/class/thermal/thermal_zone0/trip_point_1_type": "critical",
    "sys/class/thermal/thermal_zone0/trip_point_1_temp": "95000",
    "sys/class/thermal/cooling_device0/type": "gpio-fan",
    "sys/class/hwmon/hwmon0/name": "gpio_fan",
    "sys/class/hwmon/hwmon0/fan1_input": "8600",
    "sys/class/mmc_host/mmc0/mmc0:0001/life_time": "0x01 0x02",
    "sys/class/mmc_host/mmc0/mmc0:0001/pre_eol_info": "0x01",
    "proc/meminfo": "MemTotal: 1000000 kB\nCmaTotal: 655360 kB\nCmaFree: 600000 kB",
}


def judged(root: Path, more: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    monkeypatch.setattr(machine_probe, "output", lambda command: None)
    put(root, {**BOARD, **more})
    found = machine.judge(host("w1"), machine_probe.probe(str(root), {}))
    return [(finding.check, finding.state) for finding in found]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, [("machine", "OK")]),
        ({"sys/class/thermal/thermal_zone0/temp": "86000"}, [("heat", "HOT")]),
        ({"sys/class/thermal/thermal_zone0/temp": "91000"}, [("heat", "CRITICAL")]),
        ({"sys/class/thermal/thermal_zone0/temp": "garbage"}, [("machine", "OK")]),
        (
            {"sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1", "sys/class/hwmon/hwmon1/name": "rpi_volt"},
            [("power", "LOW")],
        ),
        ({"proc/meminfo": "CmaTotal: 655360 kB\nCmaFree: 1000 kB"}, [("memory", "NO_CMA")]),
        ({"sys/class/mmc_host/mmc0/mmc0:0001/life_time": "0x01 0x0a"}, [("storage", "WORN")]),
        ({"sys/class/mmc_host/mmc0/mmc0:0001/pre_eol_info": "0x03"}, [("storage", "WORN")]),
        ({"run/reboot-required": "*** System restart required ***"}, [("reboot", "PENDING")]),
    ],
)
def test_a_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, str], expected: list[tuple[str, str]]
) -> None:
    assert judged(tmp_path, more, monkeypatch) == expected


def test_a_machine_that_shows_nothing_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_probe, "output", lambda command: None)
    (finding,) = machine.judge(host("w1"), machine_probe.probe(str(tmp_path), {}))
    assert (finding.ok, finding.detail) == (True, "ok")


GOOD = """\
--- 10.0.0.1 ping statistics ---
5 packets transmitted, 5 received, 0% packet loss, time 812ms
rtt min/avg/max/mdev = 0.401/0.523/0.710/0.102 ms
"""
NONE = """\
--- 10.0.0.9 ping statistics ---
5 packets transmitted, 0 received, +5 errors, 100% packet loss, time 4099ms
"""


def test_what_ping_says() -> None:
    assert link_probe.parse_ping(GOOD) == {"loss": 0.0, "milliseconds": 0.523}
    assert link_probe.parse_ping(NONE) == {"loss": 1.0, "milliseconds": None}
    assert link_probe.parse_ping("") == {"loss": None, "milliseconds": None}


def link(mac: str = "52:54:00:00:00:01", **more: Any) -> dict[str, Any]:
    head = {"loss": 0.0, "milliseconds": 0.5, "whole": True, **more.pop("head", {})}
    return {
        "interface": "eth0",
        "mac": mac,
        "speed": 1000,
        "duplex": "full",
        "mtu": 1500,
        "head": head,
        "neighbours": {},
        **more,
    }


@pytest.mark.parametrize(
    ("about", "state"),
    [
        (link(), "OK"),
        ({**link(), "head": None}, "OK"),
        (link(speed=None, duplex=None), "OK"),
        (link(speed=-1), "OK"),
        (link(head={"loss": 1.0, "milliseconds": None, "whole": None}), "NO_HEAD"),
        (link(head={"loss": None, "milliseconds": None, "whole": None}), "NO_HEAD"),
        (link(head={"loss": 0.2}), "LOSSY"),
        (link(head={"whole": False}), "MTU"),
        (link(duplex="half"), "HALF_DUPLEX"),
        (link(speed=100), "SLOWER"),
        (link(head={"milliseconds": 40.0}), "LATE"),
    ],
)
def test_a_link(about: dict[str, Any], state: str) -> None:
    (finding,) = links.judge(host("w1"), about, {"w1": about["speed"] or 0, "w2": 1000})
    assert finding.state == state


def test_two_that_are_taken_for_one() -> None:
    hosts = [host("head", "10.0.0.1"), host("w1", "10.0.0.2"), host("w2", "10.0.0.3"), host("gone", "10.0.0.4")]
    seen = {"10.0.0.2": "52:54:00:00:00:02", "10.0.0.3": "52:54:00:00:00:99"}
    documents = {
        "head": {"links": link("52:54:00:00:00:01", neighbours=seen)},
        "w1": {"links": link("52:54:00:00:00:02")},
        "w2": {"links": link("52:54:00:00:00:03")},
    }
    (finding,) = links.twins(hosts, documents)
    assert (finding.host, finding.state) == ("w2", "SAME_ADDRESS")
    assert "52:54:00:00:00:99" in finding.cause
    documents["w2"] = {"links": link("52:54:00:00:00:02")}
    assert next((one.host, one.state) for one in links.twins(hosts, documents)) == ("w2", "SAME_MAC")
    assert list(links.twins(hosts, {"w1": {"links": {"error": "x"}}, "w2": {}})) == []


def test_drift() -> None:
    def document(kernel: str, model: str | None, **packages: str) -> dict[str, Any]:
        return {"system": {"kernel": kernel, "model": model}, "machine": {"packages": packages}}

    board, pc = "Freescale i.MX8MQ Phanbell", None
    documents = {
        "c0": document("4.14.98-imx", board, openmpi="3.1.3"),
        "c1": document("4.14.98-imx", board, openmpi="3.1.3"),
        "c2": document("4.9.51-imx", board, openmpi="4.1.4"),
        "pc": document("6.1.0-amd64", pc, openmpi="3.1.3"),
        "mute": {"error": {}},
    }
    assert [(one.host, one.state) for one in drift.judge(documents)] == [("c2", "PACKAGES"), ("c2", "KERNEL")]
    assert list(drift.judge({})) == []
