"""Versions on a virtual cluster: labels and jobs that use them, bits that flip on a disk, copies on the boards' own."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from commands import SHARED, Cluster

from clusteradm.lab.digits import data

pytestmark = pytest.mark.lab

NAME = "versions"
COPIES = "/var/lib/clusteradm/models"
# One bit of a file, which keeps its times; the folder and the file are read-only.
FLIP = """
import os, sys
path = sys.argv[1]
about = os.stat(path)
os.chmod(path, 0o644)
with open(path, "r+b") as file:
    file.seek(-100, 2)
    byte = file.read(1)[0]
    file.seek(-100, 2)
    file.write(bytes([byte ^ 1]))
os.chmod(path, 0o444)
os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
"""


@pytest.fixture
def versions(cluster: Cluster, digits_model: Path) -> Iterator[str]:
    """The folder of a model with versions 1 and 2."""
    for deviation in (255, 254):
        cluster.run("deploy-model", digits_model, "--name", NAME, "--mean", 0, "--std", deviation)
    yield f"{SHARED}/models/{NAME}"
    cluster.run("model", "remove", NAME, "--yes")


@pytest.fixture
def few(tmp_path: Path) -> Path:
    path = tmp_path / "few.npy"
    np.save(path, data.load().held_out.images[:64])
    return path


@pytest.fixture
def job(cluster: Cluster, versions: str, tmp_path: Path) -> Iterator[str]:
    """The id of a job that runs the stable version, 1."""
    cluster.run("model", "label", NAME, 1, "stable")
    np.save(tmp_path / "many.npy", np.concatenate([data.load().held_out.images] * 32))
    # On one TPU it lasts 83 s.
    words = ("--model", f"{NAME}@stable", "--ranks", 1, tmp_path / "many.npy", "--output", tmp_path / "r.jsonl")
    process = cluster.start("infer", *words)
    assert process.stderr is not None
    line = next(line for line in process.stderr if line.startswith("job "))
    assert f"{NAME} version 1" in line
    job = line.split()[1].rstrip(":")
    yield job
    process.kill()
    process.communicate(timeout=60)
    cluster.run("job", "cancel", job)


def test_what_a_job_uses_stays(cluster: Cluster, versions: str, job: str) -> None:
    shown = json.loads(cluster.run("model", "show", f"{NAME}@stable", "--json")[0])
    assert shown["uses"] == [{"kind": "job", "name": job, "version": 1}]
    assert f"job {job}" in cluster.run("model", "show", f"{NAME}:1")[0]
    for model in (f"{NAME}:1", NAME):
        refused = cluster.run("model", "remove", model, "--yes", expect=2)[1]
        assert f"{model} is not removed: it is used by job {job}" in refused
    cluster.run("model", "unlabel", NAME, "stable")
    listed = json.loads(cluster.run("model", "list", "--json")[0])["models"]
    assert [one["labelled"] for one in listed if one["name"] == NAME] == [[], []]
    cluster.run("job", "cancel", job)
    cluster.run("model", "remove", f"{NAME}:1", "--yes")
    assert cluster.on("head", "ls", "-A", versions).split() == ["2", "versions.json"]


def test_a_flipped_bit_on_the_heads_disk_is_found_by_every_host(
    cluster: Cluster, versions: str, digits_model: Path
) -> None:
    assert json.loads(cluster.run("model", "verify", NAME, "--json")[0])["ok"] is True
    for file in ("model.tflite", "manifest.json"):
        cluster.on("head", "python3", "-c", FLIP, f"{versions}/2/{file}")
        found = json.loads(cluster.run("model", "verify", "--json", expect=3)[0])
        (damage,) = (each for each in found["damages"] if each["name"] == NAME)
        assert (damage["version"], damage["file"], damage["everywhere"]) == (2, file, True)
        assert sorted(damage["hosts"]) == cluster.nodes
        refused = cluster.run("model", "label", NAME, 2, "stable", expect=2)[1]
        assert "its files are not as they were stored" in refused
        again = ("--name", NAME, "--version", 2, "--mean", 0, "--std", 254)
        assert f"{NAME} version 2: repaired" in cluster.run("deploy-model", digits_model, *again)[0]
        assert json.loads(cluster.run("model", "verify", NAME, "--json")[0])["ok"] is True


@pytest.fixture
def local(cluster: Cluster) -> Iterator[Path]:
    """The cluster's inventory, with copies."""
    document = yaml.safe_load(cluster.lab.inventory.read_text())
    document["all"].setdefault("vars", {})["cluster_models"] = "local"
    path = cluster.lab.inventory.with_name("local.yml")
    path.write_text(yaml.safe_dump(document))
    yield path
    path.unlink()
    for node in cluster.nodes:
        cluster.on(node, "rm", "-rf", COPIES)


