"""A job's way from the admin to the head and back, over the real conversation; only systemd and MPI are played."""

from __future__ import annotations

import getpass
import io
import json
import os
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clusteradm.errors import HostFailed, HostUnreachable, Interrupted, UsageError
from clusteradm.inventory import keep
from clusteradm.jobs import HeadInputs, Update, inputs, resolve
from clusteradm.node.job import boot, control, files, queue
from clusteradm.node.spec.wire.job import Progress, Slot, Status, StoredSpec
from clusteradm.node.spec.wire.job_requests import CancelJob, CreateJob
from clusteradm.transport import NodeError

from .conftest import fifo, link


def state(update: Update) -> str:
    assert update.status is not None
    return update.status.state


def test_local_inputs_arrive_in_one_pack(
    place: Any, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "PART_BYTES", 16)
    monkeypatch.setattr(inputs.parts, "__defaults__", (16,))
    job, count = place.submit(resolve([str(pictures)]))
    assert count == 5
    folder = place.folder(job)
    assert (folder / "inputs.pack").read_bytes() == b"".join(bytes([65 + number]) * 7 for number in range(5))
    own = place.own(job)
    lines = [json.loads(line) for line in (own / "run" / "inputs.jsonl").read_text().splitlines()]
    assert [(line["input"], line["offset"], line["size"]) for line in lines] == [
        (f"{n}.png", 7 * n, 7) for n in range(5)
    ]
    assert place.sent[-1] == (35, 35)
    spec = json.loads((own / "spec.json").read_text())
    assert (spec["job"], spec["inputs"], spec["head"]) == (job, 5, "head")
    assert spec["slots"] == [{"host": "w1", "tpus": ["0000:01:00.0"]}]
    unit = json.loads((tmp_path / "unit.json").read_text())
    assert unit[unit.index("--unit") + 1] == f"clusteradm-job-{job}.service"
    assert unit[unit.index("--uid") + 1] == getpass.getuser()
    assert unit[-3:] == ["-m", "clusteradm.node.job.supervisor", str(own)]
    # The bytes are in the job now; a second copy of them would fill a board.
    assert os.listdir(tmp_path / "state" / "blobs") == []
    assert os.listdir(place.shared / "jobs") == [job]


def test_inputs_on_the_head_are_packed_there(place: Any, pictures: Path) -> None:
    (place.shared / "data").mkdir()
    (place.shared / "data" / "x.png").write_bytes(b"shared")
    job, count = place.submit(HeadInputs((str(pictures), "data/x.png")))
    assert count == 6
    lines = [json.loads(line)["input"] for line in (place.own(job) / "run" / "inputs.jsonl").read_text().splitlines()]
    assert lines == sorted([*(str(pictures / f"{n}.png") for n in range(5)), str(place.shared / "data" / "x.png")])
    with pytest.raises(UsageError, match="no file or folder /gone on the head"):
        place.submit(HeadInputs(("/gone",)))


def index(place: Any, job: str) -> dict[str, str | None]:
    """The inputs of a job, each with its error."""
    lines = [json.loads(line) for line in (place.own(job) / "run" / "inputs.jsonl").read_text().splitlines()]
    return {line["input"]: line["form"]["error"] if isinstance(line["form"], dict) else None for line in lines}


def test_what_cannot_be_a_job_leaves_nothing(place: Any, pictures: Path) -> None:
    np.save(pictures / "a.npy", np.zeros((7, 7), np.uint8))
    with pytest.raises(UsageError, match=r"no input can be used: .*a\.npy: .* it has shape 7x7; the model takes"):
        place.submit(resolve([str(pictures / "a.npy")]))
    assert os.listdir(place.shared / "jobs") == []


