"""Jobs on a real Slurm: slurmctld, slurmdbd and slurmd on virtual boards with several TPUs each, asked by Slurm's own
programs. One lab."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from agreement import run_ansible
from commands import SHARED, Cluster
from jobs import details, progress, read, wait

from clusteradm import shipped
from clusteradm.lab import Lab
from clusteradm.lab.digits import data

pytestmark = pytest.mark.lab

MODEL = Path(data.__file__).with_name("digits.tflite")
LONG = 180.0  # for what takes seconds on a machine that is not busy
# Missed soon, so that the test is short.
OPTIONS = "cluster_slurm_options: {SlurmdTimeout: 10}"


@pytest.fixture(scope="module")
def slurm(lab_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three boards with Slurm, two Edge TPUs and a USB Accelerator each, and the model `digits`."""
    lab = Lab(f"pytest-{os.getpid()}-slurm", say=lambda text: print(text, file=sys.stderr))
    try:
        lab.up(3, tpus=2, usb=1)
        text = lab.inventory.read_text(encoding="utf-8")
        lab.inventory.write_text(text.replace("  vars:\n", f"  vars:\n    {OPTIONS}\n", 1), encoding="utf-8")
        cluster = Cluster(lab)
        for words in (["bootstrap", "--json"], ["bootstrap", "--playbook", "slurm.yml", "--json"]):
            process = cluster.start(*words)
            out, err = process.communicate(timeout=900)
            assert process.returncode == 0, f"{words}\n{out[-5000:]}\n{err[-5000:]}"
        compiled = tmp_path_factory.mktemp("slurm") / "digits_edgetpu.tflite"
        cluster.run("lab", "compile-model", MODEL, "--output", compiled)
        cluster.run("deploy-model", compiled, "--name", "digits", "--labels", MODEL.with_name("labels.txt"))
        yield cluster
    finally:
        lab.down()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48,000 pictures: 125 s of one TPU."""
    path = tmp_path_factory.mktemp("many") / "many.npy"
    np.save(path, np.concatenate([data.load().held_out.images] * 48))
    return path


def nodes(cluster: Cluster) -> dict[str, tuple[str, str]]:
    """Node -> state and reason, by sinfo."""
    lines = cluster.on("head", "sinfo", "-hN", "-o", "%N|%T|%E").splitlines()
    return {name: (state, reason) for name, state, reason in (line.split("|", 2) for line in lines)}


def all_idle(cluster: Cluster) -> None:
    """Every node takes jobs; one that was just returned is "idle*" until slurmctld has heard it."""
    wait(lambda: {found[0] for found in nodes(cluster).values()} == {"idle"}, LONG)


def queue(cluster: Cluster) -> list[list[str]]:
    """User, name, state and nodes of every job, by squeue."""
    return [line.split("|") for line in cluster.on("head", "squeue", "-h", "-o", "%u|%j|%T|%N").splitlines()]


def as_user(cluster: Cluster, user: str, *words: str) -> str:
    return cluster.on("head", "runuser", "-u", user, "--", "sh", "-c", "cd /; " + shlex.join(words)).strip()


def started(process: subprocess.Popen[str]) -> str:
    """The id of the job that the command has started."""
    assert process.stderr is not None
    return next(line for line in process.stderr if line.startswith("job ")).split()[1].rstrip(":")


def state(cluster: Cluster, job: str) -> str:
    return str(details(cluster, job)["status"].get("state"))


def test_a_second_run_and_ansible_change_nothing(slurm: Cluster) -> None:
    document = json.loads(slurm.run("bootstrap", "--playbook", "slurm.yml", "--json")[0])
    assert {name: host["changed"] for name, host in document["hosts"].items()} == dict.fromkeys(slurm.nodes, 0)
    results, stats = run_ansible(slurm.lab.inventory, shipped.PLAYBOOKS / "slurm.yml")
    assert [key for key, found in results.items() for one in found if one["_status"] in ("changed", "failed")] == []
    assert set(stats) == set(slurm.nodes) and all(counts["ok"] > 8 for counts in stats.values())

    assert sorted(nodes(slurm)) == slurm.nodes
    all_idle(slurm)
    assert slurm.on("head", "sinfo", "-hN", "-o", "%G").split() == ["tpu:3"] * 3
    (line,) = [each for each in slurm.on("head", "ss", "-Hltnp").splitlines() if '"slurmdbd"' in each]
    assert line.split()[3] == "127.0.0.1:6819"
    keys = {slurm.on(node, "sha256sum", "/etc/munge/munge.key") for node in slurm.nodes}
    assert len(keys) == 1
    for node in slurm.nodes:
        assert slurm.on(node, "stat", "-c", "%U %a", "/etc/munge/munge.key").split() in (
            ["munge", "400"],
            ["munge", "600"],
        )
        listening = [line.split()[3] for line in slurm.on(node, "ss", "-Hltnp").splitlines() if '"slurmd"' in line]
        address = slurm.on(node, "getent", "ahostsv4", node).split()[0]
        assert listening == [f"{address}:6818"]
    assert "lab" in slurm.on("head", "sacctmgr", "-nP", "list", "cluster")


def test_a_job_gets_what_somebody_elses_leaves_and_its_end_is_in_the_accounts(slurm: Cluster, tmp_path: Path) -> None:
    other = as_user(
        slurm, "mendel", "sbatch", "--parsable", "-w", "w2", "--gres=tpu:1", "-o", "/dev/null", "--wrap", "sleep 900"
    )
    wait(lambda: ["mendel", "wrap", "RUNNING", "w2"] in queue(slurm), LONG)
    images, truth = tmp_path / "images", tmp_path / "truth.csv"
    data.write_images(data.load().held_out, images, truth)
    said = slurm.infer(
        *("--model", "digits", images, "--truth", truth, "--launcher", "slurm", "--output", tmp_path / "r.jsonl")
    )
    assert said["accuracy"]["right"] / said["images"] > 0.95
    assert {rank["host"] for rank in said["ranks"]} == {"head", "w1"}
    assert [rank["pci_address"] for rank in said["ranks"]].count("usb:2-1") == 2 and len(said["ranks"]) == 6
    job = said["job"]
    wait(lambda: [entry[0] for entry in queue(slurm)] == ["mendel"], LONG)
    accounts = ("sacct", "-nXP", "--name", f"clusteradm-{job}", "-o", "User,State,AllocTRES")
    wait(lambda: slurm.on("head", *accounts).startswith("cluster|COMPLETED|"), LONG)
    assert "gres/tpu=6" in slurm.on("head", *accounts)

    # All at once: behind the other one, until it is cancelled.
    out, _ = slurm.run("infer", "--model", "digits", images, "--launcher", "slurm", "--wait", "--detach", "--json")
    waiting = json.loads(out)["job"]
    wait(lambda: state(slurm, waiting) == "queued", LONG)
    assert ["cluster", f"clusteradm-{waiting}", "PENDING", ""] in queue(slurm)
    listed = {job["job"]: job for job in json.loads(slurm.run("job", "list", "--json")[0])["jobs"]}
    assert "PENDING" in listed[waiting]["slurm"] and listed[job]["state"] == "complete"
    slurm.run("job", "cancel", waiting)
    assert state(slurm, waiting) == "cancelled"
    wait(lambda: [entry[:3] for entry in queue(slurm)] == [["mendel", "wrap", "RUNNING"]], LONG)
    as_user(slurm, "mendel", "scancel", other)
    wait(lambda: queue(slurm) == [], LONG)


def test_drains_of_both_say_the_same(slurm: Cluster, tmp_path: Path) -> None:
    def drained() -> dict[str, str]:
        found = json.loads(slurm.run("drain", "--json")[0])["drains"]
        return {entry["host"]: entry["reason"] for entry in found}

    slurm.run("drain", "w1", "--reason", "new fan")
    assert nodes(slurm)["w1"][0] == "drained" and "clusteradm: new fan" in nodes(slurm)["w1"][1]
    slurm.on("head", "scontrol", "update", "NodeName=w2", "State=DRAIN", "Reason=to be moved")
    assert drained() == {"w1": "new fan", "w2": "to be moved"}
    slurm.run("undrain", "w1", "w2")
    assert drained() == {}
    all_idle(slurm)

    # Of the TPUs of a host those that are in service; and none but those that Slurm has given.
    np.save(tmp_path / "few.npy", data.load().held_out.images[:100])
    few = ("--model", "digits", tmp_path / "few.npy", "--launcher", "slurm", "--limit", "w1", "--json")
    slurm.run("drain", "w1:usb:2-1")
    assert nodes(slurm)["w1"][0] == "idle"
    ranks = json.loads(slurm.run("infer", *few, "--output", tmp_path / "r.jsonl")[0])["ranks"]
    assert {rank["pci_address"] for rank in ranks} == {"0000:04:00.0", "0000:05:00.0"}
    slurm.run("undrain", "w1:usb:2-1")
    all_idle(slurm)

    # The check of the TPUs, as slurmd runs it every minute.
    slurm.lab.fault("w1", "absent")
    try:
        slurm.on("w1", "/opt/clusteradm/slurm/check-tpus", check=False)
        assert nodes(slurm)["w1"] == ("drained", "TPU: apex_1 is gone")
        assert drained() == {"w1": "TPU: apex_1 is gone"}
    finally:
        slurm.lab.restore("w1")
    slurm.on("w1", "/opt/clusteradm/slurm/check-tpus")
    assert drained() == {}
    all_idle(slurm)


def test_a_slurm_of_somebody_elses_is_used_and_left_as_it_is(slurm: Cluster, tmp_path: Path) -> None:
    conf = "/etc/slurm/slurm.conf"
    slurm.on("head", "sh", "-c", f"cp -p {conf} {conf}.kept && sed -i 1d {conf}")
    before = slurm.on("head", "sha256sum", conf)
    try:
        out, err = slurm.run("bootstrap", "--playbook", "slurm.yml", expect=3)
        assert "has a Slurm that clusteradm did not set up (/etc/slurm/slurm.conf)" in " ".join((out + err).split())
        slurm.run("drain", "w1")
        assert nodes(slurm)["w1"][0] == "idle"
        np.save(tmp_path / "few.npy", data.load().held_out.images[:100])
        site = ("--launcher", "slurm", "--partition", "tpu", "--account", "lab")
        said = slurm.infer("--model", "digits", tmp_path / "few.npy", *site, "--output", tmp_path / "r.jsonl")
        assert said["images"] == 100 and {rank["host"] for rank in said["ranks"]} == {"head", "w2"}
        accounts = ("sacct", "-nXP", "--name", f"clusteradm-{said['job']}", "-o", "Account,Partition,State")
        wait(lambda: slurm.on("head", *accounts).strip() == "lab|tpu|COMPLETED", LONG)
        _, err = slurm.run("infer", "--model", "digits", tmp_path / "few.npy", *site[:3], "none", expect=3)
        assert "Slurm knows none of the job's hosts in partition none" in " ".join(err.split())
        assert slurm.on("head", "sha256sum", conf) == before
    finally:
        slurm.on("head", "mv", f"{conf}.kept", conf)
        slurm.run("undrain", "w1")


def test_a_lost_board_has_slurm_requeue_the_job_which_goes_on(slurm: Cluster, many: Path, tmp_path: Path) -> None:
    process = slurm.start(
        *("infer", "--model", "digits", many, "--launcher", "slurm", "--limit", "w1,w2"),
        *("--output", tmp_path / "many.jsonl", "--json"),
    )
    try:
        job = started(process)
        wait(lambda: progress(slurm, job).get("done", 0) > 200, LONG)
        before = progress(slurm, job)["done"]
        slurm.lab.fault("w1", "power")  # it holds the allocation, as the first of its nodes
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        document = json.loads(out)
        assert document["attempts"] >= 2 and document["images"] == 48000
        log = slurm.on("head", "cat", f"{SHARED}/jobs/{job}/log")
        assert "Slurm has requeued its job" in log
        results = read(tmp_path / "many.jsonl")
        assert [line["index"] for line in results] == list(range(48000))
        assert [line["top"] for line in results[:1000]] * 48 == [line["top"] for line in results]
        journal = slurm.on("head", "cat", f"{SHARED}/jobs/{job}/journal.jsonl").splitlines()
        first = [entry for entry in map(json.loads, journal) if entry["attempt"] == 1]
        assert sum(len(entry["results"]) for entry in first) >= before > 0
    finally:
        process.kill()
        process.wait()
        slurm.lab.restore("w1")
    all_idle(slurm)  # it returns by itself
    assert "gres/tpu" not in slurm.on("head", "sh", "-c", "scontrol show node | grep AllocTRES; true")


def test_scancel_ends_the_job_which_can_be_resumed(slurm: Cluster, many: Path) -> None:
    out, _ = slurm.run("infer", "--model", "digits", many, "--launcher", "slurm", "--detach", "--json")
    job = json.loads(out)["job"]
    wait(lambda: progress(slurm, job).get("done", 0) > 200, LONG)
    slurm.on("head", "scancel", "--name", f"clusteradm-{job}")
    wait(lambda: state(slurm, job) == "cancelled", LONG)
    assert "cancelled in Slurm" in details(slurm, job)["status"]["error"]
    for node in slurm.nodes:
        wait(lambda node=node: slurm.on(node, "pgrep", "-f", "job[.]rank", check=False) == "", LONG)
    before = progress(slurm, job)["done"]
    slurm.run("job", "resume", job)
    wait(lambda: progress(slurm, job).get("done", 0) > before + 100, LONG)
    slurm.run("job", "cancel", job)
    assert state(slurm, job) == "cancelled"
    wait(lambda: queue(slurm) == [], LONG)
