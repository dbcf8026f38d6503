"""Benchmark: which runs there are, what is counted of them, and that no job of it is left behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bench_jobs
import pytest
from bench_jobs import A, B, FakeJobs

from clusteradm.errors import HostFailed, UsageError
from clusteradm.jobs import LocalInputs, Update, bench, passing
from clusteradm.jobs.bench import Alone, Bench, Step, counts
from clusteradm.jobs.inputs import File
from clusteradm.models import zoo
from clusteradm.node.spec.wire.job import InputForm, Slot, Status


def inputs(count: int) -> LocalInputs:
    return LocalInputs(tuple(File(f"{number}.png", Path("/x"), 1) for number in range(count)))


def follow(_: str, updates: Iterator[Update]) -> Status:
    (update,) = updates
    assert update.status is not None
    return update.status


@contextlib.contextmanager
def sent() -> Iterator[Any]:
    yield lambda done, total: None


def made(jobs: FakeJobs) -> Bench:
    return Bench(jobs, bench_jobs.plan(), follow, sent)  # type: ignore[arg-type]


def test_speed_up_is_that_of_medians() -> None:
    rates = iter([1.0, 0.5, 0.98, 0.9, 0.9, 0.1])  # two numbers of TPUs, of which one run each is far off
    jobs = FakeJobs(lambda ranks: next(rates))
    work = made(jobs)
    for tpus in (1, 1, 1, 4, 4, 4):
        work.step(inputs(1000), tpus)
    one, four = work.measured.scaling()
    assert (one.tpus, one.speed_up, four.tpus) == (1, 1.0, 4)
    assert one.rate == pytest.approx(0.98 / 0.0026, rel=1e-3)
    assert four.rate == pytest.approx(4 * 0.9 / 0.0026, rel=1e-3)
    assert four.speed_up == pytest.approx(4 * 0.9 / 0.98, rel=1e-3)
    assert four.efficiency == pytest.approx(0.9 / 0.98, rel=1e-3)
    assert one.startup == 2.0 and four.seconds == pytest.approx(1000 * 0.0026 / 3.6, rel=1e-3)
    assert four.spread == pytest.approx(0.8 / 0.9, rel=1e-2) and one.spread > bench.UNSTEADY
    assert four.use is not None and one.use is not None and four.use.network > one.use.network


def test_the_first_tpus_of_all_hosts_come_before_a_second_of_one() -> None:
    jobs = FakeJobs()
    work = made(jobs)
    report = work.step(inputs(100), 3)
    assert [(rank.host, rank.pci_address) for rank in report.ranks] == [("head", A), ("w1", A), ("w2", A)]


def test_each_tpu_is_alone_on_its_host() -> None:
    jobs = FakeJobs()
    jobs.busy = {("w1", B): 0.0052, ("w2", A): 0.0042}
    work = made(jobs)
    rounds = work.rounds
    assert [[(slot.host, *slot.tpus) for slot in slots] for slots in rounds] == [
        [("head", A), ("w1", A), ("w2", A)],
        [("w1", B)],
    ]
    for slots in rounds:
        work.round(inputs(900), slots)
    found = {alone.place: alone for alone in work.measured.tpus({"head": 2.6, "w1": None, "w2": 2.6})}
    assert found["head", A].milliseconds == pytest.approx(2.6) and found["head", A].slow == ""
    assert found["w2", A].ratio == pytest.approx(4.2 / 2.6) and found["w2", A].slow.startswith(
        "1.62 times the published"
    )
    # Of one without a published time, the others are the measure: the median of 2.6, 2.6, 4.2 and 5.2.
    assert found["w1", B].ratio is None and found["w1", B].slow.startswith("1.53 times the median of all, 3.40 ms")
    assert found["w1", A].slow == ""


def test_pipelines_are_measured_by_one_of_them_and_by_the_whole_model() -> None:
    jobs = FakeJobs(lambda count: 1.0 if count == 1 else 0.9)
    slots = tuple(Slot(host, (A, B)) for host in ("head", "w1", "w2"))
    work = Bench(jobs, bench_jobs.plan(slots, bench_jobs.CUT), follow, sent)  # type: ignore[arg-type]
    assert work.has_whole and work.pace(inputs(64)) == pytest.approx(1 / 0.0052)
    work.whole(inputs(520))
    for tpus in (2, 6):
        work.step(inputs(600), tpus)
    one, three = work.measured.scaling()
    assert (one.count, one.tpus, three.count, three.tpus) == (1, 2, 3, 6)
    assert three.speed_up == pytest.approx(2.7) and three.efficiency == pytest.approx(0.9)
    assert one.by_whole == pytest.approx(0.5) and three.by_whole == pytest.approx(1.35)
    assert [stage.bottleneck for stage in one.runs[0].stages] == [False, True]
    assert [(plan.most, plan.model.pipeline is None) for plan in jobs.submitted] == [
        (2, False),
        (1, True),
        (2, False),
        (6, False),
    ]
    assert not Bench(jobs, bench_jobs.plan(), follow, sent).has_whole  # type: ignore[arg-type]


def test_exactly_so_much_is_not_too_slow() -> None:
    assert Alone(("w1", A), 3.9, 2.6, 2.6).slow == "" and Alone(("w1", A), 3.91, 2.6, 2.6).slow != ""
    assert Alone(("w1", A), 3.0, None, 0.0).slow == ""


def test_every_job_is_removed_even_where_its_supervisor_takes_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passing, "_PAUSE", 0.0)
    jobs = FakeJobs()
    jobs.running = 3
    work = made(jobs)
    work.step(inputs(10), 1)
    assert jobs.calls == ["check J1", "remove J1"]
    monkeypatch.setattr(passing, "_REMOVED", 0.0)
    jobs.running = 10
    with pytest.raises(UsageError, match="is running"):
        work.step(inputs(10), 1)


def test_ctrl_c_cancels_and_removes_the_run_and_keeps_what_was_measured() -> None:
    jobs = FakeJobs()
    jobs.interrupt = 2
    work = made(jobs)
    work.step(inputs(10), 1)
    with pytest.raises(KeyboardInterrupt):
        work.step(inputs(10), 2)
    assert jobs.calls[2:] == ["cancel J2", "remove J2"]
    assert [step.tpus for step in work.measured.scaling()] == [1]


def test_a_run_that_fails_is_removed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = FakeJobs()

    def check(job: str, _: Status) -> None:
        raise HostFailed(f"job {job} failed: no rank could work")

    monkeypatch.setattr(jobs, "check", check)
    with pytest.raises(HostFailed, match="no rank could work"):
        made(jobs).step(inputs(10), 1)
    assert jobs.calls == ["cancel J1", "remove J1"]


def test_inputs_that_all_fail_measure_nothing() -> None:
    jobs = FakeJobs()
    work = Bench(
        jobs,  # type: ignore[arg-type]
        bench_jobs.plan(),
        lambda job, updates: replace(follow(job, updates), errors=10),
        sent,
    )
    with pytest.raises(HostFailed, match="no input of the benchmark has a result"):
        work.step(inputs(10), 1)
    assert work.measured.scaling() == []


def test_how_many_inputs_are_needed_is_measured() -> None:
    jobs = FakeJobs()
    jobs.busy = {("w2", A): 0.01}
    assert made(jobs).pace(inputs(300)) == pytest.approx(1 / 0.0026, rel=0.01)


@pytest.mark.parametrize(
    ("wanted", "there", "expected"),
    [
        ((), 1, [1]),
        ((), 4, [1, 2, 4]),
        ((), 6, [1, 2, 4, 6]),
        ((), 11, [1, 2, 4, 8, 11]),
        ((2, 4), 4, [1, 2, 4]),
        ((3, 3, 1), 4, [1, 3]),
    ],
)
def test_numbers_of_tpus(wanted: tuple[int, ...], there: int, expected: list[int]) -> None:
    assert counts(wanted, there) == expected


def test_more_tpus_than_there_are() -> None:
    with pytest.raises(UsageError, match="--tpus 8: only 3 are healthy and free"):
        counts((1, 8), 3)


def test_numbers_of_tpus_in_pipelines() -> None:
    assert counts((), 9, 2) == [2, 4, 8] and counts((), 6, 2) == [2, 4, 6] and counts((), 3, 3) == [3]
    assert counts((6,), 9, 2) == [2, 6]
    with pytest.raises(UsageError, match="--tpus 3: pipelines of 2 TPUs take a multiple of 2"):
        counts((2, 3), 9, 2)


def test_what_is_published_is_found_by_the_file_or_by_the_name() -> None:
    model = bench_jobs.MODEL
    by_name = bench.published(model)
    assert by_name is not None and (by_name.usb, by_name.dev_board) == (2.6, 2.6)
    for name in ("mobilenet_v2_1_0_224_quant", "mobilenet-v2-1_0-224", "mobilenet_v2"):
        assert bench.published(replace(model, name=name)) == by_name, name
    assert bench.published(replace(model, name="mobilenet_v2_0_5_224")) is None
    named = replace(model, name="mine")
    assert bench.published(named) is None
    known = next(each for each in zoo.models() if each.name == "mobilenet_v1_0.25_128_quant")
    form = InputForm("uint8", (1, 128, 128, 3))
    found = bench.published(replace(named, sha256=str(known.compiled.sha256), input=form))
    assert found is not None and found.usb == 0.9
    # A name that lies about its input is compared with nothing.
    assert bench.published(replace(model, input=form)) is None


def test_a_step_without_times_of_its_ranks() -> None:
    jobs = FakeJobs()
    report = made(jobs).step(inputs(10), 1)
    silent = replace(report, ranks=tuple(replace(rank, use=None) for rank in report.ranks))
    assert Step(1, (silent,), 1.0).use is None and Step(1, (silent,), 0.0).speed_up == 0.0