def test_what_cannot_be_an_input_costs_no_other(place: Any, pictures: Path) -> None:
    np.save(pictures / "a.npy", np.zeros((7, 7), np.uint8))
    (pictures / os.fsdecode(b"caf\xe9.png")).write_bytes(b"E" * 7)
    files = resolve([str(pictures)])
    (pictures / "4.png").write_bytes(b"")
    (pictures / "3.png").unlink()
    found = index(place, place.submit(files)[0])
    assert found == {
        "0.png": None,
        "1.png": None,
        "2.png": None,
        "3.png": "cannot read it: No such file or directory",
        "4.png": "it has become shorter while it was sent",
        "a.npy": "not an input for this model: it has shape 7x7; the model takes 1x2x2x1, or any number of them",
        "caf\\udce9.png": None,
    }


def test_what_cannot_be_an_input_on_the_head_costs_no_other(place: Any, pictures: Path) -> None:
    (pictures / "out.png").symlink_to("/etc/passwd")
    os.mkfifo(pictures / "pipe.png")
    found = index(place, place.submit(HeadInputs((str(pictures),)))[0])
    assert {name: why for name, why in found.items() if why} == {
        "out.png": "a link that leads out of its folder: name it itself",
        "pipe.png": "a pipe, a socket or a device, not a file",
    }
    assert len(found) == 7


def test_a_damaged_array_is_one_error_of_the_job(place: Any, pictures: Path) -> None:
    (pictures / "a.npy").write_bytes(b"\x93NUMPY but damaged")
    job, count = place.submit(resolve([str(pictures)]))
    assert count == 6
    lines = [json.loads(line) for line in (place.own(job) / "run" / "inputs.jsonl").read_text().splitlines()]
    assert [line["input"] for line in lines if line["form"] is not None] == ["a.npy"]
    assert "not an input that can be read" in lines[-1]["form"]["error"]


