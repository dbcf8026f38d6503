"""The shim of an old library, the lab's: kept where a trial inference comes through it, else taken out again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import Cluster

from clusteradm.lab import cache, image, repository, tpu_package
from clusteradm.lab.suites import DEFAULT, SUITES

pytestmark = pytest.mark.lab

LIBRARY = "/opt/clusteradm/lib/libedgetpu.so.1"
KEPT = "The shim came through its trial, or is gone"


@pytest.fixture
def board(cluster: Cluster, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A board with the old library and a compiler, and an inventory that asks for the shim there."""
    name = "w2"
    cached = cache.Cache(cache.default_root())
    base = image.build(SUITES[DEFAULT], cached, print).lower[-1]
    compiler = cached.part(
        f"compiler-{DEFAULT}",
        [base.name],
        lambda building: repository.download(building, base, ["gcc", "libc6-dev"]),
        print,
        "a compiler for a board",
    )
    shared = cluster.lab.places.root / "nodes" / name / "shared"
    for package in compiler.rglob("*.deb"):
        shutil.copy(package, shared)
    cluster.on(name, "sh", "-ec", "dpkg -i /run/clusteradm-lab/*.deb >/dev/null; rm /run/clusteradm-lab/*.deb")
    cluster.on(name, "sh", "-ec", f"apt-get install -qq --allow-downgrades libedgetpu1-std={tpu_package.OLD_VERSION}")
    document = yaml.safe_load(cluster.lab.inventory.read_text(encoding="utf-8"))
    document["all"]["children"]["compute"]["hosts"][name]["cluster_tpu_shim"] = True
    inventory = tmp_path / "inventory.yml"
    inventory.write_text(yaml.safe_dump(document), encoding="utf-8")
    (tmp_path / "known_hosts").write_bytes(cluster.lab.inventory.with_name("known_hosts").read_bytes())
    yield name, inventory
    bootstrap(cluster, cluster.lab.inventory)
    assert cluster.on(name, "sh", "-c", f"ls {LIBRARY} 2>&1 || true").startswith("ls: ")


def bootstrap(cluster: Cluster, inventory: Path) -> dict[str, str]:
    """Task -> status of the host with the shim."""
    out, _ = cluster.run("bootstrap", "--json", "-i", inventory, "--limit", "w2")
    tasks: list[dict[str, Any]] = json.loads(out)["hosts"]["w2"]["tasks"]
    return {task["task"]: task["status"] for task in tasks}


def test_the_shim_makes_an_old_library_fit(cluster: Cluster, board: tuple[str, Path]) -> None:
    name, inventory = board
    (before,) = [one for one in cluster.health(expect=3)["not_ok"] if not one["because"]]
    assert (before["subject"], before["state"]) == (name, "MISMATCH")
    done = bootstrap(cluster, inventory)
    assert (done["Build the shim, and keep it if a trial inference comes through"], done[KEPT]) == ("changed", "ok")
    # What ranks load is the shim, and the trial inference of health comes through it.
    document = cluster.health()
    assert document["not_ok"] == []
    (runtime,) = [one for one in document["findings"] if (one["subject"], one["check"]) == (name, "runtime")]
    assert f"libedgetpu {tpu_package.OLD_VERSION} behind a shim (experimental)" in runtime["cause"]
    assert "changed" not in bootstrap(cluster, inventory).values()


def test_one_that_does_not_come_through_is_gone(cluster: Cluster, board: tuple[str, Path]) -> None:
    name, inventory = board
    cluster.lab.fault(name, "busy")
    try:
        done = bootstrap(cluster, inventory)
        assert done[KEPT] == "ignored"
        assert cluster.on(name, "sh", "-c", f"ls {LIBRARY} 2>&1 || true").startswith("ls: ")
    finally:
        cluster.lab.restore(name)