def test_ranks_read_their_own_copies(
    cluster: Cluster, versions: str, local: Path, digits_model: Path, few: Path, tmp_path: Path
) -> None:
    boards = [node for node in cluster.nodes if node != "head"]
    out = cluster.run("model", "verify", "-i", local)[0]
    assert f"copies on the disks of {len(boards)} hosts" in out
    copy = f"{COPIES}/{hashlib.sha256(digits_model.read_bytes()).hexdigest()}"
    for node in boards:
        assert cluster.on(node, "sha256sum", copy).split()[0] == copy.rpartition("/")[2]
        assert cluster.on(node, "stat", "-c", "%U %a", copy).split() == ["root", "444"]
    assert cluster.on("head", "ls", COPIES, check=False) == ""
    # Nobody can read the model on the share: a rank without a copy fails.
    cluster.on("head", "chmod", "000", f"{versions}/2/model.tflite")
    try:
        words = ("infer", "--model", f"{NAME}:2", few, "--limit", ",".join(boards), "--output", tmp_path / "r.jsonl")
        document = json.loads(cluster.run(*words, "--json")[0])
        assert (document["images"], document["errors"]) == (64, 0)
    finally:
        cluster.on("head", "chmod", "444", f"{versions}/2/model.tflite")
    cluster.on("w1", "python3", "-c", FLIP, copy)
    out, said = cluster.run("model", "verify", "-i", local, expect=3)
    assert "damaged on the disk of w1, and copied again: " in said
    assert cluster.on("w1", "sha256sum", copy).split()[0] == copy.rpartition("/")[2]
    cluster.run("model", "verify", "-i", local)


def test_the_threshold_of_a_deployment_is_the_jobs(cluster: Cluster, digits_model: Path, few: Path) -> None:
    def answers(*more: object) -> list[list[dict[str, float]]]:
        lines = cluster.run("infer", "--model", "sure", few, *more)[0].splitlines()
        return [json.loads(line)["top"] for line in lines]

    cluster.run("deploy-model", digits_model, "--name", "sure", "--threshold", 0.9, "--task", "classifier")
    sure, every = answers(), answers("--threshold", 0)
    assert [len(top) for top in every] == [5] * 64
    assert sure == [[answer for answer in top if answer["score"] >= 0.9] for top in every]
    cluster.run("model", "remove", "sure", "--yes")


def test_sums_are_those_of_the_boards_own_tool(cluster: Cluster, versions: str) -> None:
    for node in cluster.nodes:
        done: subprocess.CompletedProcess[str] = cluster.lab.exec(
            node, ["sh", "-c", f"cd {versions}/1 && sha256sum --check --strict SHA256SUMS"], check=False
        )
        assert done.returncode == 0 and done.stdout.count(": OK") == 2


def test_a_split_is_balanced_by_the_times_of_a_board(cluster: Cluster, tmp_path: Path) -> None:
    model = Path(data.__file__).with_name("digits.tflite")
    words = ["--segments", 2, "--balance", "latency", "--host", "w1", "--output", tmp_path, "--json"]
    found = json.loads(cluster.run("model", "split", model, *words)[0])
    assert found["measured_on"] == "w1's CPU" and found["compared_inputs"] == 3
    assert all(one["milliseconds"] > 0 for one in found["segments"])
    assert cluster.on("w1", "sh", "-c", "ls -d /tmp/clusteradm-times-* || true").strip() == ""
