"""Pipelines: rank 0 and stages as they are, on the CPU, over shared memory and over bridges; only MPI is played."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clusteradm.models.split.split import split
from clusteradm.models.tflite.inspect import inspect
from clusteradm.node.job import attendance, dispatcher, files, handing, journal, plan, worker
from clusteradm.node.job import bridge as bridges
from clusteradm.node.job import channel as channels
from clusteradm.node.job.activations import Gone, Reader, address, read_head
from clusteradm.node.job.channel import Message
from clusteradm.node.job.pipelines import anew, assignments
from clusteradm.node.job.process import Process
from clusteradm.node.job.stage_keeper import StageKeeper
from clusteradm.node.spec import pipelines
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.decode import decode
from clusteradm.node.spec.wire.job import Assignment, InputForm, ModelFile, Progress, RankPlace, Slot, StoredSpec
from clusteradm.node.spec.wire.pipeline import Pipeline, SegmentFile

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "tflite"
DIGITS = Path(__file__).resolve().parents[3] / "clusteradm" / "lab" / "digits" / "digits.tflite"
INPUTS = 60


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

    def patience(self, longest: float) -> float:
        return longest

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


@pytest.fixture(autouse=True)
def quick_switches() -> Iterator[None]:
    """Of threads, as rank.work has them: here all ranks share one lock of Python."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)
    yield
    sys.setswitchinterval(before)


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


class Falters(Channel):
    """Ranks of which some fail once they have answered so often, each by its own word."""

    failing: tuple[int, ...] = ()
    after = 1

    def send(self, rank: int, tag: int, body: Any = None) -> None:
        if tag == channels.RESULT and self.rank in self.failing:
            self.after -= 1
            if self.after <= 0:
                super().send(0, channels.FAILED, {"error": "the TPU has fallen off the bus", "tpu": True})
                return
        super().send(rank, tag, body)


def test_a_stage_that_fails_leaves_its_pipeline_out_and_the_others_go_on(job: Path, tmp_path: Path) -> None:
    class Second(Falters):
        failing = (2,)

    progress = run(job, model_of(tmp_path, DIGITS, 3, 3), stages(3, 2), kind=Second)
    assert (progress.done, len(results(job))) == (INPUTS, INPUTS)
    assert [(rank.state, rank.fault) for rank in progress.ranks] == [
        ("failed", "partner"),
        ("failed", "tpu"),
        ("failed", "partner"),
        *[("ready", None)] * 3,
    ]
    why = f"another stage of its pipeline fails, rank 2 ({socket.gethostname()} CPU): the TPU has fallen off the bus"
    assert [rank.error for rank in progress.ranks[:3]] == [why, "the TPU has fallen off the bus", why]


def test_what_the_only_pipeline_did_not_do_another_attempt_does(job: Path, tmp_path: Path) -> None:
    class Last(Falters):
        failing = (3,)
        after = 3

    model = model_of(tmp_path, DIGITS, 3, 3)
    first = run(job, model, stages(3), kind=Last)
    assert 0 < first.done < INPUTS and {rank.state for rank in first.ranks} == {"failed"}
    assert run(job, model, stages(3), attempt=2).done == INPUTS
    done = [result["i"] for line in files.read_lines(str(job / job_names.JOURNAL)) for result in line["results"]]
    assert sorted(done) == list(range(INPUTS))


def test_an_input_that_ends_two_pipelines_is_an_error_and_the_third_does_the_rest(job: Path, tmp_path: Path) -> None:
    class Wedges(Channel):
        """The first stage, whose TPU does not come through input 7."""

        def receive(self) -> Message:
            message = super().receive()
            if message.tag == channels.CHUNK and 7 in [piece[0] for piece in json.loads(message.body["inputs"])]:
                self.send(0, channels.FAILED, {"error": "the TPU hangs", "suspects": [7]})
                return Message(0, channels.STOP, None)
            return message

    progress = run(job, model_of(tmp_path, DIGITS, 2, 3), stages(2, 3), kind=Wedges)
    assert (progress.done, progress.errors) == (INPUTS, 2)
    assert results(job)[7]["error"] == "two ranks failed with it, the second as: the TPU hangs"
    assert sorted(rank.state for rank in progress.ranks) == [*["failed"] * 4, "ready", "ready"]


