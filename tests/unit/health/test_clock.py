"""Whose clock is wrong: the host's, the head's or the admin's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clusteradm import shipped
from clusteradm.health import fixes
from clusteradm.health.causes import trace
from clusteradm.health.checks import clock
from clusteradm.health.finding import Finding
from clusteradm.inventory import Cluster, Host
from clusteradm.node.probe import machine as probe

CLUSTER = Cluster(
    Path("inventory.yml"), {}, {name: Host(name, ("head",) if name == "h" else (), {}, {}) for name in ("h", "a", "b")}
)


def error(skews: dict[str, object]) -> dict[str, str]:
    documents = {name: {"clock": {"skew": skew, "doubt": 0.1}} for name, skew in skews.items()}
    found = [finding for name in documents for finding in clock.judge(CLUSTER, CLUSTER.hosts[name], documents)]
    return {finding.host: finding.cause for finding in found if not finding.ok}


@pytest.mark.parametrize(
    ("skews", "expected"),
    [
        ({"h": 0.0, "a": 0.2, "b": -0.2}, []),
        ({"h": 0.0, "a": -31e6, "b": 0.0}, ["a"]),
        ({"h": 3600.0, "a": 0.0, "b": 0.1}, ["h"]),
        # All agree with the head: the admin's clock, one thing to look at.
        ({"h": 60.0, "a": 60.2, "b": 59.9}, ["h"]),
        ({"h": 60.0, "a": 60.2, "b": 0.0}, ["h"]),
        ({"h": 60.0, "a": -60.0}, ["h", "a"]),
        ({"a": 60.0}, ["a"]),
        ({"h": 10.05}, []),
        ({"h": None, "a": "x"}, []),
    ],
)
def test_who_is_blamed(skews: dict[str, object], expected: list[str]) -> None:
    assert list(error(skews)) == expected


def test_where_the_others_agree_the_admin_is_to_look_at_its_own() -> None:
    """And nobody sets the cluster's clocks by it without being asked to."""
    documents = {name: {"clock": {"skew": 60.0, "doubt": 0.1}} for name in ("h", "a")}
    (finding,) = clock.judge(CLUSTER, CLUSTER.hosts["h"], documents)
    assert finding.state == "ADMIN_SKEWED" and not fixes([finding])
    assert "the other hosts agree with it" in finding.cause
    assert "agree" not in error({"h": 60.0, "a": 0.0})["h"]
    assert error({"h": -60.0})["h"] == "the clock is 60 s behind the admin's"


def test_what_is_called_skewed_is_what_bootstrap_sets() -> None:
    text = (shipped.PLAYBOOKS / "prepare.yml").read_text(encoding="utf-8")
    docs = Path(__file__).resolve().parents[3] / "docs"
    for page, words in (("bootstrap.md", "ten seconds"), ("troubleshooting.md", "ten seconds"), ("health.md", "10 s")):
        assert words in (docs / page).read_text(encoding="utf-8")
    assert set(re.findall(r"seconds_off \| int > (\d+)", text)) == {f"{clock.MAX_SKEW_SECONDS:.0f}"}


ADDRESSES = {"h": "10.20.0.1", "a": "10.20.0.2", "b": "10.20.0.3"}
PLACED = Cluster(
    Path("inventory.yml"),
    {},
    {
        name: Host(name, ("head",) if name == "h" else (), {"cluster_ip": address}, {})
        for name, address in ADDRESSES.items()
    },
)
WORLD = {"runs": True, "source": "192.0.2.7", "stratum": 3, "offset": 0.0, "age": 900.0}
ALONE = {"runs": True, "source": "127.127.1.1", "stratum": 10, "offset": 0.0, "age": 0.0}
SILENT = {"runs": True, "source": "", "stratum": 0, "offset": 0.0, "age": 1.6e9, "measures": ""}
FOLLOWS = {"runs": True, "source": "10.20.0.1", "stratum": 4, "offset": 0.0, "age": 20.0}


def of(host: str, told: object, skew: float = 0.0, **others: float) -> Finding:
    """What is said of one host's clock, by what its chrony says. `others`: skews of other hosts."""
    documents = {name: {"clock": {"skew": each, "doubt": 0.1}} for name, each in others.items()}
    documents[host] = {"clock": {"skew": skew, "doubt": 0.1}, "machine": {"time": told}}
    (finding,) = clock.judge(PLACED, PLACED.hosts[host], documents)
    return finding


