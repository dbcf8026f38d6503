"""Uploads of models that are killed anywhere, with the head's power too: nothing half-published, nothing lost."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest
from commands import SHARED, Cluster

from clusteradm.lab.digits import data

pytestmark = pytest.mark.lab

KILLS = 20
BLOBS = "/var/lib/clusteradm/blobs"
ARRIVES = f"until ls -A {BLOBS} | grep -q part; do sleep 0.02; done"
# The node program's command on a host, by a word of its launcher.
SESSION = "clusteradm.node"


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A model of 24 MiB, most of which no runtime reads."""
    path = tmp_path / "large.tflite"
    digits = Path(data.__file__).with_name("digits.tflite").read_bytes()
    path.write_bytes(digits + random.Random(1).randbytes(24 << 20))  # noqa: S311 - ballast
    return path


def whole(cluster: Cluster, name: str) -> list[int]:
    """The versions that everybody sees; each is as its own record says."""
    folder = f"{SHARED}/models/{name}"
    there = cluster.on("head", "sh", "-c", f"ls {folder} 2>/dev/null || true").split()
    versions = sorted(int(each) for each in there if each != "versions.json")
    for version in versions:
        cluster.on("head", "sh", "-c", f"cd {folder}/{version} && sha256sum --check --strict --quiet SHA256SUMS")
        assert len(cluster.on("head", "ls", f"{folder}/{version}").split()) == 3
    return versions


def test_an_upload_may_be_killed_at_any_moment(cluster: Cluster, large: Path) -> None:
    def words(number: int) -> list[object]:
        return ["deploy-model", large, "--name", "large", "--mean", number, "--std", 1, "--limit", "head"]

    cluster.run(*words(1))
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    chance = random.Random(seed)  # noqa: S311 - moments of a test
    kept = 0
    before = whole(cluster, "large")
    for number in range(KILLS):
        how = "power" if number == KILLS // 2 else ("admin", "node")[number % 2]
        process = cluster.start(*words(2 + number))
        if number % 4:  # from the first chunk on: while it is sent, published, verified; else while it connects
            cluster.on("head", "timeout", "10", "sh", "-c", ARRIVES, check=False)
        time.sleep(chance.uniform(0, 1))
        if how == "admin":
            process.kill()
        elif how == "node":
            cluster.on("head", "pkill", "-KILL", "-f", SESSION, check=False)
        else:
            cluster.lab.fault("head", "power")
            process.kill()
            cluster.lab.restore("head")
        process.communicate(timeout=120)
        now = whole(cluster, "large")
        # At most the one version more, and none lost.
        assert now[: len(before)] == before and len(now) - len(before) <= 1
        kept += ".part-" in cluster.on("head", "sh", "-c", f"ls -A {BLOBS} 2>/dev/null || true")
        before = now
    print(f"{len(before) - 1} of {KILLS} were published before they were killed; {kept} times a part was kept")
    assert kept
    out, _ = cluster.run(*words(2 + KILLS), "--json")
    assert json.loads(out)["version"] == before[-1] + 1
    left = cluster.on("head", "find", f"{SHARED}/models/large", BLOBS, "-name", ".*", "-mindepth", "1")
    assert left == ""
    assert json.loads(cluster.run("model", "verify", "large", "--json")[0])["ok"] is True


def test_two_admins_at_once(cluster: Cluster, large: Path) -> None:
    def start(mean: int) -> list[object]:
        return ["deploy-model", large, "--name", "twice", "--mean", mean, "--std", 1, "--limit", "head", "--json"]

    both = [cluster.start(*start(mean)) for mean in (1, 2, 1)]
    outs = [json.loads(process.communicate(timeout=180)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0, 0]
    assert {out["version"] for out in outs} <= {1, 2, 3} and len({out["version"] for out in outs}) >= 2
    assert whole(cluster, "twice") == sorted({out["version"] for out in outs})
    cluster.run("model", "remove", "twice", "--yes")
    assert whole(cluster, "twice") == []