def test_two_jobs_do_not_get_the_same_tpu(
    place: Any, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTERADM_STATE", str(place.state))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    inputs = resolve([str(pictures)])
    first, _ = place.submit(inputs, wait=False)
    with pytest.raises(UsageError, match=f"job {first} has the TPUs by now: --wait queues behind it"):
        place.submit(inputs, wait=False)
    assert os.listdir(place.shared / "jobs") == [first]
    # Of two TPUs, the one that is left.
    two = (Slot("w1", ("0000:01:00.0", "0000:02:00.0")),)
    third, _ = place.submit(inputs, wait=False, slots=two)
    assert json.loads((place.own(third) / "spec.json").read_text())["slots"] == [
        {"host": "w1", "tpus": ["0000:02:00.0"]}
    ]
    second, _ = place.submit(inputs)

    def ahead(job: str) -> list[str]:
        spec = files.read(StoredSpec, str(place.own(job) / "spec.json"))
        assert spec is not None
        return queue.ahead(spec, job)

    assert (ahead(first), ahead(second)) == ([], [first])
    # One that was resumed waits for the one that is at work, whichever was started first.
    status = Status("running", None, total=5)
    files.write_json(str(place.own(second) / "run" / "status.json"), status)
    assert ahead(first) == [second]
    (tmp_path / "active").write_text("inactive\n")
    assert (ahead(first), ahead(second)) == ([], [])
    waits = replace(status, state="queued", ahead=(first,))
    files.write_json(str(place.own(second) / "run" / "status.json"), waits)
    (tmp_path / "active").write_text("active\n" * 3)
    assert {job.job: job.ahead for job in place.jobs.list() if job.job != third} == {first: (), second: (first,)}


def test_following_to_the_end_and_fetching(place: Any, pictures: Path) -> None:
    job, _ = place.submit(resolve([str(pictures)]))
    updates = place.jobs.follow(job)
    assert state(next(updates)) == "starting"
    folder = place.folder(job)
    progress = Progress(1, "running", 5, 2, 0, None, None, 1.0, ())
    (place.own(job) / "run" / "progress.json").write_text(json.dumps(vars(progress)))
    assert next(updates).progress == progress
    place.complete(job)
    assert [state(update) for update in updates] == ["complete"]
    (folder / "results.jsonl").write_bytes(os.urandom(1_500_000))
    got = io.BytesIO()
    place.jobs.fetch(job, "results.jsonl", got)
    assert got.getvalue() == (folder / "results.jsonl").read_bytes()
    for name in ("../../../etc/passwd", "outputs-x/../../log", "spec.json"):
        with pytest.raises(HostFailed, match="is no file that a job gives out"):
            place.jobs.fetch(job, name, got)


def test_a_supervisor_that_vanished_leaves_an_interrupted_job(
    place: Any, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clusteradm.jobs.job._RESUMED", 0.0)
    job, _ = place.submit(resolve([str(pictures)]))
    (tmp_path / "active").write_text("inactive\n")
    last = list(place.jobs.follow(job))[-1].status
    assert last is not None and last.state == "interrupted"
    said = f"its supervisor ended before it.*clusteradm job resume {job}\n    traceback"  # as its unit says
    with pytest.raises(HostFailed, match=said):
        place.jobs.check(job, last)


def test_a_supervisor_that_vanished_while_memory_ran_out_says_so(place: Any, pictures: Path, tmp_path: Path) -> None:
    job, _ = place.submit(resolve([str(pictures)]))
    assert "OOMPolicy=continue" in json.loads((tmp_path / "unit.json").read_text()), "else systemd ends all with one"
    (tmp_path / "active").write_text("inactive\n")
    path = place.own(job) / "run" / "status.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "kills": -1}))
    error = place.jobs.show(job).status.error
    assert error.startswith("its supervisor ended before it, and since the job began the kernel of the head has ended ")
    assert error.endswith(f"once some is free: clusteradm job resume {job}")


def test_a_job_that_goes_on_after_a_restart_of_the_head_is_followed_further(
    place: Any, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clusteradm.jobs.job._WAIT", 0.01)
    job, _ = place.submit(resolve([str(pictures)]))
    updates = place.jobs.follow(job)
    assert state(next(updates)) == "starting"
    (tmp_path / "active").write_text("inactive\n")

    def booted(seconds: float) -> None:
        (tmp_path / "active").write_text("active\n")
        place.complete(job)

    monkeypatch.setattr("clusteradm.jobs.job.time.sleep", booted)
    assert [state(update) for update in updates] == ["complete"]


def test_cancel_marks_the_job_and_stops_the_unit(place: Any, pictures: Path, tmp_path: Path) -> None:
    job, _ = place.submit(resolve([str(pictures)]))
    (tmp_path / "active").write_text("inactive\n")
    place.jobs.cancel(job)
    assert (tmp_path / "systemctl").read_text().splitlines()[-1] == f"stop clusteradm-job-{job}.service"
    assert place.jobs.show(job).status.state == "cancelled", "no supervisor was there to say so"
    assert not control.resumable(getpass.getuser(), str(place.own(job))), "not at boot either"


def test_what_was_interrupted_or_cancelled_is_resumed(place: Any, pictures: Path, tmp_path: Path) -> None:
    job, _ = place.submit(resolve([str(pictures)]))
    with pytest.raises(UsageError, match=f"job {job} cannot be resumed: it is running"):
        place.jobs.resume(job)
    (tmp_path / "active").write_text("inactive\n")
    assert control.resumable(getpass.getuser(), str(place.own(job)))
    place.jobs.cancel(job)
    (tmp_path / "unit.json").unlink()
    place.jobs.resume(job)
    unit = json.loads((tmp_path / "unit.json").read_text())
    assert unit[-3:] == ["-m", "clusteradm.node.job.supervisor", str(place.own(job))]
    assert control.resumable(getpass.getuser(), str(place.own(job))), "the mark of the cancellation is gone"
    place.complete(job)
    with pytest.raises(UsageError, match="it is complete"):
        place.jobs.resume(job)
    assert not control.resumable(getpass.getuser(), str(place.own(job)))


def test_without_its_inputs_nothing_is_resumed(place: Any, pictures: Path, tmp_path: Path) -> None:
    job, _ = place.submit(resolve([str(pictures)]))
    (tmp_path / "active").write_text("inactive\n")
    (place.folder(job) / "inputs.pack").unlink()
    with pytest.raises(UsageError, match="its inputs are gone"):
        place.jobs.resume(job)
    with pytest.raises(HostFailed, match="there is no job 20260101-000000-abcdef here"):
        place.jobs.resume("20260101-000000-abcdef")


def test_at_boot_what_was_interrupted_goes_on(
    place: Any, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted, cancelled, complete = (place.submit(resolve([str(pictures)]))[0] for _ in range(3))
    (tmp_path / "active").write_text("inactive\n" * 3)
    place.jobs.cancel(cancelled)
    place.complete(complete)
    started: list[tuple[str, str]] = []
    monkeypatch.setattr("clusteradm.node.job.starter.start", lambda job, user, own: started.append((job, user)))
    monkeypatch.setenv("CLUSTERADM_STATE", str(tmp_path / "state"))
    boot.main()
    assert started == [(interrupted, getpass.getuser())] and capsys.readouterr().err == ""


def test_inputs_on_the_head_of_which_none_can_be_read_are_said_with_the_reason(place: Any) -> None:
    os.mkfifo(place.shared / "pipe.png")
    with pytest.raises(UsageError, match=r"no input can be used: .*/pipe\.png: a pipe, a socket or a device"):
        place.submit(HeadInputs(("pipe.png",)))
    assert os.listdir(place.shared / "jobs") == []


def test_an_unknown_job(place: Any) -> None:
    with pytest.raises(HostFailed, match="there is no job 20260101-000000-abcdef here"):
        next(place.jobs.follow("20260101-000000-abcdef"))
    with pytest.raises(UsageError, match="is no job's id"):
        next(place.jobs.follow("../x"))
    with pytest.raises(NodeError, match=r"job: '\.\./x' does not match"):  # the node does not rely on that
        place.node(place.head).call(CancelJob(str(place.shared), getpass.getuser(), "../x"))


def test_jobs_are_listed_and_shown(place: Any, pictures: Path, tmp_path: Path) -> None:
    assert place.jobs.list() == ()
    (place.shared / "jobs" / ".20260101-000000-abcdef").mkdir()  # being made
    first, second, third = (place.submit(resolve([str(pictures)]))[0] for _ in range(3))
    place.complete(first)
    (place.own(third) / "run" / "status.json").write_text('{"state": "running", "attempts": "many"}')
    (tmp_path / "active").write_text("active\n" * 3)
    found = {job.job: job for job in place.jobs.list()}
    assert sorted(found) == sorted([first, second, third])
    assert (found[first].state, found[first].model, found[first].done) == ("complete", "m", 5)
    assert (found[second].state, found[second].total) == ("starting", 5)
    # One job that cannot be read harms no other.
    assert (found[third].state, found[third].error) == ("damaged", "attempts: expected a list, not text")
    with pytest.raises(HostFailed, match=r"status\.attempts: expected a list, not text"):
        place.jobs.show(third)
    shown = place.jobs.show(first)
    assert (shown.spec.job, shown.spec.inputs, shown.status.images, shown.bytes) == (first, 5, 5, 35)
    assert shown.spec.slots == (Slot("w1", ("0000:01:00.0",)),)
    assert shown.timeline is None and place.jobs.show(first, timeline=True).timeline is None
    path = place.own(first) / "run" / "timeline.json"
    path.write_text('{"step": 1, "seconds": 2.5, "written": 3.5, "counts": {"w1": [2, 3]}}')
    assert place.jobs.show(first, timeline=True).timeline.counts == {"w1": (2, 3)}
    path.write_text('{"step": 1, "seconds": 2.5, "written": 3.5, "counts": {"w1": [-2, 3]}}')
    assert place.jobs.show(first, timeline=True).timeline is None, "one that is damaged is none"
    (tmp_path / "active").write_text("inactive\n")
    assert place.jobs.show(second).status.state == "interrupted"
    found = {job.job: job for job in place.jobs.list()}
    assert found[second].state == "interrupted" and f"clusteradm job resume {second}" in (found[second].error or "")


def test_what_somebody_puts_in_the_place_of_a_status_costs_that_job_alone(
    place: Any, pictures: Path, tmp_path: Path, secret: Path
) -> None:
    jobs = [place.submit(resolve([str(pictures)]))[0] for _ in range(6)]
    deep = "[" * 100_000
    for job, text in zip(jobs[:3], (deep, '{"state": ', '{"state": "running"' + " " * (17 << 20) + "}"), strict=True):
        (place.own(job) / "run" / "status.json").write_text(text)
    for job, put in zip(jobs[3:5], (link, fifo), strict=True):
        (place.own(job) / "run" / "status.json").unlink()
        put(place.own(job) / "run" / "status.json", secret)
    place.complete(jobs[5])
    found = {job.job: job for job in place.jobs.list()}
    assert [found[job].state for job in jobs] == ["damaged"] * 5 + ["complete"]
    for job in jobs[:3]:
        remedy = f"to remove the job: clusteradm job remove {job}"
        assert remedy in (found[job].error or "")
        with pytest.raises(HostFailed, match=remedy):
            place.jobs.show(job)
    (tmp_path / "active").write_text("inactive\n")
    place.head.vars["cluster_jobs_keep"] = "0h"
    place.jobs = type(place.jobs)(place, place.cluster)
    last, _ = place.submit(resolve([str(pictures)]))
    assert [job.job for job in place.jobs.list()] == sorted([*jobs[:5], last])
    for job in jobs[:5]:
        place.jobs.remove(job)
    assert [job.job for job in place.jobs.list()] == [last]


def test_a_job_is_removed_once_it_has_ended(place: Any, pictures: Path, tmp_path: Path) -> None:
    job, _ = place.submit(resolve([str(pictures)]))
    with pytest.raises(UsageError, match=f"job {job} is running\n  end it first: clusteradm job cancel {job}"):
        place.jobs.remove(job)
    assert (place.folder(job) / "inputs.pack").exists()
    (tmp_path / "active").write_text("inactive\n")
    place.jobs.remove(job)
    assert os.listdir(place.shared / "jobs") == []
    with pytest.raises(HostFailed, match=f"there is no job {job} here"):
        place.jobs.remove(job)


def test_old_jobs_go_by_age_and_size_and_none_that_has_not_ended(place: Any, pictures: Path, tmp_path: Path) -> None:
    old, open_, big, new = (place.submit(resolve([str(pictures)]))[0] for _ in range(4))
    (tmp_path / "active").write_text("inactive\n" * 4)
    now = time.time()
    for job, hours in ((old, 50), (big, 3), (new, 1)):
        place.complete(job)
        os.utime(place.own(job) / "run" / "status.json", (now - hours * 3600,) * 2)
    (place.folder(big) / "results.jsonl").write_bytes(bytes(3 << 20))
    place.head.vars["cluster_jobs_keep"] = "2d 1M"
    place.jobs = type(place.jobs)(place, place.cluster)
    last, _ = place.submit(resolve([str(pictures)]))
    assert [job.job for job in place.jobs.list()] == sorted([open_, new, last])
    assert sorted(os.listdir(place.shared / "jobs")) == sorted([open_, new, last])
    assert not place.own(old).exists() and not place.own(big).exists()


@pytest.mark.parametrize(
    ("text", "found"), [("", (None, None)), ("30d", (2592000, None)), ("2G 1w", (604800, 2 << 30)), ("0h", (0, None))]
)
def test_what_is_kept(text: str, found: tuple[object, object]) -> None:
    assert keep.parse(text) == found


@pytest.mark.parametrize("text", ["30", "d", "1d 2d", "1G 2M", "-1d", "1.5G", "30 d", "9999999d"])
def test_what_says_not_what_is_kept(text: str) -> None:
    with pytest.raises(ValueError):
        keep.parse(text)


def test_a_job_whose_folder_was_removed_by_hand_is_listed_and_can_be_removed(
    place: Any, pictures: Path, tmp_path: Path
) -> None:
    jobs = [place.submit(resolve([str(pictures)]))[0] for _ in range(2)]
    shutil.rmtree(place.folder(jobs[0]))
    found = {job.job: job for job in place.jobs.list()}
    assert list(found) == sorted(jobs)
    remedy = f"its folder {place.folder(jobs[0])} was removed; to remove the rest: clusteradm job remove {jobs[0]}"
    assert (found[jobs[0]].state, found[jobs[0]].error) == ("damaged", remedy)
    with pytest.raises(HostFailed, match=re.escape(remedy)):
        place.jobs.show(jobs[0])
    with pytest.raises(UsageError, match="is running"):
        place.jobs.remove(jobs[0])
    (tmp_path / "active").write_text("inactive\n")
    place.jobs.remove(jobs[0])
    assert not place.own(jobs[0]).exists()
    assert [job.job for job in place.jobs.list()] == [jobs[1]]
    with pytest.raises(HostFailed, match=f"there is no job {jobs[0]} here"):
        place.jobs.remove(jobs[0])


def test_a_job_that_is_being_made_is_not_in_the_list_and_can_be_removed(
    place: Any, pictures: Path, tmp_path: Path
) -> None:
    job = place.jobs._call(CreateJob(str(place.shared), getpass.getuser())).job
    assert place.own(job).exists() and place.jobs.list() == ()
    with pytest.raises(HostFailed, match=f"there is no job {job} here"):
        place.jobs.show(job)
    (tmp_path / "active").write_text("inactive\n")
    place.jobs.remove(job)
    assert not place.own(job).exists() and not list((place.shared / "jobs").iterdir())


def test_a_job_that_was_meant_is_named(place: Any, pictures: Path) -> None:
    job, _ = place.submit(resolve([str(pictures)]))
    wrong = job[:-1] + ("0" if job[-1] != "0" else "1")
    with pytest.raises(HostFailed, match=rf"no job {wrong} here \(is {job} meant\?\); clusteradm job list shows them"):
        place.jobs.show(wrong)
    with pytest.raises(HostFailed, match="no job 19990101-000000-ffffff here; clusteradm job list shows them all"):
        place.jobs.show("19990101-000000-ffffff")


def stop_at(jobs: Any, monkeypatch: pytest.MonkeyPatch, **ends: BaseException) -> None:
    """Have these requests end so."""
    whole = jobs._call

    def call(request: Any, timeout: float = 60.0) -> Any:
        if type(request).__name__ in ends:
            raise ends[type(request).__name__]
        return whole(request, timeout)

    monkeypatch.setattr(jobs, "_call", call)


def test_a_second_interruption_says_what_may_be_left(
    place: Any, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = place.submit(resolve([str(pictures)]))
    stop_at(place.jobs, monkeypatch, CancelJob=KeyboardInterrupt(), StartJob=KeyboardInterrupt())
    with pytest.raises(Interrupted, match=f"job {job} may go on") as ended:
        place.jobs.cancel(job)
    assert ended.value.next_step == f"to end it: clusteradm job cancel {job}"
    with pytest.raises(Interrupted, match="which was being made, may be left on the head, or run there") as ended:
        place.submit(resolve([str(pictures)]))
    made = next((place.shared / "jobs").glob(".2*")).name[1:]
    assert ended.value.next_step.endswith(f"to remove it with its inputs: clusteradm job remove {made}")


def test_a_line_that_is_cut_while_a_job_is_made_says_what_may_be_left(
    place: Any, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = HostUnreachable("the line is cut", where="head", next_step="see its cable")
    stop_at(place.jobs, monkeypatch, CancelJob=HostUnreachable("cut"), StartJob=lost)
    with pytest.raises(HostUnreachable, match=r"(?s)the line is cut.*see its cable.*job .* may be left on the head"):
        place.submit(resolve([str(pictures)]))


def test_a_head_that_is_gone_as_the_job_is_to_be_cancelled(
    place: Any, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = place.submit(resolve([str(pictures)]))

    def gone(host: object) -> None:
        raise HostUnreachable("no route to host", where="head")

    monkeypatch.setattr(place, "node", gone)
    with pytest.raises(HostUnreachable, match=f"the job continues; end it with: clusteradm job cancel {job}"):
        place.jobs.cancel(job)
