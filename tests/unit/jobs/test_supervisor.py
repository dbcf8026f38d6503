"""The supervisor against an mpirun and an ssh that do what a test says: what it starts again, when it gives up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clusteradm.node.job import files, log
from clusteradm.node.job.feed import Feed
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.job import InputForm, ModelFile, Slot, Status, StoredSpec, Watching

from .conftest import fifo, link

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 180.0  # for what takes one on a machine that is not busy

# Plays rank 0: each attempt's part of the script says which inputs it delivers, and how it ends.
MPIRUN = """#!{python}
import ctypes, fcntl, json, os, signal, subprocess, sys, time
if sys.argv[1:] == ["--version"]:
    print("mpirun (Open MPI) 4.1.4")
    sys.exit()
own, attempt = sys.argv[-2], int(sys.argv[-1])
run, folder = own + "/run", json.load(open(own + "/spec.json"))["folder"]
script = json.load(open(run + "/script.json"))
part = script["attempts"][min(attempt, len(script["attempts"])) - 1]
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG: what systemd does
journal = open(folder + "/journal.jsonl", "a")
fcntl.flock(journal, fcntl.LOCK_EX)
for index in part["delivers"]:
    result = {{"i": index, "top": [[index, 1.0]]}}
    journal.write(json.dumps({{"attempt": attempt, "rank": 1, "results": [result]}}) + "\\n")
journal.flush()
plan = json.load(open(run + "/attempt-%d.json" % attempt))
ranks = [dict(rank, images=0, error=part.get("error")) for rank in plan["ranks"]]
[rank.update(what) for rank, what in zip(ranks, part.get("ranks", []))]
progress = {{"attempt": attempt, "first_dispatch": 1.0, "last_result": 2.0, "ranks": ranks}}
progress["phase"] = "finished" if part.get("hangs") else "running"
progress.update(total=4, done=0, errors=0, now=3.0)
json.dump(progress, open(run + "/progress.json", "w"))
print("mpirun said this")
print("[1,%d]<stderr>:numpy.core._exceptions._ArrayMemoryError: Unable" % part["lacks"]) if "lacks" in part else None
[open(run + "/kills", "a").write("x") for number in range(part.get("kills", 0))]
for number in range(part.get("says", 0)):
    print("rank 1 says line %d, and much more" % number)
sys.stdout.flush()
while part.get("says") and os.path.getsize(folder + "/log") > 20 * part["says"]:
    time.sleep(0.01)
if part.get("hangs"):  # on a host that is frozen; the rank of this host is stopped
    rank = subprocess.Popen(["sleep", "600"])
    rank.send_signal(signal.SIGSTOP)
    open(run + "/rank", "w").write(str(rank.pid))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
if part.get("until"):  # it is recalled
    for rank, fault in zip(ranks, part["faults"]):
        rank.update(fault and {{"state": "failed", "fault": fault, "error": "it hangs"}} or {{"state": "ready"}})
    while not os.path.exists(run + "/" + part["until"]):
        progress.update(first_dispatch=1.0, now=time.time(), done=len(part["delivers"]), total=1000)
        json.dump(progress, open(run + "/new", "w"))
        os.rename(run + "/new", run + "/progress.json")
        time.sleep(0.1)
