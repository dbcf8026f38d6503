"""The links of the private network, judged from what the probes read."""

from __future__ import annotations

from typing import Any

import pytest

from clusteradm.health.checks import links
from clusteradm.health.reading import Reading
from clusteradm.inventory import Host
from clusteradm.node.probe import links as link_probe


def host(name: str, address: str = "10.0.0.1") -> Host:
    return Host(name, ("compute",), {"cluster_ip": address, "cluster_interface": "eth0"}, {})


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


def test_a_lost_echo_is_not_a_packet_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, expected in (([NONE, GOOD], True), ([NONE] * 3, False), ([None], None), ([GOOD], True)):
        answers = iter(said)
        monkeypatch.setattr(link_probe, "output", lambda command, answers=answers: next(answers))
        assert link_probe.whole("10.0.0.1", 1500) is expected
        assert list(answers) == []
    assert link_probe.whole("10.0.0.1", 65536) is None


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
        # There is no ping on the host.
        (link(head={"loss": None, "milliseconds": None, "whole": None}), "OK"),
        (link(head={"loss": 0.2}), "LOSSY"),
        (link(head={"whole": False}), "MTU"),
        (link(duplex="half"), "HALF_DUPLEX"),
        (link(speed=100), "SLOWER"),
        (link(head={"milliseconds": 40.0}), "LATE"),
    ],
)
def test_a_link(about: dict[str, Any], state: str) -> None:
    (finding,) = links.judge(host("w1"), Reading(about), [about["speed"] or 0, 1000])
    assert finding.state == state


def test_a_link_is_slow_beside_those_of_machines_like_it() -> None:
    def document(speed: int, model: str | None = None) -> dict[str, Any]:
        return {"links": link(speed=speed), "system": {"model": model}}

    documents = {"head": document(2500), **{f"w{number}": document(1000, "a board") for number in range(3)}}
    assert links.speeds(host("w0"), documents) == [1000, 1000, 1000] and links.speeds(host("head"), documents) == [2500]
    alike = [10_000, 1000, 1000]
    assert [finding.state for finding in links.judge(host("w0"), Reading(link()), alike)] == ["OK"]


def test_a_second_interface_of_the_host_may_answer_for_it() -> None:
    hosts = [host("head", "10.0.0.1"), host("w1", "10.0.0.2")]
    documents: dict[str, Any] = {
        "head": {"links": link("52:54:00:00:00:01", neighbours={"10.0.0.2": "52:54:00:00:00:77"})},
        "w1": {"links": link("52:54:00:00:00:02"), "network": {"interfaces": {"wlan0": {"mac": "52:54:00:00:00:77"}}}},
    }
    assert list(links.twins(hosts, documents)) == []
    documents["w1"]["network"] = {}
    assert [finding.state for finding in links.twins(hosts, documents)] == ["SAME_ADDRESS"]


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


def network(*addresses: str) -> dict[str, Any]:
    return {"interfaces": {"lo": {"addresses": ["127.0.0.1/8"]}, "eth0": {"addresses": list(addresses)}}}


def test_a_host_that_has_another_ones_address() -> None:
    hosts = [host("head", "10.0.0.1"), host("w1", "10.0.0.2"), host("w2", "10.0.0.3")]
    documents: dict[str, Any] = {
        "head": {"links": link("52:54:00:00:00:01"), "network": network("10.0.0.1/24")},
        "w1": {"links": link("52:54:00:00:00:02"), "network": network("10.0.0.2/24", "10.0.0.1/24")},
    }
    assert [(one.host, one.state) for one in links.twins(hosts, documents)] == [("head", "SAME_ADDRESS")]
    # Who sees it on the wire as well adds no second finding; who is away is a victim all the same.
    documents["head"]["links"]["neighbours"] = {"10.0.0.1": "52:54:00:00:00:02"}
    documents["w1"]["network"] = network("10.0.0.2/24", "10.0.0.3/24")
    (finding,) = links.twins(hosts, documents)
    assert (finding.host, finding.state) == ("w2", "SAME_ADDRESS")
    assert "w1 has its address 10.0.0.3" in finding.cause and "ip address del 10.0.0.3/24 dev eth0" in finding.remedy


def test_a_known_machine_that_answers_for_another_is_named() -> None:
    hosts = [host("head", "10.0.0.1"), host("w1", "10.0.0.2"), host("w2", "10.0.0.3")]
    documents = {
        "head": {"links": link("52:54:00:00:00:01")},
        "w1": {"links": link("52:54:00:00:00:02")},
        "w2": {"links": link("52:54:00:00:00:03", neighbours={"10.0.0.1": "52:54:00:00:00:02"})},
    }
    (finding,) = links.twins(hosts, documents)
    assert finding.host == "head" and "w1 has its address" in finding.cause
