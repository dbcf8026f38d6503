"""Plan of a job: how its model is read, as deployed or as the user says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import clusteradm
from clusteradm.errors import UsageError
from clusteradm.jobs import Plan
from clusteradm.node.spec.wire.manifest import TASKS
from clusteradm.testing import FakeHosts

INVENTORY = """\
all:
  vars: {cluster_subnet: 10.0.0.0/24, cluster_interface: eth0}
  children:
    head: {hosts: {head: {cluster_ip: 10.0.0.1}}}
    compute: {hosts: {w1: {cluster_ip: 10.0.0.2}}}
"""
TENSOR = {"name": "i", "shape": [1, 8], "dtype": "uint8", "scale": 0.5}
MANIFEST = {
    **dict.fromkeys(("labels", "labels_sha256", "min_runtime", "compiler")),
    **dict.fromkeys(("bytes", "tpu_operations", "cached_bytes", "streamed_bytes"), 0),
    "manifest_version": 1,
    "name": "m",
    "sha256": "0" * 64,
    "description": "",
    "cpu_operations": {},
    "inputs": [TENSOR],
    "outputs": [TENSOR],
}


@pytest.mark.parametrize("task", [None, *TASKS])
def test_a_model_is_read_as_it_was_deployed(task: str | None, tmp_path: Path) -> None:
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    hosts = FakeHosts()
    manifest = {**MANIFEST, "task": task, "threshold": 0.25}
    found = {"models": ["m"], "versions": [3], "version": 3, "path": "/srv/m/3", "manifest": manifest}
    hosts["head"].answer_always("repository-show", found)
    hosts["head"].answer_always("drains", {"drains": {}})
    for name in ("head", "w1"):
        hosts[name].answer_always("probe", {"document": {}})
    with hosts.installed(), clusteradm.open(tmp_path / "inventory.yml") as cluster:
        plan = Plan.make(cluster._connections, "m@stable", cpu=True)
        assert (plan.model.version, plan.model.threshold) == (3, 0.25)
        # Its output is a row of numbers: of boxes, maps or key points it is none.
        kind = {None: "classifier", "classifier": "classifier", "embedding": "embedding"}.get(task, "raw")
        assert (plan.model.task, plan.top) == (kind, 5 if kind == "classifier" else 0)
        assert [f"none of a model for the task {task}" in note for note in plan.notes] == [True] * (kind == "raw")

        def make(**options: Any) -> tuple[str | None, int]:
            made = Plan.make(cluster._connections, "m", cpu=True, **options)
            assert made.notes == ()
            return made.model.task, made.top

        assert make(top=0) == make(task="raw") == ("raw", 0)
        assert make(top=3) == make(task="classifier", top=3) == ("classifier", 3)
        assert make(task="embedding") == ("embedding", 0)
        with pytest.raises(UsageError, match=r"--task pose: its outputs .uint8 1x8. are none of a model for the task"):
            make(task="pose")
        with pytest.raises(UsageError, match="--top is of a classifier's result, and --task says pose"):
            make(task="pose", top=3)
        with pytest.raises(UsageError, match=r"--top 100001: a result has at most 100,000 classes"):
            make(top=100_001)
        assert Plan.make(cluster._connections, "m", cpu=True, threshold=0.0).model.threshold == 0.0
    assert hosts["head"].requests[0].fields["label"] == "stable"
