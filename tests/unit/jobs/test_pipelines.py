"""Pipelines: rank 0 and stages as they are, on the CPU, over shared memory and over bridges; only MPI is played."""

from __future__ import annotations

import hashlib
import json
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clusteradm.models.split.split import split
from clusteradm.models.tflite.inspect import inspect
from clusteradm.node.job import bridge as bridges
from clusteradm.node.job import channel as channels
from clusteradm.node.job import dispatcher, files, journal, worker
from clusteradm.node.job.activations import Gone
from clusteradm.node.job.channel import Message
from clusteradm.node.spec import pipelines
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.decode import decode
from clusteradm.node.spec.wire.job import Assignment, InputForm, ModelFile, Progress, RankPlace, Slot, StoredSpec
from clusteradm.node.spec.wire.pipeline import Pipeline, SegmentFile

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "tflite"
DIGITS = Path(__file__).resolve().parents[3] / "clusteradm" / "lab" / "digits" / "digits.tflite"
INPUTS = 150


def slots(*counts: int) -> list[Slot]:
    return [Slot(f"w{n}", tuple(f"0000:0{tpu}:00.0" for tpu in range(count))) for n, count in enumerate(counts)]


def placed(counts: tuple[int, ...], stages: int, most: int | None = None) -> dict[int, list[str]]:
    """By pipeline, the hosts of its stages; the ranks are numbered as mpirun maps them."""
    ranks = pipelines.place(slots(*counts), stages, most)
    assert [rank.rank for rank in ranks] == list(range(1, len(ranks) + 1))
    assert [rank.host for rank in ranks] == sorted(rank.host for rank in ranks)
    found: dict[int, dict[int, str]] = {}
    for rank in ranks:
        assert rank.pipeline is not None
        found.setdefault(rank.pipeline, {})[rank.stage] = rank.host
    return {number: [members[stage] for stage in range(stages)] for number, members in sorted(found.items())}


@pytest.mark.parametrize(
    ("counts", "stages", "most", "hosts"),
    [
        ((2, 2), 2, None, {0: ["w0", "w0"], 1: ["w1", "w1"]}),
        ((1, 1, 1), 2, None, {0: ["w0", "w1"]}),
        ((8,), 3, None, {0: ["w0"] * 3, 1: ["w0"] * 3}),
        # Those that fit on one host first, the rest by neighbours.
        ((3, 2, 1), 2, None, {0: ["w0", "w0"], 1: ["w1", "w1"], 2: ["w0", "w2"]}),
        ((1, 4), 2, 3, {0: ["w1", "w1"]}),
        ((1, 4), 2, 4, {0: ["w1", "w1"], 1: ["w1", "w1"]}),
        ((1, 1), 3, None, {}),
        ((4,), 2, 1, {}),
    ],
)
def test_pipelines_are_of_one_host_where_that_goes(
    counts: tuple[int, ...], stages: int, most: int | None, hosts: dict[int, list[str]]
) -> None:
    assert placed(counts, stages, most) == hosts


def test_what_is_left_over_is_named() -> None:
    given = slots(3, 2)
    assert pipelines.left_over(given, pipelines.place(given, 2)) == [("w0", "0000:02:00.0")]


def model_of(folder: Path, source: Path, count: int, top: int | None) -> ModelFile:
    """The model in so many segments, as a job has it."""
    whole = inspect(source.read_bytes(), source.name)
    stages = []
    for piece in split(source, count, "operations", folder).pieces:
        data = piece.path.read_bytes()
        part = inspect(data, piece.path.name)
        stages.append(SegmentFile(str(piece.path), hashlib.sha256(data).hexdigest(), part.inputs, part.outputs))
    one = whole.inputs[0]
    form = InputForm(one.dtype, one.shape, one.scale, one.zero_point)
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    return ModelFile("m", 1, str(source), sha256, form, pipeline=Pipeline(tuple(stages), whole.outputs))


class World:
    """What MPI is to the ranks, over queues: messages, and activations beside them."""

    def __init__(self, ranks: int) -> None:
        self.inboxes: list[queue.Queue[Message]] = [queue.Queue() for _ in range(ranks + 1)]
        self.data: dict[tuple[int, int], queue.Queue[bytes]] = {}

    def between(self, sender: int, to: int) -> queue.Queue[bytes]:
        return self.data.setdefault((sender, to), queue.Queue())


class Channel:
    """One rank of it."""

    def __init__(self, rank: int, world: World) -> None:
        self.rank, self.world = rank, world

    def send(self, rank: int, tag: int, body: Any = None) -> None:
        self.world.inboxes[rank].put(channels.read(self.rank, tag, json.dumps(body, default=vars).encode()))

    def poll(self) -> Message | None:
        try:
            return self.world.inboxes[self.rank].get_nowait()
        except queue.Empty:
            return None

    def receive(self) -> Message:
        return self.world.inboxes[self.rank].get()

    def post(self, rank: int, data: bytes) -> Callable[[], bool]:
        self.world.between(self.rank, rank).put(data)
        return lambda: True

    def fetch(self, rank: int, most: int) -> tuple[bytearray, Callable[[], bool]] | None:
        try:
            return bytearray(self.world.between(rank, self.rank).get_nowait()[:most]), lambda: True
        except queue.Empty:
            return None

    def abort(self) -> None:
        pass


