"""Sets of inputs in a byte each, and the order in which those that wait are taken."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from clusteradm.node.job.numbers import Numbers, Pending
from clusteradm.node.job.schedule import Schedule


def test_it_is_a_set_in_order() -> None:
    chance = random.Random(1)  # noqa: S311 - for a test
    numbers, plain = Numbers(), set[int]()
    for _ in range(2000):
        number = chance.choice([0, 65535, 65536, 10_000_000]) + chance.randrange(50)
        if chance.random() < 0.5:
            numbers.add(number)
            plain.add(number)
        else:
            numbers.discard(number)
            plain.discard(number)
    assert (list(numbers), len(numbers), numbers == plain) == (sorted(plain), len(plain), True)
    numbers -= plain
    assert not numbers and not numbers._pages
    assert -1 not in numbers and "x" not in numbers


def test_what_comes_back_is_next_and_what_is_added_last() -> None:
    pending = Pending(range(6), {1})
    assert [pending.take(), pending.take()] == [0, 2]
    pending.put_first(0)
    pending.put_last([20, 10])
    assert (len(pending), 0 in pending, 2 in pending, pending.first) == (7, True, False, 0)
    assert [pending.take() for _ in range(7)] == [0, 3, 4, 5, 1, 20, 10]
    assert (len(pending), pending.first) == (0, None)
    with pytest.raises(IndexError):
        pending.take()


def test_what_is_dropped_is_not_taken() -> None:
    pending = Pending(range(3), frozenset())
    pending.take()
    pending.put_first(0)
    pending.put_last([7, 8])
    pending.drop({0, 7})
    assert [pending.take() for _ in range(len(pending))] == [1, 2, 8]


def test_a_schedule_of_a_million_inputs_takes_some_bytes_for_each() -> None:
    tracemalloc.start()
    schedule = Schedule(range(1_000_000))
    schedule.join(1)
    assert schedule.take(1)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < 4_000_000
