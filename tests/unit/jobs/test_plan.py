"""Plan of a job: how its model is read, as deployed or as the user says."""

from __future__ import annotations

from pathlib import Path

import pytest

import clusteradm
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
        assert plan.top(None) == (5 if task in (None, "classifier") else 0)
        assert (plan.top(0), plan.top(3)) == (0, 3)
        assert Plan.make(cluster._connections, "m", cpu=True, threshold=0.0).model.threshold == 0.0
    assert hosts["head"].requests[0].fields["label"] == "stable"