time.sleep(part.get("lasts", 0))
os.unlink(run + "/running") if part.get("lasts") else None
os._exit(part["status"])  # at once with the end of its hold on the journal, by which its end is noticed
"""
SSH = """#!/bin/sh
for last; do :; done
[ -e "$SSH_DEAD" ] && exit 255
case " $SSH_DEAD " in *" $5 "*) exit 255;; esac
eval "$last"
"""


def own_of(job: Path) -> Path:
    """The job's folder on the head's own disk."""
    return job.parent / "own" / job.name


def run_of(job: Path) -> Path:
    return own_of(job) / job_names.RUN


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job of four inputs for head (no TPU), w1 and w2: its folder on the shared file system."""
    folder, programs = tmp_path / "20260101-000000-abcdef", tmp_path / "bin"
    folder.mkdir()
    run_of(folder).mkdir(parents=True)
    programs.mkdir()
    for name, text in (("mpirun", MPIRUN.format(python=sys.executable)), ("ssh", SSH)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    model = tmp_path / "models" / "model.tflite"
    model.parent.mkdir()
    model.write_bytes(b"")
    (model.parent / "labels.txt").write_text("zero\none\n")
    (run_of(folder) / job_names.INPUTS).write_text("".join(json.dumps({"input": str(n)}) + "\n" for n in range(4)))
    (folder / job_names.PACK).write_bytes(b"")
    slots = tuple(Slot(host, ("a",)) for host in ("w1", "w2"))
    file = ModelFile("m", 1, str(model), "0", InputForm("uint8", (1,)))
    spec = StoredSpec(file, "head", slots, None, 1, "python3", folder.name, 4, str(folder))
    files.write_json(str(own_of(folder) / job_names.SPEC), spec)
    return folder


PROGRAM = """
from clusteradm.node.job import launch, supervisor
launch._STOP_SECONDS, supervisor._PATIENCE_SECONDS = 1.0, %f
from clusteradm.node.job import allocation, regain, room
allocation._LOOK_SECONDS, allocation._TURN_SECONDS = 1000.0, 0.05
regain._RATE_SECONDS, room._LOOK_SECONDS = 0.5, 0.05
import os, sys
from clusteradm.node.job import files
from clusteradm.node.job import oom
oom.of_host = lambda: files.size(sys.argv[1] + "/run/kills")
oom.LOOK = "printf 'oom_kill 1\\noom_kill 2\\n'"
room.lacking = lambda folders: [name for name in folders if os.path.exists(name + "/full")]
supervisor._LONGEST_SECONDS = supervisor._PATIENCE_SECONDS + 1.0
supervisor.main()
"""


def start(job: Path, *attempts: dict[str, Any], dead: str = "", patience: float = 0.5) -> subprocess.Popen[bytes]:
    """`dead`: hosts that do not answer, or a file: as long as it exists, none does."""
    (run_of(job) / "script.json").write_text(json.dumps({"attempts": attempts}))
    (run_of(job) / "running").write_text("")
    path = f"{job.parent / 'bin'}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "SSH_DEAD": dead, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", PROGRAM % patience, str(own_of(job))], env=env)


def run(job: Path, *attempts: dict[str, Any], dead: str = "") -> Status:
    assert start(job, *attempts, dead=dead).wait(SECONDS) == 0
    status = files.read(Status, str(run_of(job) / job_names.STATUS))
    assert status is not None
    return status


def test_one_attempt_is_enough(job: Path) -> None:
    status = run(job, {"delivers": [2, 0, 1, 3], "status": 0})
    assert (status.state, status.images, status.errors, len(status.attempts)) == ("complete", 4, 0, 1)
    assert status.attempts[0].ranks[0].images == 4
    lines = (job / job_names.RESULTS).read_text().splitlines()
    assert json.loads(lines[1]) == {"input": "1", "index": 1, "top": [{"class": 1, "label": "one", "score": 1.0}]}
    assert not (job / job_names.PACK).exists()
    log = (job / job_names.LOG).read_text()
    assert "-np 3" in log
    assert "mpirun said this" in log
    assert (run_of(job) / job_names.HOSTFILE).read_text() == "head slots=1\nw1 slots=1\nw2 slots=1\n"


def test_a_complete_job_leaves_no_bytes_of_inputs_that_nobody_gave_it_whole(job: Path) -> None:
    """A command, or a supervisor before this one, was killed while it made a batch."""
    spec = files.read(StoredSpec, str(own_of(job) / job_names.SPEC))
    assert spec is not None
    files.write_json(str(own_of(job) / job_names.SPEC), replace(spec, watch=Watching(None, ())))
    Feed(str(job), str(run_of(job))).make()
    (run_of(job) / job_names.END).write_bytes(b"")
    (job / (job_names.FEED_PACK % 15)).write_bytes(b"half of it")
    (job / (job_names.FEED_PACK % 16)).mkdir()  # a board's doing
    assert run(job, {"delivers": [], "status": 0}).state == "complete"
    assert not (job / (job_names.FEED_PACK % 15)).exists()


