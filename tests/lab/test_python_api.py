"""The Python API on a virtual cluster: the same answers as the commands."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from commands import Cluster

import clusteradm

pytestmark = pytest.mark.lab


def test_the_api_and_the_commands_agree(cluster: Cluster, digits_model: Path) -> None:
    cluster.well()
    with clusteradm.open(cluster.lab.inventory) as api:
        report = api.health()
        document = cluster.health()
        assert {one.state for one in report.findings} <= {"OK", "SLOW_LINK"}
        assert {one.subject for one in report.findings} == {one["subject"] for one in document["findings"]}
        told: list[str] = []
        recap = api.bootstrap(check=True, limit="compute", on_event=lambda event: told.append(type(event).__name__))
        assert not recap.failed and not recap.unreachable and "TaskFinished" in told
        deployment = api.deploy_model(digits_model, "python-api")
        assert deployment.ok and sorted(deployment.verified.hosts) == cluster.nodes
        latest = api.model("python-api")
        assert latest.manifest is not None
        assert latest.manifest.sha256 == hashlib.sha256(digits_model.read_bytes()).hexdigest()
        listed = {(one.name, one.version) for one in api.models().versions}
    shown = json.loads(cluster.run("model", "list", "--json")[0])["models"]
    assert {(one["name"], one["version"]) for one in shown} == listed and ("python-api", latest.version) in listed