def test_only_the_last_stage_gives_results(job: Path, tmp_path: Path) -> None:
    class Hasty(Channel):
        """A first stage that says what only the last can know."""

        def send(self, rank: int, tag: int, body: Any = None) -> None:
            if tag == channels.RESULT and self.rank == 1:
                body = {**body, "results": channels.text([{"i": 0, "top": [[9, 1.0]]}])}
            super().send(rank, tag, body)

    model = model_of(tmp_path, DIGITS, 2, 3)
    run(job, model, stages(2), kind=Hasty)
    found = results(job)
    (job / job_names.JOURNAL).unlink()
    run(job, model, stages(2), attempt=2)
    assert results(job) == found


def test_a_stage_that_is_silent_ends_its_pipeline(job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attendance, "SILENT_SECONDS", 3.0)
    aborted: list[int] = []

    class Silent(Channel):
        """Ranks that say that they live, but for one, from its first word on."""

        said = 0.0

        def receive(self) -> Message:
            threading.Thread(target=self._live, daemon=True).start()
            return super().receive()

        def _live(self) -> None:
            while self.rank != 4 and not self.said:
                Channel.send(self, 0, channels.ALIVE)
                time.sleep(0.1)

        def send(self, rank: int, tag: int, body: Any = None) -> None:
            if self.rank == 4 and tag == channels.RESULT:
                return
            if tag == channels.STOP:
                self.said = 1.0
            super().send(rank, tag, body)

        def abort(self) -> None:
            aborted.append(self.rank)

    progress = run(job, model_of(tmp_path, DIGITS, 2, 3), stages(2, 2), kind=Silent)
    assert progress.done == INPUTS
    assert [(rank.state, rank.fault) for rank in progress.ranks] == [
        *[("ready", None)] * 2,
        ("failed", "partner"),
        ("failed", "silent"),
    ]
    assert aborted == [0]  # MPI itself would wait


def test_the_places_of_a_job_are_those_that_its_pipelines_may_take() -> None:
    segment = SegmentFile("", "", (), ())
    model = ModelFile("m", 1, "", "", InputForm("uint8", (1,)), pipeline=Pipeline((segment, segment), ()))
    spec = StoredSpec(model, "head", tuple(slots(3, 2)), None, 1, "python3", "20260101-000000-abcdef", 1, "/j")
    assert [rank.pipeline for rank in plan.ranks(spec, spec.slots)] == [0, 0, 1, 1]
    # What is left over takes the place of another: no other job is to have it.
    assert len(plan.wanted(spec)) == 5
    spec.ranks = 3
    assert [(rank.host, rank.pipeline) for rank in plan.wanted(spec)] == [("w0", 0), ("w0", 0)]
    assert plan.ranks(spec, slots(1)) == []


def test_each_stage_is_told_its_neighbours_and_which_of_them_are_near(tmp_path: Path) -> None:
    model = model_of(tmp_path, DIGITS, 3, 3)
    spec = StoredSpec(model, "head", (), None, 1, "python3", "20260101-000000-abcdef", 1, "/srv/jobs/J")
    ranks = pipelines.place(slots(2, 1), 3)
    told = list(assignments(spec, 4, ranks))
    assert [vars(one.stage) for one in told if one.stage] == [
        {"number": 0, "before": None, "after": 2, "near": (2,), "link": "J/4", "turn": 0},
        {"number": 1, "before": 1, "after": 3, "near": (1,), "link": "J/4", "turn": 0},
        {"number": 2, "before": 2, "after": None, "near": (), "link": "J/4", "turn": 0},
    ]
    twice = anew(anew(told[1])).stage
    assert twice is not None and (twice.turn, twice.link, twice.near) == (2, "J/4.2", (1,))
    assert [one.model.sha256 for one in told] == [one.sha256 for one in model.pipeline.stages]  # type: ignore[union-attr]
    assert [one.here for one in told] == [2, 2, 1]