class Bridged(Channel):
    """A rank with the bridges that its keeper would have."""

    bridging = True

    def receive(self) -> Message:
        message = super().receive()
        if message.tag == channels.BEGIN:
            for bridge in bridges.bridges(self, decode(Assignment, message.body)):  # type: ignore[arg-type]
                threading.Thread(target=self.turn, args=(bridge,), daemon=True).start()
        return message

    def turn(self, bridge: Any) -> None:
        try:
            while self.bridging:
                bridge.turn()
                time.sleep(0.001)
        except Gone:
            pass


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """The folder of a job of random arrays, one of which is none."""
    folder = tmp_path / f"20260101-000000-{secrets.token_hex(3)}"  # as its sockets are all processes'
    folder.mkdir()
    (tmp_path / "own" / folder.name / job_names.RUN).mkdir(parents=True)
    return folder


def fill(job: Path, model: ModelFile, attempt: int, ranks: list[RankPlace], top: int) -> StoredSpec:
    own = job.parent / "own" / job.name
    shape, kind = model.input.shape, np.dtype(model.input.dtype)
    if not (job / job_names.PACK).exists():
        chance = np.random.default_rng(7)
        rows, size = [], int(np.prod(shape)) * kind.itemsize
        with (job / job_names.PACK).open("wb") as file:
            for number in range(INPUTS):
                values = chance.integers(0, 256, shape).astype(kind)
                form: Any = [str(kind), list(shape)] if number != 17 else {"error": "no such row"}
                rows.append({"input": f"r{number:03}", "offset": file.tell(), "size": size, "form": form})
                file.write(values.tobytes())
        (own / job_names.RUN / job_names.INPUTS).write_text("".join(map(files.line, rows)))
    spec = StoredSpec(model, "head", (), None, top, "python3", job.name, INPUTS, str(job))
    files.write_json(str(own / job_names.SPEC), spec)
    plan = {"attempt": attempt, "ranks": [vars(rank) for rank in ranks]}
    files.write_json(str(own / job_names.RUN / (job_names.ATTEMPT % attempt)), plan)
    return spec


def run(
    job: Path,
    model: ModelFile,
    ranks: list[RankPlace],
    attempt: int = 1,
    top: int = 3,
    kind: type[Channel] = Channel,
) -> Progress:
    """One attempt; the last progress that rank 0 wrote."""
    own = job.parent / "own" / job.name
    fill(job, model, attempt, ranks, top)
    world = World(len(ranks))
    ends = [kind(rank.rank, world) for rank in ranks]
    threads = [threading.Thread(target=worker.work, args=(each,), daemon=True) for each in ends]
    for thread in threads:
        thread.start()
    dispatcher.dispatch(str(own), attempt, kind(0, world))  # type: ignore[arg-type]
    for each, thread in zip(ends, threads, strict=True):
        thread.join(60)
        assert not thread.is_alive()
        if isinstance(each, Bridged):
            each.bridging = False
    progress = files.read(Progress, str(own / job_names.RUN / job_names.PROGRESS))
    assert progress is not None
    return progress


def results(job: Path) -> list[Any]:
    index = job.parent / "own" / job.name / job_names.RUN / job_names.INPUTS
    journal.finish(str(job), str(index), [])
    return [json.loads(line) for line in (job / job_names.RESULTS).read_text().splitlines()]


def stages(count: int, pipelines: int = 1, hosts: Callable[[int], str] | None = None) -> list[RankPlace]:
    """The places of so many pipelines on this host."""
    here = socket.gethostname()
    every = [(pipeline, stage) for pipeline in range(pipelines) for stage in range(count)]
    return [
        RankPlace(number, hosts(stage) if hosts else here, None, pipeline, stage)
        for number, (pipeline, stage) in enumerate(every, 1)
    ]


@pytest.mark.parametrize(("source", "count", "top"), [(DIGITS, 3, 3), (FIXTURES / "detector.tflite", 4, 0)])
@pytest.mark.parametrize("ways", [1, 2])
def test_results_are_those_of_the_whole_model(
    source: Path, count: int, top: int, ways: int, job: Path, tmp_path: Path
) -> None:
    model = model_of(tmp_path, source, count, top)
    progress = run(job, model, stages(count, ways), top=top)
    found = results(job)
    delivered = [result["i"] for line in files.read_lines(str(job / job_names.JOURNAL)) for result in line["results"]]
    assert sorted(delivered) == list(range(INPUTS))
    assert (progress.phase, progress.done, progress.errors) == ("finished", INPUTS, 1)
    assert [rank.images > 0 for rank in progress.ranks] == [rank.stage == count - 1 for rank in progress.ranks]
    assert all(rank.busy > 0 and rank.state == "ready" for rank in progress.ranks)
    assert "no such row" in found[17]["error"]
    (job / job_names.JOURNAL).unlink()
    model.pipeline = None
    run(job, model, [RankPlace(1, socket.gethostname(), None)], top=top)
    assert results(job) == found


def test_over_bridges_they_are_the_same(job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stage on a host of its own, as it is told."""
    monkeypatch.setattr(socket, "gethostname", lambda: "w0")
    model = model_of(tmp_path, DIGITS, 3, 3)
    near = run(job, model, stages(3))
    found = results(job)
    (job / job_names.JOURNAL).unlink()

    class Apart(Bridged):
        def receive(self) -> Message:
            message = Channel.receive(self)
            if message.tag == channels.BEGIN:
                message.body["stage"]["near"] = []
                self.world.inboxes[self.rank].put(message)
                return super().receive()
            return message

    far = run(job, model, stages(3), attempt=2, kind=Apart)
    assert results(job) == found
    assert near.done == far.done == INPUTS