def test_an_attempt_that_dies_is_followed_by_one_on_the_hosts_that_answer(job: Path) -> None:
    status = run(job, {"delivers": [3, 1], "status": 205}, {"delivers": [0, 2], "status": 0}, dead="w1")
    assert status.state == "complete"
    assert [attempt.hosts for attempt in status.attempts] == [("w1", "w2"), ("w2",)]
    assert [attempt.status for attempt in status.attempts] == [205, 0]
    assert len((job / job_names.RESULTS).read_text().splitlines()) == 4


def test_results_that_are_complete_count_however_mpirun_ended(job: Path) -> None:
    status = run(job, {"delivers": [0, 1, 2, 3], "status": 134})
    assert (status.state, len(status.attempts)) == ("complete", 1)


def test_an_mpirun_that_waits_for_a_frozen_host_is_not_waited_for(job: Path) -> None:
    status = run(job, {"delivers": [0, 1, 2, 3], "status": 0, "hangs": True})
    assert (status.state, len(status.attempts)) == ("complete", 1)
    assert "the attempt is ended: a host did not end its ranks in 5 s" in (job / job_names.LOG).read_text()
    # Nor is anything left of it that has a TPU or the journal.
    assert not Path(f"/proc/{(run_of(job) / 'rank').read_text()}").exists()


def test_it_gives_up_after_three_attempts_without_a_result(job: Path) -> None:
    status = run(job, {"delivers": [0], "status": 1}, {"delivers": [], "status": 139})
    assert status.state == "failed"
    assert status.error == "mpirun ended 3 times without a result, the last time with status 139"
    assert len(status.attempts) == 4
    assert "mpirun said this" in status.log
    assert not (job / job_names.RESULTS).exists()
    assert (job / job_names.PACK).exists()


REMEDY = (
    "; to see what has the memory there: clusteradm exec --limit %s -- 'ps -eo rss,user,args --sort=-rss | head'; once"
    " some is free: clusteradm job resume 20260101-000000-abcdef"
)


def test_it_says_that_memory_has_run_out_and_where(job: Path) -> None:
    attempts = {"delivers": [], "status": 137, "kills": 2, "ranks": [{"kills": 1}, {"kills": 0}]}, {"lacks": 0}
    status = run(job, attempts[0], attempts[0], {**attempts[0], **attempts[1]})
    assert status.state == "failed"
    assert status.error == (
        "mpirun ended 3 times without a result, the last time with status 137; memory has run out while the job ran:"
        " rank 0 (head) had a MemoryError, the kernel of head has ended 6 processes for lack of memory,"
        " the kernel of w2 has ended 1 process for lack of memory" + REMEDY % "head,w2"
    )
    said = [
        line for line in _log(job).splitlines() if line.startswith("memory has run out: the kernel of head has ended")
    ]
    assert len(said) == 2, "after each attempt that another follows"


def test_what_the_kernel_ended_before_the_job_is_not_its_own(job: Path) -> None:
    (run_of(job) / "kills").write_text("xxx")
    status = run(job, {"delivers": [], "status": 139, "ranks": [{"kills": 1}, {"kills": 1}]})
    assert status.error == "mpirun ended 3 times without a result, the last time with status 139"
    assert status.kills == 3


def test_a_supervisor_that_is_started_again_says_that_memory_had_run_out(job: Path) -> None:
    script = ({"delivers": [0, 3], "status": 0, "lasts": 600}, {"delivers": [1, 2], "status": 0})
    process = start(job, *script)
    until(lambda: (run_of(job) / job_names.PROGRESS).exists())
    process.kill()
    process.wait()
    (run_of(job) / "kills").write_text("x")
    assert run(job, *script).state == "complete"
    said = "2 of 4 inputs have a result; the kernel of head has ended 1 process for lack of memory\n"
    assert said in (job / job_names.LOG).read_text()


