"""infer --watch: what comes into a folder is a result once, by a head of this machine; MPI and systemd are played."""

from __future__ import annotations

import hashlib
import io
import json
import os
import queue
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clusteradm.cli import context, infer
from clusteradm.cli.main import main
from clusteradm.errors import UsageError
from clusteradm.jobs import Jobs, Plan, inputs
from clusteradm.jobs import watching as clients
from clusteradm.jobs.appending import Appending, Drawing
from clusteradm.jobs.ledger import Ledger
from clusteradm.jobs.lines import Lines
from clusteradm.jobs.slots import Slots
from clusteradm.jobs.watching import Folder, Watch
from clusteradm.node.job import attendance, files, journal, pack, source, taking, worker
from clusteradm.node.job.dispatcher import dispatch
from clusteradm.node.job.feed import Feed
from clusteradm.node.job.taking import Taking
from clusteradm.node.spec.watching import files as whole
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.job import InputForm, ModelFile, Progress, Slot, Status, StoredSpec
from clusteradm.transport import NodeError

from .test_ranks import Channel

DIGITS = Path(__file__).resolve().parents[3] / "clusteradm" / "lab" / "digits" / "digits.tflite"
PATIENCE = 240.0


def until(done: Callable[[], Any], what: str = "") -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.01)


class Head:
    """What systemd would start: the supervisor's thread, and an attempt of rank 0 and a worker, for each open job."""

    def __init__(self, place: Any) -> None:
        self.place = place
        self.attempts: dict[str, int] = {}
        self.running: dict[str, threading.Thread] = {}
        self.takers: dict[str, Taking] = {}

    @property
    def jobs(self) -> list[str]:
        """Those that are whole: what the head does last, but for the start of a supervisor, is to make them visible."""
        folder = self.place.state / "jobs"
        names = [path.name for path in folder.iterdir()] if folder.exists() else []
        return sorted(name for name in names if self.place.folder(name).exists())

    def run(self, job: str) -> None:
        """An attempt until the job is complete, or `recall`ed."""
        own = self.place.own(job)
        spec = files.read(StoredSpec, str(own / "spec.json"))
        assert spec is not None
        if spec.watch is not None and job not in self.takers:
            self.takers[job] = Taking(spec, spec.watch, str(own / "run"), print)
            self.takers[job].start()
        number = self.attempts[job] = self.attempts.get(job, 0) + 1
        plan = [{"rank": 1, "host": socket.gethostname(), "pci_address": None}]
        files.write_json(str(own / "run" / (job_names.ATTEMPT % number)), {"attempt": number, "ranks": plan})
        files.write_json(str(own / "run" / "status.json"), Status("running", spec.model, 5, 0, 1.0))

        def attempt() -> None:
            inboxes: list[queue.Queue[Any]] = [queue.Queue(), queue.Queue()]
            ranks = [Channel(number, inboxes) for number in (0, 1)]
            threading.Thread(target=worker.work, args=(ranks[1],), daemon=True).start()
            dispatch(str(own), number, ranks[0])  # type: ignore[arg-type]
            if spec.watch is None:
                counts = journal.finish(spec.folder, str(own / "run" / "inputs.jsonl"), ())
                status = Status("complete", spec.model, 5, spec.inputs, 1.0, **counts)
                files.write_json(str(own / "run" / "status.json"), status)
            elif not Feed(spec.folder, str(own / "run")).open_or_waiting:
                status = Status("complete", spec.model, 5, 0, 1.0, images=self.done(job))
                files.write_json(str(own / "run" / "status.json"), status)

        self.running[job] = threading.Thread(target=attempt, daemon=True)
        self.running[job].start()

    def recall(self, job: str) -> None:
        """End the attempt, as a fault would."""
        mark = self.place.own(job) / "run" / "recall"
        mark.touch()
        self.running[job].join(PATIENCE)
        mark.unlink()

    def done(self, job: str) -> int:
        """The results so far, by rank 0."""
        progress = files.read(Progress, str(self.place.own(job) / "run" / "progress.json"))
        return progress.done if progress else 0

    def close(self) -> None:
        for job in self.jobs:
            (self.place.own(job) / "run" / "end").touch()
            (self.place.own(job) / "run" / "recall").touch()
        for thread in (*self.running.values(), *self.takers.values()):
            thread.join(PATIENCE)


