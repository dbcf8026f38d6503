"""infer --watch: what comes into a folder is a result once, by a head of this machine; MPI and systemd are played."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clusteradm.cli import context, infer
from clusteradm.cli.main import main
from clusteradm.jobs import Plan
from clusteradm.jobs import watching as clients
from clusteradm.jobs.slots import Slots
from clusteradm.node.job import attendance, files, taking, worker
from clusteradm.node.job.dispatcher import dispatch
from clusteradm.node.job.taking import Taking
from clusteradm.node.spec.watching import files as whole
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.job import InputForm, ModelFile, Progress, Slot, Status, StoredSpec

from .test_ranks import Channel

DIGITS = Path(__file__).resolve().parents[3] / "clusteradm" / "lab" / "digits" / "digits.tflite"
PATIENCE = 60.0


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
        folder = self.place.state / "jobs"
        return (
            sorted(path.name for path in folder.iterdir() if (path / "spec.json").exists()) if folder.exists() else []
        )

    def run(self, job: str) -> None:
        """An attempt until the job is complete, or `recall`ed."""
        own = self.place.own(job)
        spec = files.read(StoredSpec, str(own / "spec.json"))
        assert spec is not None and spec.watch is not None
        if job not in self.takers:
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
            if not taking.waits(str(own / "run")):
                status = Status("complete", spec.model, 5, 0, 1.0, images=self.progress(job).done)
                files.write_json(str(own / "run" / "status.json"), status)

        self.running[job] = threading.Thread(target=attempt, daemon=True)
        self.running[job].start()

    def recall(self, job: str) -> None:
        """End the attempt, as a fault would."""
        mark = self.place.own(job) / "run" / "recall"
        mark.touch()
        self.running[job].join(PATIENCE)
        mark.unlink()

    def progress(self, job: str) -> Progress:
        progress = files.read(Progress, str(self.place.own(job) / "run" / "progress.json"))
        assert progress is not None
        return progress

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
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    status = main(["infer", "--model", "digits", *words])
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