def test_when_every_rank_says_why_it_does_not_try_again(job: Path) -> None:
    status = run(job, {"delivers": [], "status": 0, "error": "no permission to open /dev/apex_0"})
    assert (status.state, len(status.attempts)) == ("failed", 1)
    assert status.error == "no rank could work: no permission to open /dev/apex_0"


def in_pipelines(job: Path, *tpus: str) -> None:
    """Make the job one of pipelines of two, of which w1 has these TPUs and w2 one."""
    spec = json.loads((own_of(job) / job_names.SPEC).read_text())
    segment = {"path": spec["model"]["path"], "sha256": "0", "inputs": [], "outputs": []}
    spec["model"]["pipeline"] = {"stages": [segment] * 2, "outputs": []}
    spec["slots"][0]["tpus"] = tpus
    (own_of(job) / job_names.SPEC).write_text(json.dumps(spec))


def test_a_tpu_that_was_left_over_takes_the_place_of_a_stage_that_cannot_work(job: Path) -> None:
    in_pipelines(job, "a", "b")
    stages = [{"error": "it did not open", "fault": "other"}, {"error": "rank 1 fails", "fault": "partner"}]
    failed = {"delivers": [], "status": 0, "ranks": [{"state": "failed", **stage} for stage in stages]}
    status = run(job, failed, {"delivers": [0, 1, 2, 3], "status": 0})
    assert status.state == "complete"
    ranks = [[(rank.host, rank.pci_address) for rank in attempt.ranks] for attempt in status.attempts]
    assert ranks == [[("w1", "a"), ("w1", "b")], [("w1", "b"), ("w2", "a")]]


def test_where_no_other_pipeline_can_be_made_the_job_fails_with_the_stages_own_reason(job: Path) -> None:
    in_pipelines(job, "a")
    stages = [{"error": "it did not open", "fault": "other"}, {"error": "rank 1 fails", "fault": "partner"}]
    status = run(job, {"delivers": [], "status": 0, "ranks": [{"state": "failed", **stage} for stage in stages]})
    assert (status.state, len(status.attempts)) == ("failed", 1)
    assert status.error == "no rank could work: it did not open"


def test_a_pipeline_waits_for_hosts_as_a_rank_does_and_says_that_they_are_too_few(job: Path) -> None:
    in_pipelines(job, "a")
    status = run(job, {"delivers": [0], "status": 205}, dead="w2")
    assert (status.state, status.error) == ("failed", "the hosts that answer have too few slots for a pipeline")
    assert len(status.attempts) == 1


def test_when_no_host_answers_it_says_so(job: Path) -> None:
    status = run(job, {"delivers": [0], "status": 205}, dead="w1 w2")
    assert (status.state, status.error) == ("failed", "no host with a slot answers any more")


def test_a_host_that_is_well_again_is_taken_back_and_a_tpu_that_failed_is_not(job: Path) -> None:
    spec = json.loads((own_of(job) / job_names.SPEC).read_text())
    spec["slots"][0]["tpus"] = ["a", "b"]
    (own_of(job) / job_names.SPEC).write_text(json.dumps(spec))
    lost = {"delivers": [0], "status": 0, "until": "recall", "faults": ["silent", "tpu", None]}
    status = run(job, lost, {"delivers": [1, 2, 3], "status": 0})
    assert (status.state, [attempt.back for attempt in status.attempts]) == ("complete", ["w1 a", None])
    assert "attempt 1 is ended to take back: w1 a\n" in (job / job_names.LOG).read_text()
    plan = json.loads((run_of(job) / (job_names.ATTEMPT % 2)).read_text())
    assert [(rank["host"], rank["pci_address"]) for rank in plan["ranks"]] == [("w1", "a"), ("w2", "a")]
    told = json.loads((run_of(job) / job_names.TPUS).read_text())
    assert told == {"ill": {"w1:b": "it hangs"}, "well": []}