WORKER = """
import sys
from clusteradm.node.job import rank
rank.work(int(sys.argv[1]))
"""


class Kept:
    """A keeper of the first stage with a real process; the test is the stage after it, and rank 0."""

    def __init__(self, job: Path, model: ModelFile) -> None:
        spec = fill(job, model, 1, stages(2), 3)
        self.assignment = next(iter(assignments(spec, 1, stages(2))))
        self.world = World(2)
        first = channels.read(0, channels.BEGIN, json.dumps(self.assignment, default=vars).encode())
        assert self.assignment.stage is not None and model.pipeline is not None
        gives = handing.layouts(model.pipeline, self.assignment.stage)[1]
        assert gives is not None
        self.reader = Reader(address(self.assignment.stage.link, 2), gives)
        words = [sys.executable, "-c", WORKER]
        self.process = Process(words)
        channel: Any = Channel(1, self.world)
        self.keeper = StageKeeper(channel, words, self.process, first)
        self.thread = threading.Thread(target=self.keeper.run, daemon=True)
        self.thread.start()

    def next(self) -> Message:
        while (message := self.world.inboxes[0].get(timeout=60)).tag == channels.ALIVE:
            pass
        return message


def test_a_stage_whose_process_is_killed_says_so_and_names_no_tpu(job: Path, tmp_path: Path) -> None:
    kept = Kept(job, model_of(tmp_path, DIGITS, 2, 3))
    assert kept.next().tag == channels.READY
    rows = list(files.read_lines(str(job.parent / "own" / job.name / job_names.RUN / job_names.INPUTS)))
    pieces = [[number, row["offset"], row["size"], row["form"]] for number, row in enumerate(rows)]
    chunk = {"chunk": 1, "size": 4, "inputs": channels.text(pieces[14:18])}
    Channel(0, kept.world).send(1, channels.CHUNK, chunk)
    heads = []
    for _ in range(4):
        found = kept.reader.read()
        assert found is not None
        heads.append(read_head(found[1]))
        kept.reader.free(found[0])
    assert sorted((head.chunk, head.of, head.input, head.error) for head in heads) == [
        (1, 4, 14, None),
        (1, 4, 15, None),
        (1, 4, 16, None),
        (1, 4, 17, "no such row"),
    ]
    answer = kept.next()
    assert (answer.tag, answer.body["chunk"], answer.body["results"]) == (channels.RESULT, 1, "[]")
    os.kill(kept.process._process.pid, signal.SIGKILL)
    failed = kept.next()
    assert failed.tag == channels.FAILED
    assert "was killed by SIGKILL" in failed.body["error"] and failed.body["tpu"] is False
    Channel(0, kept.world).send(1, channels.STOP)
    kept.thread.join(20)
    assert not kept.thread.is_alive()
    kept.reader.close()


class Mortal(Channel):
    """A rank whose worker process is killed where its kind says."""

    keeper: StageKeeper

    def die(self) -> None:
        os.kill(self.keeper._process._process.pid, signal.SIGKILL)


class AfterAnswers(Mortal):
    """One stage dies twice, when it has done a chunk: others are under way then, from it and to it."""

    dying = 2
    answers = 0

    def send(self, rank: int, tag: int, body: Any = None) -> None:
        super().send(rank, tag, body)
        if tag == channels.RESULT and self.rank == self.dying:
            self.answers += 1
            if self.answers in (1, 3):
                self.die()


class FirstAfterAnswers(AfterAnswers):
    dying = 1


class Poisoned(Mortal):
    """The first stage dies of input 7, also alone."""

    def poll(self) -> Message | None:
        message = super().poll()
        chunk = json.loads(message.body["inputs"]) if message is not None and message.tag == channels.CHUNK else []
        if self.rank == 1 and 7 in [piece[0] for piece in chunk]:
            self.keeper._process.pulse.decode(0, 7)
            self.die()
        return message