@pytest.fixture
def head(place: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Head]:
    model = ModelFile(
        "digits", 1, str(DIGITS), hashlib.sha256(DIGITS.read_bytes()).hexdigest(), InputForm("uint8", (1, 28, 28, 1)),
        task="classifier",
    )  # fmt: skip
    monkeypatch.setattr(context, "open_cluster", lambda args: place.cluster)
    monkeypatch.setattr(context, "connect", lambda args, cluster: place)
    plan = Plan(model, Slots((Slot("head", (None,)),), (), (), cpu=True), None, top=3)
    monkeypatch.setattr(infer, "plan_of", lambda *_: plan)
    monkeypatch.setattr(whole, "QUIET_SECONDS", 0.01)
    monkeypatch.setattr(whole, "SETTLE_SECONDS", 0.1)
    monkeypatch.setattr(attendance, "SILENT_SECONDS", 1e9)  # of a worker without its keeper, none is heard
    monkeypatch.setattr(clients, "_IDLE_SECONDS", 0.05)
    one = Head(place)
    yield one
    one.close()


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    folder = tmp_path / "camera"
    folder.mkdir()
    return folder


def picture(path: Path, value: int = 0) -> None:
    Image.fromarray(np.full((28, 28), value, np.uint8)).save(path)


def lines(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []


def named(output: Path) -> list[str]:
    return [line["input"] for line in lines(output)]


def command(head: Head, script: Callable[[], None], *words: str, start: bool = True) -> int:
    """clusteradm infer --watch WORDS, in this thread, as signals reach it; Ctrl-C at the end of the script."""
    failed: list[BaseException] = []
    before = set(head.jobs)

    def other() -> None:
        try:
            if start:
                until(lambda: set(head.jobs) - before)
                (job,) = set(head.jobs) - before
                head.run(job)
            script()
        except BaseException as error:
            failed.append(error)
        finally:
            # Once more where it waits for a job that nothing moves any more, as after a script that failed.
            while not over.is_set():
                os.kill(os.getpid(), signal.SIGINT)
                over.wait(PATIENCE / 2)

    over = threading.Event()
    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    try:
        status = main(["infer", "--model", "digits", *words])
    finally:
        over.set()
    thread.join(PATIENCE)
    if failed:
        raise failed[0]
    return status


def test_files_that_come_are_results_once_and_soon(
    head: Head, camera: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "r.jsonl"
    picture(camera / "before.png")
    seconds: list[float] = []

    def script() -> None:
        until(lambda: named(output) == ["before.png"])
        for number in range(5):
            began = time.monotonic()
            picture(camera / f"{number}.png", number)
            until(lambda: len(named(output)) == 2 + number)  # noqa: B023 - waited for
            seconds.append(time.monotonic() - began)
        (camera / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
        np.save(camera / "rows.npy", np.zeros((3, 28, 28), np.uint8))
        until(lambda: len(named(output)) == 10)

    assert command(head, script, "--watch", str(camera), "--output", str(output), "--json") == 130
    found = lines(output)
    assert [line["index"] for line in found] == list(range(10))
    assert sorted(line["input"] for line in found[6:]) == ["cut.png", *(f"rows.npy[{n}]" for n in range(3))]
    assert ["error" in line for line in found if line["input"] == "cut.png"] == [True]
    assert sum("top" in line for line in found) == 9
    document = json.loads(capsys.readouterr().out)
    assert (document["state"], document["files"], document["images"], document["errors"]) == ("complete", 8, 10, 1)
    # Nothing is left on the head, of inputs or of results.
    (job,) = head.jobs
    assert not list(head.place.folder(job).glob("feed-*")) and not list(
        (head.place.own(job) / "run" / "feed").iterdir()
    )
    assert not list((head.place.own(job) / "run" / "found").iterdir())
    assert (head.place.folder(job) / "journal.jsonl").stat().st_size == 0
    print("seconds from a file to its result:", sorted(seconds))
    # Again: nothing is taken twice, and what came meanwhile is taken.
    picture(camera / "meanwhile.png")
    picture(camera / "3.png", 77)
    os.utime(camera / "3.png", ns=(1, 1))

    def again() -> None:
        until(lambda: len(named(output)) == 12)

    assert command(head, again, "--watch", str(camera), "--output", str(output)) == 130
    assert sorted(named(output)[10:]) == ["3.png", "meanwhile.png"]
    assert [line["index"] for line in lines(output)] == list(range(12))


def test_a_folder_of_the_head_is_watched_there_and_each_is_taken_once_over_jobs(
    head: Head, camera: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "r.jsonl"
    words = ("--watch", f"head:{camera}", "--output", str(output))
    for number in range(3):
        picture(camera / f"{number}.png")
    assert main(["infer", "--model", "digits", *words, "--detach", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (job,) = head.jobs
    assert (document["job"], document["detached"]) == (job, True)
    head.run(job)
    os.mkdir(camera / "caf\udce9")
    picture(camera / "caf\udce9" / "line\nbreak.png")
    until(lambda: head.done(job) == 4, "with nobody there")
    head.recall(job)  # and a restart of all that works on the head
    head.takers.pop(job).stop()
    picture(camera / "3.png")
    until(lambda: not any(thread.name == "taking" for thread in threading.enumerate()))
    head.run(job)

    def script() -> None:
        until(lambda: len(named(output)) == 5)

    assert command(head, script, *words, start=False) == 130
    assert f"job {job} goes on" in capsys.readouterr().err.replace("\n", " ")
    assert sorted(named(output)) == ["0.png", "1.png", "2.png", "3.png", "caf\\udce9/line\nbreak.png"]
    assert head.jobs == [job]
    # The job is at its end, and another one takes what is new alone.
    picture(camera / "4.png")

    def another() -> None:
        until(lambda: len(named(output)) == 6)

    report = tmp_path / "report.html"
    assert command(head, another, *words, "--report", str(report)) == 130
    assert f"the report is in {report}" in " ".join(capsys.readouterr().err.split())
    assert head.jobs[1] in report.read_text()
    assert named(output)[5] == "4.png" and len(head.jobs) == 2
    assert [line["index"] for line in lines(output)] == list(range(6))


def test_what_the_job_before_was_asked_for_is_fetched_first(head: Head, camera: Path, tmp_path: Path) -> None:
    output = tmp_path / "r.csv"
    words = ("--watch", f"head:{camera}", "--output", str(output), "--format", "csv")
    picture(camera / "0.png")
    assert main(["infer", "--model", "digits", *words, "--detach"]) == 0
    (job,) = head.jobs
    head.run(job)
    until(lambda: head.done(job) == 1)
    picture(camera / "1.png")
    until(lambda: head.done(job) == 2)

    def script() -> None:
        picture(camera / "2.png")
        until(lambda: "2.png" in output.read_text())

    assert command(head, script, *words, "--threshold", "0.01") == 130
    rows = output.read_text().splitlines()
    assert rows[0].startswith("input,index,error") and rows.count(rows[0]) == 1
    assert sorted({row.partition(",")[0] for row in rows[1:]}) == ["0.png", "1.png", "2.png"]
    assert [int(row.split(",")[1]) for row in rows[1:]] == sorted(int(row.split(",")[1]) for row in rows[1:])
    assert files.read(Status, str(head.place.own(job) / "run" / "status.json")).state == "complete"  # type: ignore[union-attr]


def test_a_command_that_is_killed_anywhere_loses_and_doubles_nothing(
    head: Head, camera: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command dies at another point of the work on its files; the next one goes on with the same job."""
    output, drawn = tmp_path / "r.jsonl", tmp_path / "drawn"
    drawn.mkdir()
    monkeypatch.setattr(source, "MOST_JOURNAL", 0)
    points: list[tuple[Any, str, str]] = [
        (Jobs, "feed", "before"),
        (Jobs, "feed", "after"),
        (Ledger, "give", "before"),
        (Ledger, "take", "after"),
        (Ledger, "store", "before"),
        (Ledger, "store", "after"),
        (Appending, "_draw", "before"),
        (Appending, "add", "after"),
        (Lines, "put", "before"),
        (Jobs, "collect", "after"),
        (Jobs, "_call", "before"),
    ]

    class Killed(BaseException):
        pass

    def kill_at(patch: pytest.MonkeyPatch, kind: Any, name: str, when: str) -> None:
        whole = getattr(kind, name)

        def die(*args: Any, **more: Any) -> Any:
            if when == "after":
                whole(*args, **more)
            raise Killed

        patch.setattr(kind, name, die)

    def run(job: str, enough: int) -> None:
        ledger = Ledger(output)
        folder = Folder(camera, ledger)
        try:
            drawing = Drawing(drawn, camera)
            appending = Appending(output, "jsonl", "classifier", ledger, print, drawing)
            watch = Watch(head.place.jobs, job, ledger, appending, folder, print)
            for _ in watch.updates():
                if len(named(output)) >= enough and not watch.stopping:
                    watch.stop()
        finally:
            folder.close()
            ledger.close()

    plan = infer.plan_of()  # type: ignore[call-arg]
    job = head.place.jobs.open(plan, None, None, top=3)
    ledger = Ledger(output)
    ledger.begin(job, "")
    ledger.close()
    head.run(job)
    for number, point in enumerate(points):
        for each in range(3):
            picture(camera / f"{number}-{each}.png", number)
        with monkeypatch.context() as patch, pytest.raises(Killed):
            kill_at(patch, *point)
            run(job, 1000)
        head.place.drop(head.place.head)
        if number == 4:
            head.recall(job)
            head.run(job)
    expected = sorted(f"{number}-{each}.png" for number in range(len(points)) for each in range(3))
    run(job, len(expected))
    assert sorted(named(output)) == expected
    assert [line["index"] for line in lines(output)] == list(range(len(expected)))
    pictures = [f"{line['index']:06d}-{Path(line['input']).stem}.jpg" for line in lines(output)]
    assert sorted(path.name for path in drawn.iterdir()) == sorted(pictures)


def test_batches_arrive_whole_once_and_not_when_they_have_changed(
    head: Head, camera: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "PART_BYTES", 64)
    monkeypatch.setattr(inputs.parts, "__defaults__", (64,))
    jobs = head.place.jobs
    plan = infer.plan_of()  # type: ignore[call-arg]
    job = jobs.open(plan, None, None, top=3)
    feed = Feed(str(head.place.folder(job)), str(head.place.own(job) / "run"))
    paths = [camera / f"{number}.png" for number in range(4)]
    for path in paths:
        path.write_bytes(path.name.encode() * 20)

    def named(*paths: Path) -> list[inputs.File]:
        return [inputs.File(path.name, path, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]

    files_ = named(*paths)
    assert jobs.feed(job, 1, files_) == jobs.feed(job, 1, files_) == {}
    assert Path(feed.body(1)).read_bytes() == b"".join(path.read_bytes() for path in paths)
    assert [json.loads(line)["input"] for line in Path(feed.lines(1)).read_text().splitlines()] == [
        path.name for path in paths
    ]
    planned = named(*paths)
    paths[2].write_bytes(b"changed")
    paths[3].unlink()
    assert set(jobs.feed(job, 2, planned) or ()) == {"2.png"}
    assert not feed.has(2)
    refused = inputs.File("no.png", paths[0], 0, error="cannot read it: Permission denied")
    assert jobs.feed(job, 2, [*named(paths[0]), refused]) == {}
    assert Path(feed.body(2)).read_bytes() == paths[0].read_bytes()  # nothing of the try before
    last = json.loads(Path(feed.lines(2)).read_text().splitlines()[1])
    assert last["form"] == {"error": "cannot read it: Permission denied"}
    answer = jobs.collect(job, io.BytesIO())
    assert (answer.batch, answer.waiting) == (None, (1, 2))
    Path(feed.results(1)).write_bytes(b"{}\n" * 3)
    data = io.BytesIO()
    answer = jobs.collect(job, data)
    assert (answer.batch, answer.size, answer.waiting, data.getvalue()) == (1, 9, (2,), b"{}\n" * 3)
    assert jobs.collect(job, io.BytesIO(), done=[1]).batch is None and feed.found() == []
    jobs.end(job)
    assert jobs.feed(job, 3, named(paths[0])) is None
    other, _ = head.place.submit(inputs.resolve([str(paths[0])]))
    with pytest.raises(NodeError, match="takes no inputs besides those"):
        jobs.feed(other, 1, named(paths[0]))


def watching(head: Head, camera: Path) -> tuple[Taking, Feed]:
    """A job that watches the folder: what takes its files, to be started, and what it makes of them."""
    plan = infer.plan_of()  # type: ignore[call-arg]
    job = head.place.jobs.open(plan, str(camera), None, top=3)
    own = head.place.own(job)
    spec = files.read(StoredSpec, str(own / "spec.json"))
    assert spec is not None and spec.watch is not None
    head.takers[job] = Taking(spec, spec.watch, str(own / "run"), print)
    return head.takers[job], Feed(spec.folder, str(own / "run"))


def test_results_that_nobody_fetches_fill_no_disk(
    head: Head, camera: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of the head keeps what is too much; ranks that do not come on hold batches back, too."""
    monkeypatch.setattr(taking, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(taking, "MOST_BATCHES", 2)
    monkeypatch.setattr(taking, "BATCH_FILES", 2)
    taker, feed = watching(head, camera)
    for number in range(10):
        picture(camera / f"{number}.png")
    taker.start()
    until(lambda: len(feed.waiting()) == 2)
    for batch in (1, 2):
        Path(feed.results(batch)).write_text("{}\n")
    monkeypatch.setattr(taking, "MOST_RESULTS", 5)
    for batch in (1, 2):
        feed.settle(batch)
    time.sleep(0.3)
    assert (feed.waiting(), feed.found()) == ([], [1, 2])
    feed.remove([1])
    until(lambda: len(feed.waiting()) == 2)
    assert sorted(feed.waiting()) == [3, 4] and not Path(feed.body(1)).exists()


def test_what_comes_to_no_batch_leaves_nothing(head: Head, camera: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that change while they are read, and a batch whose supervisor ended while it was made."""
    monkeypatch.setattr(whole, "SETTLE_SECONDS", 0.1)
    taker, feed = watching(head, camera)
    Path(feed.body(7)).write_bytes(b"half of it")
    append, values = pack.append, [1, 2]

    def changing(body: str, file: Any) -> int:
        size = append(body, file)
        if values:
            picture(camera / "0.png", values.pop())
        return size

    monkeypatch.setattr(pack, "append", changing)
    picture(camera / "0.png")
    taker.start()
    until(feed.waiting)
    (batch,) = feed.waiting()
    assert [path.name for path in Path(feed.share).glob("feed-*")] == [Path(feed.body(batch)).name]


def test_a_job_whose_command_is_not_heard_of_ends(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking, "UNHEARD_SECONDS", 0.2)
    monkeypatch.setattr(taking, "_WAIT_SECONDS", 0.02)
    plan = infer.plan_of()  # type: ignore[call-arg]
    job = head.place.jobs.open(plan, None, None, top=3)
    head.run(job)
    until(lambda: not head.running[job].is_alive())
    assert head.place.jobs.show(job).status.state == "complete"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--watch", "gone", "--output", "r"], "no folder gone here"),
        (["--watch", "", "--output", "r"], "--watch without a folder"),
        (["--watch", "."], "--watch appends to a file"),
        (["--watch", ".", "--output", "-"], "--watch appends to a file"),
        (["--watch", ".", "--output", "r", "a.png"], "and no INPUTS besides"),
        (["--watch", ".", "--output", "../r", "--truth", "t.csv"], "infer --model NAME DIR --truth FILE"),
        (["--watch", "head:d", "--output", "r", "--annotate", "d"], "those of the folder are on the head"),
        (["--watch", ".", "--output", "../r", "--annotate", "d"], "--annotate is in the folder that is watched"),
        (["--watch", ".", "--output", "r"], "--output is in the folder that is watched"),
        (["--watch", "head:d", "--output", "r", "--report", "p", "--detach"], "clusteradm job show JOB --report FILE"),
        (["--watch", ".", "--output", "../r", "--report", "../r"], "--output and --report are the same file"),
        (["--watch", ".", "--output", "../r", "--similar", "a.png"], "no file or folder a.png here"),
        (["--watch", ".", "--output", "../r", "--format", "npy"], "--format parquet: the same numbers"),
        (["--watch", ".", "--format", "parquet"], "--output DIR"),
        (["--watch", ".", "--output", "../no/r", "--format", "parquet"], "cannot write to ../no/r: No such file"),
        (["--watch", ".", "--output", "../r", "--detach"], "--watch head:DIR"),
        (["--watch", ".", "--output", "../r", "--attach", "20260101-000000-abcdef"], "--watch finds its job itself"),
        (["--watch", "head:caf\udce9", "--output", "r"], "not UTF-8"),
        (["--watch", ".", "--output", "../no/such/r"], "cannot write ../no/such/r"),
    ],
)
def test_what_cannot_be_watched_is_said_before_a_connection(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    model = [] if "--attach" in words else ["--model", "m"]
    assert main(["infer", *model, *words]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert [*tmp_path.iterdir(), *here.iterdir()] == [here]


def test_two_commands_do_not_share_an_output(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "r.jsonl")
    with pytest.raises(UsageError, match="another command watches with this output"):
        Ledger(tmp_path / "r.jsonl")
    ledger.close()
    (tmp_path / "r.jsonl.watch").write_text("mine")
    with pytest.raises(UsageError, match="no record of infer --watch"):
        Ledger(tmp_path / "r.jsonl")


def test_a_job_that_has_ended_for_want_of_its_command_is_followed_by_another(
    head: Head, camera: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "r.jsonl"

    def script() -> None:
        picture(camera / "0.png")
        until(lambda: len(named(output)) == 1)
        (first,) = head.jobs
        head.place.own(first).joinpath("run", "end").touch()
        until(lambda: len(head.jobs) == 2)
        head.run(next(job for job in head.jobs if job != first))
        picture(camera / "1.png")
        until(lambda: len(named(output)) == 2)

    assert command(head, script, "--watch", str(camera), "--output", str(output)) == 130
    assert [(line["input"], line["index"]) for line in lines(output)] == [("0.png", 0), ("1.png", 1)]
    assert "has ended, as it heard nothing" in " ".join(capsys.readouterr().err.split())


def test_other_commands_say_what_an_open_job_is(
    head: Head, camera: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = ["infer", "--model", "m", "--watch", f"head:{tmp_path}/gone", "--output", str(tmp_path / "r")]
    assert main(gone) == 2
    assert f"cannot read the folder {tmp_path}/gone on the head: No such file" in " ".join(
        capsys.readouterr().err.split()
    )
    job = head.place.jobs.open(infer.plan_of(), str(camera), None, top=3)  # type: ignore[call-arg]
    for words, said in (
        (["infer", "--attach", job], "stays open for inputs"),
        (["job", "results", job], "go to the command that watches"),
        (["job", "show", job], f"0 done, 0 left, from {camera}"),
        (["job", "list"], "starting"),
    ):
        status = main(words)
        shown = capsys.readouterr()
        assert (status, said in " ".join((shown.err + shown.out).split())) == (
            0 if words[0] == "job" and "results" not in words else 2,
            True,
        )


def test_a_full_disk_here_ends_the_command_and_loses_nothing(
    head: Head, camera: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "r.jsonl"
    picture(camera / "0.png")

    def full(self: Any, *_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "store", full)
        threading.Thread(target=lambda: (until(lambda: head.jobs), head.run(head.jobs[0])), daemon=True).start()
        assert main(["infer", "--model", "m", "--watch", str(camera), "--output", str(output)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{output}: cannot write it: No space left on device nothing is lost; to go on: clusteradm infer" in said

    def script() -> None:
        until(lambda: len(named(output)) == 1)

    assert command(head, script, "--watch", str(camera), "--output", str(output), start=False) in (130,)
    assert named(output) == ["0.png"] and len(head.jobs) == 1


def test_a_second_ctrl_c_cancels_and_what_has_no_result_is_taken_the_next_time(
    head: Head, camera: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first by SIGTERM, as of a service that is stopped; no rank works here, so that its wait has no end."""
    output = tmp_path / "r.jsonl"
    picture(camera / "0.png")

    def interrupt() -> None:
        until(lambda: head.jobs)
        feed = Feed("", str(head.place.own(head.jobs[0]) / "run"))
        until(feed.waiting)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)
        until(feed.ended)
        time.sleep(0.2)

    assert command(head, interrupt, "--watch", str(camera), "--output", str(output), start=False) == 130
    said = " ".join(capsys.readouterr().err.split())
    assert "no more files are taken" in said and "files without a result are taken the next time" in said
    (job,) = head.jobs
    assert head.place.jobs.show(job).status.state == "cancelled"
    assert command(head, lambda: until(lambda: named(output)), "--watch", str(camera), "--output", str(output)) == 130
    assert named(output) == ["0.png"]


def test_pictures_are_drawn_as_their_results_come_and_none_that_has_changed(
    head: Head, camera: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output, drawn = tmp_path / "r.jsonl", tmp_path / "drawn"
    words = ("--watch", str(camera), "--output", str(output), "--annotate", str(drawn))
    (camera / "deep").mkdir()
    picture(camera / "deep" / "a.png")
    np.save(camera / "rows.npy", np.zeros((2, 28, 28), np.uint8))
    collect = Jobs.collect

    def script() -> None:
        until(lambda: sorted(path.name[7:] for path in drawn.iterdir()) == ["a.jpg"])
        until(lambda: len(lines(output)) == 3)

        def late(*args: Any, **more: Any) -> Any:
            answer = collect(*args, **more)
            if answer.batch is not None:
                picture(camera / "latest.png", 99)  # as a camera does that has one file
                os.utime(camera / "latest.png", ns=(5, 5))
            return answer

        with monkeypatch.context() as patch:
            patch.setattr(Jobs, "collect", late)
            picture(camera / "latest.png", 1)
            until(lambda: len(lines(output)) == 4)
        until(lambda: len(lines(output)) == 5)

    assert command(head, script, *words, "--json") == 130
    shown = capsys.readouterr()
    assert "not drawn: latest.png: " in " ".join(shown.err.split())
    assert json.loads(shown.out)["drawn"] == 2
    assert sorted(path.name[7:] for path in drawn.iterdir()) == ["a.jpg", "latest.jpg"]
    assert (drawn / "000004-latest.jpg").exists()


def test_what_comes_is_ranked_by_its_similarity_to_a_file(
    head: Head, camera: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file's vector is found once, by a job that is gone then."""
    output = tmp_path / "r.jsonl"
    plan = infer.plan_of()  # type: ignore[call-arg]
    embedding = replace(plan, model=replace(plan.model, task="embedding"), top=0)
    monkeypatch.setattr(infer, "plan_of", lambda *_: embedding)
    active = head.place.head_says / "active"
    remove = Jobs.remove

    def remove_ended(self: Jobs, job: str) -> None:
        active.write_text("inactive")
        try:
            remove(self, job)
        finally:
            active.unlink()

    monkeypatch.setattr(Jobs, "remove", remove_ended)
    picture(tmp_path / "me.png", 200)
    for number, value in enumerate((0, 200, 100)):
        picture(camera / f"{number}.png", value)
    words = ("--watch", str(camera), "--output", str(output), "--similar", str(tmp_path / "me.png"))

    def script() -> None:
        (first,) = head.running
        until(lambda: [job for job in head.jobs if job != first])
        head.run(next(job for job in head.jobs if job != first))
        until(lambda: len(lines(output)) == 3)

    assert command(head, script, *words, "--json") == 130
    shown = capsys.readouterr()
    found = json.loads(shown.out)["similar"]
    assert {"input": "1.png", "index": named(output).index("1.png"), "similarity": 1.0} in found
    assert [one["similarity"] for one in found] == sorted((one["similarity"] for one in found), reverse=True)
    assert {line["index"]: line["similarity"] for line in lines(output)} == {
        one["index"]: one["similarity"] for one in found
    }
    assert "the most similar so far: " in shown.err
    assert len(head.jobs) == 1
    picture(camera / "3.png", 200)
    jobs = set(head.jobs)
    assert command(head, lambda: until(lambda: len(lines(output)) == 4), *words) == 130
    assert len(set(head.jobs) - jobs) == 1
    assert lines(output)[3]["similarity"] == 1.0 and re.search(r"1\.0000 +3\.png", capsys.readouterr().out)


def test_results_of_one_form_are_in_an_output(
    head: Head, camera: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "r"
    words = ("--watch", str(camera), "--output", str(output))
    picture(camera / "0.png")
    csv = ("--format", "csv")
    assert command(head, lambda: until(lambda: output.exists() and output.stat().st_size), *words, *csv) == 130
    assert main(["infer", "--model", "digits", *words]) == 2
    assert "has results of --format csv" in " ".join(capsys.readouterr().err.split())
    picture(tmp_path / "me.png")
    assert main(["infer", "--model", "digits", *words, *csv, "--similar", str(tmp_path / "me.png")]) == 2
    assert "has results of --format csv without --similar" in " ".join(capsys.readouterr().err.split())