def test_a_full_disk_is_waited_for(job: Path) -> None:
    """As rank 0 dies by it, attempts without a result follow each other."""
    empty, full = {"delivers": [], "status": 1}, run_of(job) / "full"
    full.touch()
    process = start(job, *[empty] * 4, {"delivers": [0, 1, 2, 3], "status": 0})
    until(lambda: "no space left in" in _log(job))
    full.unlink()
    assert process.wait(SECONDS) == 0
    status = files.read(Status, str(run_of(job) / job_names.STATUS))
    assert status is not None
    assert (status.state, len(status.attempts)) == ("failed", 4), "one of them counts for nothing"


def _log(job: Path) -> str:
    return (job / job_names.LOG).read_text() if (job / job_names.LOG).exists() else ""


def test_cancel_ends_mpirun_first(job: Path) -> None:
    process = start(job, {"delivers": [0], "status": 0, "lasts": 600})
    until(lambda: (run_of(job) / job_names.PROGRESS).exists())
    (run_of(job) / job_names.CANCEL).touch()
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0
    status = files.read(Status, str(run_of(job) / job_names.STATUS))
    assert status is not None
    assert status.state == "cancelled"
    assert (run_of(job) / "running").exists()  # mpirun did not come to its own end
    assert not (job / job_names.RESULTS).exists()
    assert (job / job_names.PACK).exists()  # until the job is removed


def until(found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def attempts_of(job: Path) -> list[int | None]:
    status = files.read(Status, str(run_of(job) / job_names.STATUS))
    return [attempt.status for attempt in status.attempts] if status else []


def test_a_supervisor_that_was_killed_is_followed_by_one_that_goes_on(job: Path) -> None:
    script = ({"delivers": [0, 3], "status": 0, "lasts": 600}, {"delivers": [1, 2], "status": 0})
    process = start(job, *script)
    until(lambda: (run_of(job) / job_names.PROGRESS).exists())
    process.kill()
    process.wait()
    status = run(job, *script)
    assert (status.state, status.images) == ("complete", 4)
    assert [(attempt.attempt, attempt.status) for attempt in status.attempts] == [(1, -1), (2, 0)]
    assert status.attempts[0].ranks[0].images == 2, "by the journal"
    assert "the supervisor is started again: 2 of 4 inputs have a result" in (job / job_names.LOG).read_text()


def test_a_stop_that_is_no_cancellation_leaves_the_job_to_go_on(job: Path) -> None:
    process = start(job, {"delivers": [0], "status": 0, "lasts": 600})
    until(lambda: (run_of(job) / job_names.PROGRESS).exists())
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0
    status = files.read(Status, str(run_of(job) / job_names.STATUS))
    assert status is not None and status.state == "interrupted"
    status = run(job, {}, {"delivers": [1, 2, 3], "status": 0}, dead="w2")
    assert (status.state, status.images, status.attempts[1].hosts) == ("complete", 4, ("w1",)), "w2 was waited for"


def test_a_journal_that_no_rank_wrote_fails_the_job_that_goes_on_with_it(job: Path) -> None:
    process = start(job, {"delivers": [0], "status": 0, "lasts": 600})
    until(lambda: (run_of(job) / job_names.PROGRESS).exists())
    process.kill()
    process.wait()
    with open(job / job_names.JOURNAL, "a") as file:
        file.write('{"attempt": 1, "rank": 1, "results": [{"x": 1}]}\n')
    status = run(job)
    assert status.state == "failed" and "a result that no rank wrote" in str(status.error)


def test_ranks_that_all_fail_after_results_are_given_another_attempt(job: Path) -> None:
    lost = {"delivers": [0, 1], "status": 0, "error": "no input could be read in 60 s"}
    status = run(job, lost, {"delivers": [2, 3], "status": 0})
    assert (status.state, len(status.attempts)) == ("complete", 2)


def test_all_hosts_that_vanish_at_once_are_waited_for(job: Path, tmp_path: Path) -> None:
    """The head's own line, or its switch."""
    away = tmp_path / "away"
    away.touch()
    process = start(job, {"delivers": [0], "status": 205}, ALL, dead=str(away), patience=20.0)
    until(lambda: attempts_of(job) == [205])
    time.sleep(0.5)
    away.unlink()
    assert process.wait(SECONDS) == 0
    status = files.read(Status, str(run_of(job) / job_names.STATUS))
    assert status is not None and status.state == "complete"
    assert status.attempts[1].hosts == ("w1", "w2")


# What any board can do in the job's folder on the shared file system, as the cluster user.
ALL = {"delivers": [0, 1, 2, 3], "status": 0}


def second_name(path: Path, secret: Path) -> None:
    path.hardlink_to(secret)


def folder(path: Path, _: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("put", [link, second_name, fifo, folder])
@pytest.mark.parametrize("name", [job_names.LOG, job_names.JOURNAL])
def test_something_else_in_the_place_of_a_file(
    job: Path, secret: Path, name: str, put: Callable[[Path, Path], None]
) -> None:
    put(job / name, secret)
    status = run(job, ALL)
    assert status.state == "failed"
    assert str(job / name) in str(status.error)
    assert secret.read_text() == "ssh-ed25519 mine\n"


def test_a_link_in_the_place_of_the_results_is_replaced(job: Path, secret: Path) -> None:
    link(job / job_names.RESULTS, secret)
    assert run(job, ALL).state == "complete"
    assert secret.read_text() == "ssh-ed25519 mine\n"
    assert not (job / job_names.RESULTS).is_symlink()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"results": [{"i": 0}]}, "has a line that no rank wrote"),
        ({"attempt": 1, "rank": 1, "results": {"i": 0}}, "has a line that no rank wrote"),
        ({"attempt": 1, "rank": [1], "results": []}, "has a line that no rank wrote"),
        ({"attempt": 1, "rank": 1, "results": [7]}, "has a result that no rank wrote"),
        ({"attempt": 1, "rank": 1, "results": [{"i": "0"}]}, "has a result that no rank wrote"),
        ({"attempt": 1, "rank": 1, "results": [{"i": 0, "top": 5}]}, "input 0 (0) has a result that no rank wrote"),
        ({"attempt": 1, "rank": 1, "results": [{"i": 0, "top": [[0]]}]}, "input 0 (0) has a result that no rank wrote"),
    ],
)
def test_a_journal_that_no_rank_wrote(job: Path, line: Any, says: str) -> None:
    (job / job_names.JOURNAL).write_text(json.dumps(line) + "\n")
    status = run(job, ALL)
    assert (status.state, says in str(status.error)) == ("failed", True), status.error
    assert not (job / job_names.RESULTS).exists()


