"""Whose clock is wrong: the host's, the head's or the admin's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clusteradm import shipped
from clusteradm.health import fixes
from clusteradm.health.checks import clock
from clusteradm.inventory import Cluster, Host

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
    assert re.findall(r"abs > (\d+)$", text, re.M) == [f"{clock.MAX_SKEW_SECONDS:.0f}"]