def run_kept(job: Path, model: ModelFile, kind: type[Mortal]) -> Progress:
    """As `run`, of one pipeline with keepers and processes as they are."""
    ranks = stages(len(model.pipeline.stages) if model.pipeline else 1)
    spec = fill(job, model, 1, ranks, 3)
    world = World(len(ranks))
    words = [sys.executable, "-c", WORKER]
    threads = []
    for told in dispatcher.assignments(spec, 1, ranks):
        channel = kind(told.place.rank, world)
        first = channels.read(0, channels.BEGIN, json.dumps(told, default=vars).encode())
        channel.keeper = StageKeeper(channel, words, Process(words), first)  # type: ignore[arg-type]
        threads.append(threading.Thread(target=channel.keeper.run, daemon=True))

    class Rank0(Channel):
        begun = 0

        def send(self, rank: int, tag: int, body: Any = None) -> None:
            self.begun += tag == channels.BEGIN
            if tag != channels.BEGIN or self.begun > len(ranks):  # the first are there already
                super().send(rank, tag, body)

    for thread in threads:
        thread.start()
    own = job.parent / "own" / job.name
    dispatcher.dispatch(str(own), 1, Rank0(0, world))  # type: ignore[arg-type]
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    progress = files.read(Progress, str(own / job_names.RUN / job_names.PROGRESS))
    assert progress is not None
    return progress


@pytest.mark.parametrize(
    ("kind", "near", "errors"), [(AfterAnswers, True, 1), (FirstAfterAnswers, False, 1), (Poisoned, True, 2)]
)
def test_a_pipeline_begins_anew_where_a_stage_dies_and_nothing_is_lost_or_doubled(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Mortal], near: bool, errors: int
) -> None:
    model = model_of(tmp_path, DIGITS, 2, 3)

    def apart(*about: Any) -> Iterator[Any]:
        for told in assignments(*about):
            assert told.stage is not None
            yield replace(told, stage=replace(told.stage, near=()))

    with monkeypatch.context() as patch:
        if not near:
            patch.setattr(dispatcher, "assignments", apart)
        progress = run_kept(job, model, kind)
    found = results(job)
    delivered = [result["i"] for line in files.read_lines(str(job / job_names.JOURNAL)) for result in line["results"]]
    assert sorted(delivered) == list(range(INPUTS))
    assert (progress.done, progress.errors) == (INPUTS, errors)
    assert [rank.error for rank in progress.ranks] == [None] * 2
    assert kind is Poisoned or progress.ranks[0].busy > 0
    (job / job_names.JOURNAL).unlink()
    run(job, model, stages(2), attempt=2)
    expected = results(job)
    if kind is Poisoned:
        assert found[7]["error"].startswith("the model fails on it, twice: its process was killed by SIGKILL")
        expected[7] = found[7]
    assert found == expected


def test_a_pipeline_that_never_answers_begins_anew_no_more_than_so_often(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what a rank says of an earlier turn is not of this one."""
    world, ranks = World(2), stages(2)
    fill(job, model_of(tmp_path, DIGITS, 2, 3), 1, ranks, 3)

    def rank(number: int) -> None:
        end = Channel(number, world)
        while (message := end.receive()).tag != channels.STOP:
            if message.tag == channels.BEGIN:
                turn = message.body["stage"]["turn"]
                end.send(0, channels.READY, {"version": "v", "turn": turn - 1})
                end.send(0, channels.FAILED, {"error": "of before", "turn": turn - 1})
                end.send(0, channels.READY, {"version": "v", "turn": turn})
            elif message.tag == channels.CHUNK:
                end.send(0, channels.FAILED, {"error": "its process ended", "again": True, "turn": turn})

    threads = [threading.Thread(target=rank, args=(number,), daemon=True) for number in (1, 2)]
    for thread in threads:
        thread.start()
    own = job.parent / "own" / job.name
    dispatcher.dispatch(str(own), 1, Channel(0, world))  # type: ignore[arg-type]
    progress = files.read(Progress, str(own / job_names.RUN / job_names.PROGRESS))
    assert progress is not None and progress.done == 0
    assert (progress.ranks[0].state, progress.ranks[0].error) == ("failed", "its process ended")
