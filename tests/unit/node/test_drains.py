"""The head's list of what is out of service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from clusteradm.node.spec.wire.fleet import ChangeDrains, DrainEntry, DrainReason
from clusteradm.transport import Node, NodeError


def test_drained_and_brought_back(start: Callable[[], Node], tmp_path: Path) -> None:
    node = start()
    assert node.call(ChangeDrains()).drains == {}
    why = DrainReason("hot", "ann")
    first = node.call(ChangeDrains({"w1": why, "w2:0001:01:00.0": why})).drains
    assert list(first) == ["w1", "w2:0001:01:00.0"]
    assert first["w1"].since > 1_700_000_000
    # Again, for another reason: since when it is out does not change.
    again = start().call(ChangeDrains({"w1": DrainReason("still hot", "bob")})).drains
    assert again["w1"] == DrainEntry("still hot", "bob", first["w1"].since)
    assert list(node.call(ChangeDrains(undrain=("w1", "nobody"))).drains) == ["w2:0001:01:00.0"]
    assert (tmp_path / "state/cluster").stat().st_mode & 0o777 == 0o700


def test_a_damaged_list_is_an_error_and_is_kept(start: Callable[[], Node], tmp_path: Path) -> None:
    node = start()
    node.call(ChangeDrains())
    for damaged, message in (
        ("{", "not a JSON document"),
        ('{"w1": {"by": "ann", "since": 1}}', "w1.*reason: missing"),
    ):
        (tmp_path / "state/cluster/drains.json").write_text(damaged)
        with pytest.raises(NodeError, match=message):
            node.call(ChangeDrains({"w1": DrainReason("", "ann")}))
        assert (tmp_path / "state/cluster/drains.json").read_text() == damaged
