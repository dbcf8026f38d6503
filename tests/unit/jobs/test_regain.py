"""What a job does without is looked at, and taken back where that is worth another attempt."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

import pytest

from clusteradm.node.job import regain
from clusteradm.node.job.regain import Regain
from clusteradm.node.spec.wire.job import InputForm, ModelFile, Progress, RankProgress, Slot, StoredSpec, Watching
from clusteradm.node.spec.wire.pipeline import Pipeline, SegmentFile

A, B = "0000:01:00.0", "0000:02:00.0"
MODEL = ModelFile("m", 1, "/srv/m.tflite", "0", InputForm("uint8", (1,)))
SPEC = StoredSpec(
    MODEL, "head", (Slot("w1", (A, B)), Slot("w2", (A,))), None, 1, "python3", "20260101-000000-abcdef", 9, "/j"
)
TOTAL = 100_000
PAIRS = (("w1", A), ("w1", B), ("w3", A), ("w3", B))


class Looks:
    """The looks that were begun; `well`: the hosts that are, by now."""

    def __init__(self, words: list[str], well: set[str]) -> None:
        self.words, self.well, self.pid = words, well, 0

    def poll(self) -> int | None:
        return 0 if any(host in " ".join(self.words) for host in self.well) else 255


class Job:
    """An attempt, of which rank 0 writes twice a second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, spec: StoredSpec = SPEC) -> None:
        self.now, self.done, self.well = 100.0, 0, set[str]()
        self.looks: list[list[str]] = []
        monkeypatch.setattr(regain.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(regain.subprocess, "Popen", self._look)
        self.spec, self.regain = spec, Regain(spec)
        self.ranks = [RankProgress(1, "w1", A), RankProgress(2, "w1", B), RankProgress(3, "w2", A)]
        for rank in self.ranks:
            rank.state = "ready"
        self.regain.begin()

    def _look(self, words: list[str], **_: Any) -> Looks:
        self.looks.append(words)
        return Looks(words, self.well)

    def lose(self, number: int, fault: str = "silent") -> None:
        rank = self.ranks[number - 1]
        rank.state, rank.fault, rank.error = "failed", fault, "the inference did not end"

    def passes(self, seconds: float, rate: float = 300.0) -> str | None:
        found = None
        for _ in range(round(seconds * 2)):
            self.now, self.done = self.now + 0.5, self.done + int(rate / 2)
            ranks = tuple(self.ranks)
            progress = Progress(1, "running", TOTAL, self.done, 0, 1.0, 1.0, self.now, ranks)
            found = found or self.regain.due(progress, 2.0)
        return found


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Job:
    return Job(monkeypatch)


def test_nothing_is_looked_at_while_all_work(job: Job) -> None:
    assert job.passes(20) is None and job.looks == []


def test_a_host_that_is_well_again_is_taken_back(job: Job) -> None:
    job.passes(5)
    job.lose(3)
    assert job.passes(20) is None
    assert len(job.looks) > 3 and all(words[-2] == "w2" for words in job.looks), "again and again"
    job.well = {"w2"}
    assert job.passes(6) == f"w2 {A}"


def test_it_is_not_for_what_is_as_good_as_done(job: Job) -> None:
    job.done = TOTAL - 4000
    job.lose(3)
    job.well = {"w2"}
    assert job.passes(10) is None, "4,000 inputs at 300/s with a third more: 4 s saved, for 4 s lost"


def test_a_tpu_that_failed_by_itself_is_left_out_until_the_model_runs_on_it(job: Job) -> None:
    job.lose(2, "tpu")
    assert job.passes(10) is None
    assert all(B in words[-1] and "job.look" in words[-1] for words in job.looks), "the model is tried on it"
    assert job.regain.ill() == {f"w1:{B}": "the inference did not end"}
    assert job.regain.usable(SPEC.slots) == [Slot("w1", (A,)), Slot("w2", (A,))]
    job.regain.begin()
    job.ranks = [job.ranks[0], job.ranks[2]]
    assert job.passes(4) is None
    job.well = {"w1"}
    assert job.passes(6) == f"w1 {B}"
    assert job.regain.ill() == {}
    assert job.regain.usable(SPEC.slots) == list(SPEC.slots)


def test_a_look_that_hangs_is_ended_and_no_other_follows_it_soon(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Looks, "poll", lambda self: None)
    monkeypatch.setattr(Looks, "wait", lambda self: None, raising=False)
    ended: list[int] = []
    monkeypatch.setattr(regain.os, "killpg", lambda pid, number: ended.append(number))
    job.lose(2, "tpu")
    job.passes(300)
    assert (len(job.looks), ended) == (1, [signal.SIGKILL])


def test_where_every_tpu_has_failed_all_are_tried_again(job: Job) -> None:
    for number in (1, 2, 3):
        job.lose(number, "tpu")
    job.passes(1)
    assert job.regain.usable(SPEC.slots) == list(SPEC.slots)
    assert job.regain.ill() == {}, "it is the model, and no TPU is drained"


def test_what_is_lost_again_and_again_is_looked_at_less_and_less(job: Job) -> None:
    waits = []
    for _ in range(4):
        job.lose(3)
        job.looks.clear()
        begun = job.now
        while not job.looks:
            job.passes(0.5)
        waits.append(job.now - begun)
        job.ranks[2].state, job.ranks[2].fault = "ready", None
        job.passes(1)
    assert waits == [pytest.approx(1.5), pytest.approx(4.5), pytest.approx(16.5), pytest.approx(64.5)]


def test_a_job_that_has_the_ranks_that_it_wanted_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(monkeypatch, StoredSpec(**{**vars(SPEC), "ranks": 2}))
    job.ranks = [job.ranks[0], job.ranks[1]]  # w2 was away at the start
    job.well = {"w2"}
    assert job.passes(20) is None


def test_a_rank_that_speaks_again_is_looked_at_no_more(job: Job) -> None:
    job.lose(3)
    job.passes(3)
    job.ranks[2].state, job.ranks[2].fault = "ready", None
    job.passes(5)
    job.looks.clear()
    assert job.passes(20) is None and job.looks == []


def test_a_tpu_that_fails_as_the_job_ends_is_noted_as_well(job: Job) -> None:
    job.passes(5)
    job.lose(3, "tpu")
    assert job.regain.ill() == {}
    job.regain.note(Progress(1, "finished", TOTAL, TOTAL, 0, 1.0, 1.0, job.now, tuple(job.ranks)))
    assert job.regain.ill() == {f"w2:{A}": "the inference did not end"}


def in_pipelines(spec: StoredSpec) -> StoredSpec:
    segment = SegmentFile("/srv/segment.tflite", "1", (), ())
    return StoredSpec(**{**vars(spec), "model": replace(MODEL, pipeline=Pipeline((segment, segment), ()))})


def test_what_pipelines_leave_over_is_looked_at_once_it_can_make_another(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(
        monkeypatch, in_pipelines(replace(SPEC, slots=(Slot("w1", (A, B)), Slot("w2", (A,)), Slot("w3", (A, B)))))
    )
    job.ranks = [RankProgress(number, host, tpu) for number, (host, tpu) in enumerate(PAIRS, 1)]
    for rank in job.ranks:
        rank.state = "ready"
    job.well = {"w1", "w2"}
    assert job.passes(30) is None and job.looks == []  # w2's alone makes no pipeline
    job.lose(1, "partner")
    job.lose(2, "tpu")
    job.well = {"w2"}
    assert job.passes(30) is None  # nor does it with the one that is ill
    # The TPU of the stage whose neighbour failed is its rank's still, which waits for the end of the attempt.
    looks = {(words[-2], words[-1].split()[-1]) for words in job.looks}
    alone = '\'["/srv/segment.tflite",', '"1"]\''
    assert looks == {("w1", alone[1]), ("w1", B), ("w2", alone[1])}
    assert all(alone[0] in words[-1] for words in job.looks)
    job.well = {"w2", "w1"}
    assert job.passes(30) is not None
    assert [slot.tpus for slot in job.regain.usable(job.spec.slots)] == [(A, B), (A,), (A, B)]


def test_the_other_stages_of_a_lost_pipeline_are_used_by_the_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(monkeypatch, in_pipelines(SPEC))
    job.ranks = [RankProgress(1, "w1", A, state="ready"), RankProgress(2, "w1", B, state="ready")]
    job.passes(1)
    job.lose(1, "partner")
    job.lose(2, "other")
    job.passes(1)
    # With w2's, left over so far, the one that is well makes a pipeline.
    assert job.regain.usable(SPEC.slots) == [Slot("w1", (A,)), Slot("w2", (A,))]
    job.lose(1, "other")
    job.regain._lost.clear()
    job.passes(1)
    # What is well is too little for one: all are tried again.
    assert job.regain.usable(SPEC.slots) == list(SPEC.slots)


def test_to_a_job_that_stays_open_more_inputs_come(job: Job) -> None:
    job.regain._spec = replace(SPEC, watch=Watching())
    job.done = TOTAL
    job.lose(3)
    job.well = {"w2"}
    assert job.passes(10) == f"w2 {A}"
