"""The head's list of what is out of service."""

from __future__ import annotations

import json
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


A, B = "0000:01:00.0", "0000:02:00.0"


def test_a_tpu_that_failed_in_a_job_is_drained_with_the_reason_and_returned_where_it_works_again(
    start: Callable[[], Node], tmp_path: Path
) -> None:
    own = tmp_path / "state/jobs/20260101-000000-abcdef"
    (own / "run").mkdir(parents=True)
    model = {"name": "m", "version": 1, "path": "/m", "sha256": "0", "input": {"dtype": "uint8", "shape": [1]}}
    spec = {"model": model, "head": "head", "slots": [{"host": "w1", "tpus": [A, B]}], "ranks": None, "top": 1}
    spec.update(python="python3", job=own.name, inputs=1, folder="/j")
    (own / "spec.json").write_text(json.dumps(spec))
    node = start()
    node.call(ChangeDrains({f"w1:{B}": DrainReason("hot", "ann")}))
    # The cluster user can write anything there: a host, or a TPU that is not the job's, is none of it.
    ill = {f"w1:{A}": "it\nhangs", f"w1:{B}": "it hangs", "w1": "", "w2:0000:01:00.0": "not mine"}
    (own / "run/tpus.json").write_text(json.dumps({"ill": ill, "well": []}))
    drains = node.call(ChangeDrains()).drains
    assert {name: (entry.reason, entry.by) for name, entry in drains.items()} == {
        f"w1:{A}": ("it hangs", "job 20260101-000000-abcdef"),
        f"w1:{B}": ("hot", "ann"),
    }
    # What a person returns to service stays there.
    assert list(node.call(ChangeDrains(undrain=(f"w1:{A}",))).drains) == [f"w1:{B}"]
    assert list(node.call(ChangeDrains()).drains) == [f"w1:{B}"]
    (own / "run/tpus.json").write_text(json.dumps({"ill": {f"w1:{A}": "again"}, "well": [f"w1:{B}"]}))
    assert sorted(node.call(ChangeDrains()).drains) == [f"w1:{A}", f"w1:{B}"], "ann's is not the job's"
    (own / "run/tpus.json").write_text(json.dumps({"ill": {}, "well": [f"w1:{A}"]}))
    assert list(node.call(ChangeDrains()).drains) == [f"w1:{B}"]
    (own / "run/tpus.json").write_text("{")
    assert list(node.call(ChangeDrains()).drains) == [f"w1:{B}"]