@pytest.mark.parametrize(
    ("host", "told", "state", "words"),
    [
        ("h", WORLD, "OK", "; +0.00 ms to the time of 192.0.2.7 (stratum 3)"),
        ("h", ALONE, "OK", "its own time"),
        # Before the first answer, chrony serves nothing yet.
        ("h", {**ALONE, "source": "", "stratum": 0}, "OK", "its own time"),
        ("a", {**FOLLOWS, "offset": -0.00125}, "OK", "; -1.25 ms to the head's time"),
        ("a", {**FOLLOWS, "stratum": 11}, "OK", "; +0.00 ms to the head's time, which follows no time server"),
        ("a", {**FOLLOWS, "age": 301.0}, "NOT_FOLLOWING", "its own time"),
        ("a", SILENT, "NOT_FOLLOWING", "its own time"),
        ("a", {**SILENT, "measures": "10.20.0.1"}, "OK", "; its own time, until it has measured the head's"),
        ("a", {**SILENT, "measures": "10.20.0.9"}, "NOT_FOLLOWING", "its own time"),
        ("a", WORLD, "NOT_FOLLOWING", "its own time"),
        ("a", {"runs": False, "installed": True}, "NOT_KEPT", "nobody's time"),
        ("h", {"runs": False, "installed": False}, "NO_CHRONY", "nobody's time"),
        # A document of an older version, or a mangled one.
        ("a", None, "OK", "+0.00 s to the admin"),
        ("a", {"runs": "yes"}, "OK", "+0.00 s to the admin"),
    ],
)
def test_whose_time_it_is(host: str, told: object, state: str, words: str) -> None:
    finding = of(host, told)
    assert finding.state == state and finding.detail.endswith(words)
    assert bool(finding.remedy) is (state != "OK")


def test_a_head_that_follows_the_worlds_time_is_not_set_by_the_admins() -> None:
    """Bootstrap leaves such a clock alone, so that it is no remedy."""
    finding = of("h", WORLD, 60.0)
    assert finding.state == "ADMIN_SKEWED" and "192.0.2.7" in finding.cause
    assert finding.remedy == "set the admin's own clock (timedatectl)" and not fixes([finding])
    assert of("h", ALONE, 60.0).state == "SKEWED"
    assert of("a", FOLLOWS, 60.0, h=60.1).state == "OK"
    assert of("a", FOLLOWS, 60.0, h=0.0).state == "SKEWED"


def test_a_head_without_chrony_is_one_thing_to_repair() -> None:
    findings = [of("h", {"runs": False, "installed": True}), of("a", {**FOLLOWS, "age": 900.0})]
    assert [one.because for one in trace("h", findings)] == ["", "h clock: NOT_KEPT"]


TRACKING = (
    "D8EF2304,216.239.35.4,2,1700000000.123456789,0.000032,0.000031,0.00004,-3.2,0.001,0.02,0.01,0.001,64.1,Normal"
)


NOBODY = (
    "00000000,,0,0.000000000,-0.0,0.0000005,0.000004,0.014,0.000,0.000,1.000000000,1.000000000,16.2,Not synchronised"
)


@pytest.mark.parametrize(
    ("sources", "statistics", "measures"),
    [
        # What chrony 4.3 has said after the standstill of a board, and when it has begun to follow.
        (
            "^,?,10.78.0.1,10,4,377,12,-0.000004,-0.000004,0.0000165",
            "10.78.0.1,2,0,16,0.0,2000.0,-0.000004,4.0",
            "10.78.0.1",
        ),
        (
            "^,?,10.78.0.1,10,4,377,4,0.000072,0.000077,0.0000937",
            "10.78.0.1,3,3,32,0.247,3103.312,0.000001,0.0000319",
            "",
        ),
        ("^,?,10.78.0.1,0,4,0,4294967295,0.0,0.0,0.0", "10.78.0.1,0,0,0,0.0,2000.0,0.0,4.0", ""),
        ("506 Cannot talk to daemon", "506 Cannot talk to daemon", ""),
        ("", "", ""),
    ],
)
def test_a_server_that_chrony_measures(
    sources: str, statistics: str, measures: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"tracking": NOBODY, "sources": sources, "sourcestats": statistics}
    monkeypatch.setattr(probe, "output", lambda command, seconds: said[command[-1]] + "\n")
    assert probe.keeper("/")["measures"] == measures


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            TRACKING + "\n",
            {"runs": True, "source": "216.239.35.4", "stratum": 2, "offset": -0.000032, "age": 10.0, "measures": ""},
        ),
        ("506 Cannot talk to daemon\n", {"runs": False, "installed": False}),
        ("x,y,z,1,2,3,4,5,6,7,8,9,10,Normal", {"runs": False, "installed": False}),
        (None, {"runs": False, "installed": False}),
    ],
)
def test_what_chrony_says(said: str | None, told: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(probe, "output", lambda command, seconds: said)
    monkeypatch.setattr(probe.time, "time", lambda: 1700000010.123456789)
    assert probe.keeper(str(tmp_path)) == told