def test_results_of_inputs_that_are_none_do_not_complete_a_job(job: Path) -> None:
    results: list[Any] = [{"i": index, "top": []} for index in (7, 8, 9, -1)]
    (job / job_names.JOURNAL).write_text(json.dumps({"attempt": 1, "rank": 1, "results": results}) + "\n")
    assert run(job, ALL).state == "complete"
    assert len((job / job_names.RESULTS).read_text().splitlines()) == 4


def test_what_is_run_comes_from_the_heads_own_disk(job: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    spec = json.loads((own_of(job) / job_names.SPEC).read_text())
    evil = dict(spec, python=f"/usr/bin/touch {canary}", head=f"$(touch {canary})", slots=[])
    for name, text in (
        (job_names.SPEC, json.dumps(evil)),
        (job_names.HOSTFILE, f"$(touch {canary}) slots=9\n"),
        (job_names.ATTEMPT % 1, json.dumps({"attempt": 1, "ranks": []})),
        (job_names.STATUS, "{}"),
        ("clusteradm.py", f"open({str(canary)!r}, 'w')"),
    ):
        (job / name).write_text(text)
    assert run(job, ALL).state == "complete"
    assert not canary.exists()
    assert " python3 -m clusteradm.node.job.rank " in (job / job_names.LOG).read_text()


# Plays Slurm: each line of `says` is of the job until it was asked for, that of one that waits until it is changed.
SLURM = """#!/bin/sh
cd {folder}
name=${{0##*/}}
echo "$name $*" >>asked
case "$name $1 $2" in
"sinfo "*) printf 'w1|2|(null)|idle|x|x|none\\nw2|2|(null)|idle|x|x|none\\n' ;;
"sbatch "*) cat >script; echo 7 ;;
"scancel "*) echo JobId=7 JobState=COMPLETED >says ;;
"scontrol update "*) sed -i 1d says ;;
"scontrol show job") head -n 1 says; [ $(wc -l <says) = 1 ] || head -n 1 says | grep -q PENDING || sed -i 1d says ;;
esac
"""
GIVEN = "JobId=7 JobState=RUNNING Reason=None Restarts={} NodeList=x   Nodes={} CPU_IDs=0 Mem=0 GRES= \n"


def on_slurm(job: Path, *says: str) -> Path:
    """Make it a job on Slurm, on CPUs; the folder of what Slurm was asked."""
    folder = job.parent / "slurm"
    folder.mkdir()
    (folder / "says").write_text("".join(says))
    for name in ("sinfo", "sbatch", "scontrol", "squeue", "scancel"):
        program = job.parent / "bin" / name
        program.write_text(SLURM.format(folder=folder))
        program.chmod(0o755)
    spec = json.loads((own_of(job) / job_names.SPEC).read_text())
    spec["slots"] = [{"host": host, "tpus": [None]} for host in ("w1", "w2")]
    spec["slurm"] = {"partition": "tpu", "account": None, "whole": False}
    (own_of(job) / job_names.SPEC).write_text(json.dumps(spec))
    return folder


def test_a_job_that_slurm_requeues_goes_on_where_it_then_runs(job: Path) -> None:
    waits = "JobId=7 JobState=PENDING Reason=BeginTime Restarts=1 NodeList=(null)\n"
    folder = on_slurm(job, GIVEN.format(0, "w1,w2"), waits, GIVEN.format(1, "w2"))
    status = run(job, {"delivers": [3, 1], "status": 205}, {"delivers": [0, 2], "status": 0})
    assert (status.state, [attempt.hosts for attempt in status.attempts]) == ("complete", [("w1", "w2"), ("w2",)])
    assert status.slurm == "7 COMPLETED"
    asked = (folder / "asked").read_text().splitlines()
    assert len([line for line in asked if line.startswith("sbatch ")]) == 1
    assert "scontrol update JobId=7 StartTime=now" in asked
    assert "scancel --batch --signal USR1 7" in asked
    log = (job / job_names.LOG).read_text()
    assert "Slurm has requeued its job 7" in log and f"OMPI_MCA_plm_rsh_agent={run_of(job)}/srun" in log


def test_a_job_that_is_cancelled_in_slurm_is_cancelled(job: Path) -> None:
    on_slurm(job, GIVEN.format(0, "w1"), "JobId=7 JobState=CANCELLED Reason=None Restarts=0\n")
    status = run(job, {"delivers": [3], "status": 1})
    assert (status.state, status.error) == ("cancelled", "it was cancelled in Slurm (job 7 there)")
    assert (job / job_names.PACK).exists()


def test_a_partition_without_its_hosts_is_its_failure(job: Path) -> None:
    on_slurm(job, GIVEN.format(0, "w1"))
    (job.parent / "bin" / "sinfo").write_text("#!/bin/sh\necho 'n1|2|(null)|idle|x|x|none'\n")
    status = run(job, {"delivers": [3], "status": 1})
    assert status.state == "failed"
    assert status.error == "Slurm knows none of the job's hosts in partition tpu: w1, w2; its nodes: n1"


def test_a_log_that_grows_is_shortened_while_mpirun_writes_it(job: Path) -> None:
    lines = log.MOST_BYTES // 30
    assert run(job, {"delivers": [0, 1, 2, 3], "says": lines, "status": 0}).state == "complete"
    text = (job / job_names.LOG).read_text().splitlines()
    assert text[0].startswith("attempt 1: ") and "mpirun said this" in text[:3]
    assert text[-1] == f"rank 1 says line {lines - 1}, and much more"
    assert len([line for line in text if "bytes of this log were left out here" in line]) == 1
