"""Processes, hosts, TPUs and networks that fail in the middle of a job: every input has its result, once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from commands import SHARED, Cluster
from jobs import OWN, complete, delivered, details, hosts, journal_lines, killed, progress, read, wait

pytestmark = pytest.mark.lab


def test_a_job_outlives_the_command_and_is_taken_up_again(
    cluster: Cluster, long_job: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    process, job = long_job
    process.kill()
    process.wait()
    document = cluster.infer("--attach", job, "--output", tmp_path / "taken-up.jsonl")
    assert (document["job"], document["images"], document["attempts"]) == (job, 16000, 1)
    assert [line["index"] for line in read(tmp_path / "taken-up.jsonl")] == list(range(16000))


def test_a_stopped_rank_and_a_frozen_host_cost_no_input_and_are_not_waited_for(
    cluster: Cluster, long_job: tuple[subprocess.Popen[str], str], tmp_path: Path, restored: None
) -> None:
    process, _ = long_job
    cluster.lab.fault("w1", "freeze")
    killed(cluster, "w2", "-STOP", "clusteradm.node.job.rank")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    complete(tmp_path / "many.jsonl")
    for node in ("w1", "w2"):
        assert f"{node} has not answered for 5 s" in " ".join(said.split())
    # Nor is a stopped rank left, which would have its TPU.
    wait(lambda: "clusteradm.node.job.rank" not in cluster.on("w2", "ps", "-eo", "args"))


def test_a_host_that_is_cut_off_for_good_costs_no_input_and_is_not_waited_for(
    cluster: Cluster, long_job: tuple[subprocess.Popen[str], str], tmp_path: Path, restored: None
) -> None:
    process, _ = long_job
    cluster.lab.fault("w3", "cut")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    complete(tmp_path / "many.jsonl")
    assert "w3 has not answered for 5 s" in " ".join(said.split())


def test_a_tpu_that_wedges_in_the_middle_costs_no_input_and_is_named(
    cluster: Cluster, long_job: tuple[subprocess.Popen[str], str], tmp_path: Path, restored: None
) -> None:
    process, job = long_job
    # Two, so that the job goes on until both have been tried again in vain, which takes 15 s.
    for node in ("w2", "w3"):
        cluster.lab.fault(node, "wedged")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    complete(tmp_path / "many.jsonl")
    slots = json.loads(cluster.run("job", "show", job, "--json")[0])["spec"]["slots"]
    wedged = {slot["host"]: slot["tpus"][0] for slot in slots if slot["host"] in ("w2", "w3")}
    text = " ".join(said.split())
    for node, address in wedged.items():
        # Rank 0 misses its chunk by the rank's own measured time, unless the keeper there has reported it before.
        assert f"{node} {address} is left out: {node} has not come on" in text or f"({node} {address}) fails" in text
    assert "the inference did not end in 5 s" in text
    drained = json.loads(cluster.run("drain", "--json")[0])["drains"]
    assert {one["subject"] for one in drained} == {f"{node}:{address}" for node, address in wedged.items()}
    assert all(one["by"] == f"job {job}" and "the inference did not end in 5 s" in one["reason"] for one in drained)
    # It comes back when health has tried it.
    cluster.restore()
    cluster.well()
    assert json.loads(cluster.run("drain", "--json")[0])["drains"] == []


def test_a_killed_worker_process_costs_nothing(
    cluster: Cluster, long_job: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    process, job = long_job
    # The worker's command has one word more than its rank's.
    killed(cluster, "w1", "-KILL", f"job.rank {OWN}/{job} 1 [0-9]")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    complete(tmp_path / "many.jsonl")
    assert len(json.loads(cluster.run("job", "show", job, "--json")[0])["status"]["attempts"]) == 1


def _kill(cluster: Cluster, job: str, what: str) -> None:
    """Send SIGKILL to one kind of process of the job."""
    ranks = "pgrep -f '[c]lusteradm.node.job.rank' | while read p; do grep -qzx OMPI_COMM_WORLD_RANK=0 /proc/$p/environ"
    node, pids = {
        "rank": ("w1", "pgrep -f '[c]lusteradm.node.job.rank'"),
        "worker": ("w2", f"pgrep -f '[j]ob.rank {OWN}/{job} [0-9]* [0-9]'"),
        "rank 0": ("head", f"{ranks} && echo $p; done"),
        "mpirun": ("head", "pgrep -x 'mpirun|prterun'"),
        "supervisor": ("head", f"systemctl show --property MainPID --value clusteradm-job-{job}"),
    }[what]
    cluster.on(node, "sh", "-c", f"kill -9 $({pids})", check=False)


def test_twenty_processes_killed_in_a_row_cost_no_input(
    cluster: Cluster, long_job: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    process, job = long_job
    seed = int(os.environ.get("CLUSTERADM_TEST_SEED") or time.time())
    print(f"CLUSTERADM_TEST_SEED={seed} kills in the same order")
    chance = random.Random(seed)  # noqa: S311
    # systemd starts a supervisor five times in ten minutes.
    kills = [*["supervisor"] * 2, *["rank 0"] * 4, *["mpirun"] * 4, *["rank"] * 5, *["worker"] * 5]
    chance.shuffle(kills)
    done, made = 0, []
    for what in kills:
        wait(lambda before=done: process.poll() is not None or delivered(cluster, job) > before)  # type: ignore[misc]
        time.sleep(chance.random() / 2)
        done = delivered(cluster, job)
        if process.poll() is not None:
            break
        _kill(cluster, job, what)
        made.append(what)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, f"seed {seed}\n{said}"
    assert len(made) == len(kills), f"seed {seed}: the job was done too soon"
    complete(tmp_path / "many.jsonl")
    journal = [json.loads(line) for line in journal_lines(cluster, job)]
    assert sorted(result["i"] for line in journal for result in line["results"]) == list(range(16000))


def test_a_host_without_power_a_cut_line_and_a_hot_tpu_cost_no_input_and_what_is_well_is_taken_back(
    cluster: Cluster, long_job: tuple[subprocess.Popen[str], str], tmp_path: Path, restored: None
) -> None:
    process, job = long_job
    # So much is lost that what is well again is worth another attempt, also on a fast machine.
    cluster.lab.fault("head", "hot")
    cluster.lab.fault("w1", "power")
    cluster.lab.fault("w2", "power")
    cluster.lab.fault("w3", "cut")
    time.sleep(4)
    for node in ("w3", "w2", "w1"):
        cluster.lab.restore(node)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    complete(tmp_path / "many.jsonl")
    attempts = details(cluster, job)["status"]["attempts"]
    assert len(attempts) > 1 and {"w1", "w2"} & set(attempts[-1]["hosts"]), attempts


def test_the_heads_network_and_the_nfs_server_away_for_a_while_cost_no_input(
    cluster: Cluster, long_job: tuple[subprocess.Popen[str], str], tmp_path: Path, restored: None
) -> None:
    process, job = long_job
    cluster.lab.fault("head", "cut")
    time.sleep(10)
    cluster.lab.restore("head")
    wait(lambda: hosts(cluster, job) == set(cluster.nodes))
    done = delivered(cluster, job)
    wait(lambda: process.poll() is not None or delivered(cluster, job) > done + 20)
    cluster.on("head", "systemctl", "stop", "nfs-ganesha")
    time.sleep(20)
    cluster.on("head", "systemctl", "start", "nfs-ganesha")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    complete(tmp_path / "many.jsonl")
    assert hosts(cluster, job) == set(cluster.nodes)


def test_a_full_disk_of_the_head_is_waited_for(
    cluster: Cluster, long_job: tuple[subprocess.Popen[str], str], tmp_path: Path, restored: None
) -> None:
    process, job = long_job
    cluster.lab.fault("head", "disk")
    wait(lambda: "no space left in" in cluster.on("head", "cat", f"{SHARED}/jobs/{job}/log"))
    cluster.lab.restore("head")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    complete(tmp_path / "many.jsonl")


def test_two_jobs_at_once_queue_or_share(
    cluster: Cluster, long_job: tuple[subprocess.Popen[str], str], pictures: Path, tmp_path: Path
) -> None:
    process, job = long_job
    few = sorted(pictures.iterdir())[:20]
    refused = cluster.run("infer", "--model", "digits", *few, "--share", expect=3)[1]
    assert "no host has an Edge TPU that is healthy, free and in service" in refused and "--wait" in refused
    second = cluster.start("infer", "--model", "digits", *few, "--wait", "--output", tmp_path / "few.jsonl", "--json")
    wait(lambda: any(one["ahead"] == [job] for one in json.loads(cluster.run("job", "list", "--json")[0])["jobs"]))
    out, said = second.communicate(timeout=300)
    assert second.returncode == 0, said
    assert f"queued behind 1 job: {job}" in said
    assert {rank["host"] for rank in json.loads(out)["ranks"]} <= set(cluster.nodes)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    complete(tmp_path / "many.jsonl")
    assert len(read(tmp_path / "few.jsonl")) == 20
    again = tmp_path / "again.jsonl"
    cluster.run("job", "results", job, "--output", again)
    assert again.read_bytes() == (tmp_path / "many.jsonl").read_bytes()


def test_a_killed_supervisor_a_head_without_power_and_one_that_is_rebooted_cost_no_input(
    cluster: Cluster, long_job: tuple[subprocess.Popen[str], str], tmp_path: Path, restored: None
) -> None:
    """systemd starts the supervisor again, after its crash and at every boot; the command follows all the while."""
    process, job = long_job
    unit = f"clusteradm-job-{job}"
    cluster.on("head", "sh", "-c", f"kill -9 $(systemctl show --property MainPID --value {unit})")
    wait(lambda: len(details(cluster, job)["status"]["attempts"]) >= 2)
    cluster.lab.fault("head", "power")
    time.sleep(1)
    cluster.lab.restore("head")
    wait(lambda: bool((now := progress(cluster, job)).get("attempt", 0) >= 3 and now["first_dispatch"]))
    cluster.on("head", "systemctl", "reboot", check=False)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    complete(tmp_path / "many.jsonl")
    attempts = details(cluster, job)["status"]["attempts"]
    statuses = [attempt["status"] for attempt in attempts]
    assert statuses.count(-1) == 3 and statuses[-1] == 0
    assert set(attempts[-1]["hosts"]) == set(cluster.nodes), "all were waited for"
    log = cluster.run("job", "logs", job)[0]
    assert log.count("the supervisor is started again") == 3


def test_a_job_that_was_cancelled_stays_so_until_it_is_resumed(
    cluster: Cluster, digits_model: Path, pictures: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "many.npy", np.zeros((8000, 28, 28, 1), np.uint8))
    job = cluster.infer("--model", "digits", tmp_path / "many.npy", "--ranks", 2, "--detach")["job"]
    wait(lambda: progress(cluster, job).get("done", 0) > 0)
    assert json.loads(cluster.run("job", "cancel", job, "--json")[0])["state"] == "cancelled"
    cluster.on("head", "systemctl", "restart", "clusteradm-jobs")
    assert details(cluster, job)["status"]["state"] == "cancelled"
    cluster.run("job", "resume", job)
    document = cluster.infer("--attach", job, "--output", tmp_path / "resumed.jsonl")
    assert (document["images"], document["attempts"], document["errors"]) == (8000, 2, 0)
    assert [line["index"] for line in read(tmp_path / "resumed.jsonl")] == list(range(8000))
