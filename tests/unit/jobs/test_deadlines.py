"""Whose chunk takes too long, by the rank's own measured time."""

from __future__ import annotations

import pytest

from clusteradm.node.job.deadlines import FIRST_SECONDS, SECONDS, TIMES, Deadlines


class Time:
    """Deadlines, and a clock that is looked at ten times a second."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.deadlines = Deadlines(self.now)

    def passes(self, seconds: float) -> Deadlines:
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            self.deadlines.pass_time(self.now)
        return self.deadlines


@pytest.fixture
def time() -> Time:
    return Time()


def test_a_fast_rank_has_five_seconds_and_a_slow_one_twenty_times_its_own(time: Time) -> None:
    time.deadlines.begin(1)
    time.deadlines.begin(2)
    time.passes(0.1).deliver(1, more=True)
    time.passes(0.9).deliver(2, more=True)
    assert time.passes(SECONDS - 1).late() == {}
    assert time.passes(0.3).late() == {1: SECONDS}
    time.deadlines.leave(1)
    assert time.passes(TIMES - SECONDS).late() == {}
    assert time.passes(1).late() == {2: pytest.approx(TIMES)}


def test_the_first_chunk_may_take_a_minute(time: Time) -> None:
    time.deadlines.begin(1)
    assert time.passes(FIRST_SECONDS - 1).late() == {}
    assert time.passes(2).late() == {1: FIRST_SECONDS}


def test_a_rank_without_work_is_never_late(time: Time) -> None:
    time.deadlines.begin(1)
    time.passes(0.2).deliver(1, more=False)
    assert time.passes(100).late() == {}
    time.deadlines.begin(1)
    time.deadlines.begin(1)  # a second chunk, which waits for the first
    assert time.passes(SECONDS + 0.2).late() == {1: SECONDS}


def test_one_delay_of_all_does_not_make_a_rank_slow(time: Time) -> None:
    """The shared file system was away."""
    time.deadlines.begin(1)
    time.passes(0.5).deliver(1, more=True)
    time.passes(20).deliver(1, more=True)
    assert list(time.passes(41).late().values()) == [pytest.approx(40.0)], "4 times its slowest, not 20 s"


def test_a_head_that_was_frozen_itself_blames_nobody(time: Time) -> None:
    time.deadlines.begin(1)
    time.passes(0.1).deliver(1, more=True)
    time.deadlines.pass_time(time.now + 3600)
    assert time.deadlines.late() == {}


def test_a_chunk_of_inputs_that_cannot_be_used_does_not_say_how_long_one_takes(time: Time) -> None:
    time.deadlines.begin(1)
    time.passes(0.1).deliver(1, more=True, worked=False)
    assert time.passes(FIRST_SECONDS - 1).late() == {}
