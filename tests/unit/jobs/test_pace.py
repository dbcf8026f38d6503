"""Pace of a running job: rates, what is queued, the time that is left, and what each rank waits for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clusteradm.jobs import use
from clusteradm.jobs.pace import Watcher
from clusteradm.node.spec.wire.job import Progress, RankProgress


def rank(number: int, host: str, **more: float) -> RankProgress:
    return replace(RankProgress(number, host, f"A{number}", state="ready"), **more)


def look(now: float, done: int, *ranks: RankProgress, attempt: int = 1, phase: str = "running") -> Progress:
    return Progress(attempt, phase, 1000, done, 0, 1.0, now, now, ranks)


def test_rates_are_those_of_the_last_seconds() -> None:
    watcher = Watcher()
    first = watcher.update(look(10.0, 0, rank(1, "w1"), rank(2, "w1"), rank(3, "w2", queue=8)))
    assert (first.rates, first.rate, first.left, first.queued) == ({}, None, None, 992)
    pace = first
    for second in range(1, 21):
        done = 40 * second if second <= 10 else 400 + 10 * (second - 10)
        ranks = (
            rank(1, "w1", images=done // 2, queue=4),
            rank(2, "w1", images=done // 4),
            rank(3, "w2", images=done // 4),
        )
        pace = watcher.update(look(10.0 + second, done, *ranks))
        if second == 2:
            assert (pace.rates, pace.rate) == ({"w1": 30.0, "w2": 10.0}, 40.0)
    # It became slower more than five seconds ago.
    assert pace.rate == pytest.approx(10.0, abs=0.5) and pace.left == pytest.approx(50.0, abs=3)
    assert [one.rate for one in pace.ranks] == pytest.approx([5.0, 2.5, 2.5], abs=0.3)
    assert pace.queued == 1000 - 500 - 4


def test_another_attempt_and_a_clock_set_back_are_no_rate() -> None:
    watcher = Watcher()
    assert watcher.update(look(1.0, 0, rank(1, "w1"), phase="starting")).rates == {}
    watcher.update(look(2.0, 10, rank(1, "w1", images=10)))
    assert watcher.update(look(3.0, 20, rank(1, "w1", images=20))).rates == {"w1": 10.0}
    assert watcher.update(look(2.5, 30, rank(1, "w1", images=30))).ranks[0].rate is not None, "as it was"
    assert watcher.update(look(4.0, 30, rank(1, "w1", images=0), attempt=2)).rates == {}
    assert watcher.update(look(5.0, 34, rank(1, "w1", images=4), attempt=2)).rates == {"w1": 4.0}
    # A rank that is not the same any more.
    assert watcher.update(look(6.0, 40, rank(1, "w1", images=6), rank(2, "w2", images=4), attempt=2)).rates == {}


def test_the_stages_of_a_pipeline_pass_what_its_last_one_delivers() -> None:
    def stages(images: int) -> tuple[RankProgress, ...]:
        first, last = (
            replace(rank(number, host), pipeline=0, stage=number - 1) for number, host in ((1, "w1"), (2, "w2"))
        )
        return first, replace(last, images=images), rank(3, "w3", images=images // 2)

    watcher = Watcher()
    watcher.update(look(1.0, 0, *stages(0)))
    pace = watcher.update(look(3.0, 60, *stages(40)))
    assert pace.rates == {"w1": 0.0, "w2": 20.0, "w3": 10.0} and pace.rate == 30.0
    assert [(one.rate, one.stage) for one in pace.ranks] == [(20.0, "1.1"), (20.0, "1.2"), (10.0, "")]


@pytest.mark.parametrize(
    ("times", "shares", "waits_for"),
    [
        ({"busy": 9.6, "idle": 0.1}, (0.96, 0.0, 0.01), "TPU"),
        ({"busy": 4.0, "wait": 5.0, "decode": 9.0, "read": 1.0}, (0.4, 0.45, 0.05), "input"),
        ({"busy": 2.0, "wait": 7.0, "decode": 1.0, "read": 6.0}, (0.2, 0.1, 0.6), "network"),
        ({"busy": 3.0, "idle": 6.0}, (0.3, 0.0, 0.6), "network"),
        # What is told at the end of a chunk may be more than the time that is looked at.
        ({"busy": 13.5, "idle": 1.5}, (0.9, 0.0, 0.1), "TPU"),
    ],
)
def test_what_a_rank_waits_for(times: dict[str, float], shares: tuple[float, float, float], waits_for: str) -> None:
    earlier = rank(1, "w1", busy=1.0, wait=2.0, decode=3.0, read=4.0, idle=5.0)
    later = replace(earlier, **{name: getattr(earlier, name) + seconds for name, seconds in times.items()})
    found = use.of(10.0, later, earlier)
    assert found is not None and found.waits_for == waits_for
    assert (found.tpu, found.input, found.network) == pytest.approx(shares)
    assert sum(found.shares().values()) == pytest.approx(1.0)


def test_of_nothing_measured_nothing_is_said() -> None:
    assert use.of(0.0, rank(1, "w1", busy=1.0)) is None
    assert use.of(5.0, rank(1, "w1", busy=1.0), rank(1, "w1", busy=1.0)) is None
