"""Scheduling, as a simulation: pure functions, no MPI, no clock."""

from __future__ import annotations

import heapq
import random

import pytest

from clusteradm.node.job.schedule import (
    CREDITS,
    FIRST_CHUNK,
    LARGEST_CHUNK,
    LEAST,
    MOST_NUMBERS,
    SHORTEST_SECONDS,
    Chunk,
    Schedule,
)


def simulate(
    count: int, paces: dict[int, float], dies: dict[int, float] | None = None, *, told: bool = False
) -> tuple[float, dict[int, int], list[int]]:
    """Workers that take `paces` seconds an input, some of which die: (seconds, inputs per rank, order).

    `told`: they say their pace when they join.
    """
    schedule, dies = Schedule(range(count)), dies or {}
    free = dict.fromkeys(paces, 0.0)
    under_way: list[tuple[float, int, Chunk, float]] = []
    done, got = dict.fromkeys(paces, 0), []
    for rank in paces:
        schedule.join(rank, paces[rank] if told else None)

    def hand_out(rank: int, now: float) -> None:
        while (chunk := schedule.take(rank)) is not None:
            spent = paces[rank] * len(chunk.inputs)
            free[rank] = max(now, free[rank]) + spent
            heapq.heappush(under_way, (free[rank], chunk.number, chunk, spent))

    for rank in paces:
        hand_out(rank, 0.0)
    now = 0.0
    while not schedule.finished:
        now, number, chunk, spent = heapq.heappop(under_way)
        if now > dies.get(chunk.rank, float("inf")):
            schedule.lose(chunk.rank)
            for rank in schedule.ranks:
                hand_out(rank, now)
            continue
        fresh = schedule.finish(number, spent)
        got += fresh
        done[chunk.rank] += len(fresh)
        hand_out(chunk.rank, now)
    return now, done, got


def test_everything_exactly_once() -> None:
    for ranks in (1, 2, 5, 16):
        for count in (1, 2, 7, 1000):
            _, done, got = simulate(count, dict.fromkeys(range(1, ranks + 1), 0.0026))
            assert sorted(got) == list(range(count))
            assert sum(done.values()) == count


def test_equal_workers_end_together() -> None:
    seconds, done, _ = simulate(1000, dict.fromkeys(range(1, 5), 0.0026))
    assert seconds <= 1000 * 0.0026 / 4 * 1.04
    assert max(done.values()) - min(done.values()) <= 40


def test_slow_workers_hold_up_nobody() -> None:
    # What a fixed split makes of these: 0.305 and 0.024.
    for slow, least in ((0.0104, 0.98), (0.122, 0.97)):
        paces = {rank: 0.0026 if rank > 4 else slow for rank in range(1, 17)}
        seconds, _, _ = simulate(10_000, paces)
        ideal = 10_000 / sum(1 / pace for pace in paces.values())
        assert ideal / seconds > least


def test_a_slow_device_gets_several_inputs_at_once_while_there_is_plenty() -> None:
    # Each chunk costs rank 0 and the network the same, whatever is in it.
    schedule = Schedule(range(1000))
    schedule.join(1, 0.12)
    schedule.join(2, 0.4)
    for rank in (1, 2):
        assert len(_inputs(schedule, rank)) == LEAST
    assert 2 <= LEAST <= 4


def test_a_worker_gets_no_input_that_faster_ones_are_done_with_before_it() -> None:
    schedule = Schedule(range(40))
    schedule.join(1, 0.122)
    schedule.join(2, 0.0026)
    schedule.join(3, 0.0026)
    first = schedule.take(1)
    assert first is not None and len(first.inputs) == 1
    assert schedule.take(1) is None, "the others need 52 ms for all"
    while (chunk := schedule.take(2)) is not None:
        schedule.finish(chunk.number, 0.0026 * len(chunk.inputs))
    assert schedule.finish(first.number, 0.122) == first.inputs and schedule.finished
    # But where they are gone, it has them all; and of several slow ones each.
    schedule = Schedule(range(40))
    schedule.join(1, 0.122)
    schedule.join(2, 0.0026)
    assert len(_inputs(schedule, 1)) == 1 and schedule.take(1) is None
    schedule.lose(2)
    assert len(_inputs(schedule, 1)) == LEAST
    seconds, done, _ = simulate(8, {1: 0.122, 2: 0.122})
    assert seconds < 0.122 * 5 and done == {1: 4, 2: 4}


def test_a_job_of_few_inputs_is_not_held_up_by_what_was_slow_from_the_start() -> None:
    paces = {rank: 0.0026 if rank > 2 else 0.122 for rank in range(1, 17)}
    seconds, _, _ = simulate(1000, paces, told=True)
    assert 1000 * 0.0026 / 14 / seconds > 0.95


def test_what_each_rank_has() -> None:
    schedule = Schedule(range(100))
    for rank in (1, 2):
        schedule.join(rank, 0.01)
    chunks = [schedule.take(1), schedule.take(1), schedule.take(2)]
    sizes = [len(chunk.inputs) for chunk in chunks if chunk]
    assert schedule.held() == {1: sizes[0] + sizes[1], 2: sizes[2]}
    schedule.finish(chunks[2].number, 0.1)  # type: ignore[union-attr]
    assert schedule.held() == {1: sizes[0] + sizes[1]}


def test_a_worker_has_no_more_than_its_credits() -> None:
    schedule = Schedule(range(1000))
    schedule.join(1)
    chunks = [schedule.take(1) for _ in range(CREDITS)]
    assert all(chunk is not None and len(chunk.inputs) == FIRST_CHUNK for chunk in chunks)
    assert schedule.take(1) is None
    assert schedule.take(2) is None  # not one that has joined


def test_a_chunk_is_four_hundred_milliseconds_and_never_more_than_its_share() -> None:
    schedule = Schedule(range(2000))
    schedule.join(1)
    schedule.join(2)
    first = schedule.take(1)
    assert first is not None
    assert schedule.seconds(first) == 0, "nothing is known of it"
    schedule.finish(first.number, 0.0026 * len(first.inputs))
    second = schedule.take(1)
    assert second is not None
    assert len(second.inputs) == 153
    assert schedule.seconds(second) == pytest.approx(0.3978)
    schedule.finish(second.number, 0.0)  # twice as fast on average: a chunk twice as large
    third = schedule.take(1)
    assert third is not None
    assert len(third.inputs) == 307
    while third is not None:
        schedule.finish(third.number, 0.0013 * len(third.inputs))
        left = third.inputs[-1] + 1
        third = schedule.take(1)
        # But never less than what the next one takes to come.
        assert third is None or len(third.inputs) <= max(SHORTEST_SECONDS / 0.0013, (2000 - left) / 6) < LARGEST_CHUNK
    few = Schedule(range(3))
    few.join(1)
    few.join(2)
    only = few.take(1)
    assert only is not None
    assert len(only.inputs) == 1


def test_what_a_rank_says_of_itself_counts_only_until_it_is_measured() -> None:
    """One inference, while all others of its host loaded the model, may have taken ten times as long as the next."""
    schedule = Schedule(range(1000))
    schedule.join(1, 0.026)
    first = schedule.take(1)
    assert first is not None and len(first.inputs) == 15 and schedule.seconds(first) == 0
    schedule.finish(first.number, 0.0026 * 15)
    assert len(_inputs(schedule, 1)) == 153


def test_what_a_lost_rank_had_goes_to_the_others_first() -> None:
    schedule = Schedule(range(100))
    schedule.join(1)
    schedule.join(2)
    had = [index for _ in range(CREDITS) for index in _inputs(schedule, 1)]
    schedule.lose(1)
    assert _inputs(schedule, 2) == had[:FIRST_CHUNK]
    assert schedule.ranks == [2]


def test_what_a_rank_may_have_been_lost_by_is_given_to_one_other_last_and_alone() -> None:
    schedule = Schedule(range(20))
    for rank in (1, 2, 3):
        schedule.join(rank)
    first = schedule.take(1)
    assert first is not None and len(first.inputs) > 2
    suspects = first.inputs[1:3]
    assert schedule.lose(1, suspects) == []
    taken = []
    while (chunk := schedule.take(2)) is not None:
        taken.append(chunk.inputs)
        if len(taken) > 1 and chunk.inputs[0] in suspects:
            break
        assert set(schedule.finish(chunk.number, 0.1)) == set(chunk.inputs)
    assert sorted(index for inputs in taken[:-1] for index in inputs) == [
        index for index in range(20) if index not in suspects
    ]
    assert taken[-1] == suspects[:1], "alone"
    assert schedule.lose(2, [*suspects, 7]) == suspects[:1], "two ranks are enough"
    last = schedule.take(3)
    assert last is not None and last.inputs == suspects[1:]
    assert schedule.finish(last.number, 0.1) == last.inputs and schedule.finished


def test_a_late_result_counts_once() -> None:
    schedule = Schedule(range(4))
    schedule.join(1)
    schedule.join(2)
    late = schedule.take(1)
    assert late is not None
    schedule.lose(1)
    while not schedule.finished:
        chunk = schedule.take(2)
        assert chunk is not None
        assert schedule.finish(chunk.number, 0.01) == chunk.inputs
    assert schedule.finish(late.number, 0.01) == []


def test_what_a_late_rank_delivers_after_all_is_done_by_no_other() -> None:
    schedule = Schedule(range(12))
    for rank in (1, 2):
        schedule.join(rank)
    late = schedule.take(1)
    assert late is not None
    schedule.lose(1)
    assert schedule.inputs(1, late.number) == late.inputs and schedule.inputs(2, late.number) is None
    assert schedule.finish(late.number, 9.0) == late.inputs
    taken = []
    while (chunk := schedule.take(2)) is not None:
        taken += schedule.finish(chunk.number, 0.1)
    assert sorted(taken + late.inputs) == list(range(12)) and schedule.finished
    # One whose second rank has it already: whoever is first counts.
    schedule = Schedule(range(4))
    schedule.join(1)
    first = schedule.take(1)
    assert first is not None
    schedule.lose(1)
    schedule.join(2)
    second = schedule.take(2)
    assert second is not None and set(second.inputs) <= set(first.inputs)
    assert schedule.finish(first.number, 9.0) == first.inputs
    assert schedule.finish(second.number, 0.1) == []


def _late(count: int, ranks: int) -> tuple[Schedule, list[list[int]]]:
    """A schedule in which two ranks, one after the other, were late with the same inputs; what each had."""
    schedule = Schedule(range(count))
    for rank in range(1, ranks + 1):
        schedule.join(rank)
    had = []
    for rank in (1, 2):
        chunk = schedule.take(rank)
        assert chunk is not None
        had.append(chunk.inputs)
        schedule.pass_over(rank)
    return schedule, had


def test_an_input_with_which_two_ranks_are_late_takes_no_third() -> None:
    schedule, (first, second) = _late(40, 4)
    assert first == second
    taken = [index for _ in range(CREDITS) for index in _inputs(schedule, 3)]
    assert set(taken).isdisjoint(first)
    # Both fail with the same one: it is an error. The others are given to the next.
    assert schedule.lose(1, [first[1]]) == []
    assert set(_inputs(schedule, 4)).isdisjoint(first)
    assert schedule.lose(2, [first[1]]) == [first[1]]
    rest = _inputs(schedule, 4)
    assert set(first) - set(rest) == {first[1]}


def test_what_two_late_ranks_had_is_done_by_others_if_both_are_lost() -> None:
    schedule, (first, _) = _late(12, 3)
    schedule.lose(1)
    schedule.lose(2)
    taken: list[int] = []
    while (chunk := schedule.take(3)) is not None:
        assert schedule.finish(chunk.number, 0.01) == chunk.inputs
        taken += chunk.inputs
    assert sorted(taken) == list(range(12)) and schedule.finished and set(first) <= set(taken)


def test_a_rank_that_was_late_and_fails_has_its_inputs_done_once() -> None:
    schedule = Schedule(range(12))
    schedule.join(1)
    first = _inputs(schedule, 1)
    schedule.pass_over(1)
    schedule.join(2)
    taken = _inputs(schedule, 2)  # one of those, by now
    assert set(taken) & set(first)
    assert schedule.lose(1, first[:1]) == []
    assert schedule.suspects == first[:1]
    done = list(taken)
    while (chunk := schedule.take(2)) is not None:
        done += chunk.inputs
        schedule.finish(chunk.number, 0.01)
    assert sorted(done) == list(range(12)), "none is given out twice"


def test_a_late_rank_after_one_that_was_lost_by_the_same_input_takes_no_third() -> None:
    schedule = Schedule(range(20), suspects=[19])
    for rank in (1, 2):
        schedule.join(rank)
    while (chunk := schedule.take(1)) is not None and chunk.inputs != [19]:
        schedule.finish(chunk.number, 0.01)
    assert chunk is not None
    schedule.pass_over(1)
    assert schedule.take(2) is None and not schedule.finished
    assert schedule.lose(1, [19]) == [19] and schedule.finished


def test_ranks_that_die_cost_no_input() -> None:
    _, done, got = simulate(500, dict.fromkeys(range(1, 5), 0.0026), dies={1: 0.05, 3: 0.2})
    assert sorted(got) == list(range(500))
    assert 0 < done[3] < done[2]


def _inputs(schedule: Schedule, rank: int) -> list[int]:
    chunk = schedule.take(rank)
    assert chunk is not None
    return chunk.inputs


def test_a_rank_that_joins_again_is_not_given_what_it_still_has() -> None:
    for leave in (Schedule.pass_over, Schedule.lose):
        schedule = Schedule(range(40))
        schedule.join(1)
        first, second = (schedule.take(1) for _ in range(CREDITS))
        assert first is not None and second is not None
        leave(schedule, 1)
        assert schedule.finish(first.number, 9.0) == first.inputs
        schedule.join(1)
        assert schedule.busy(1) and schedule.inputs(1, second.number) == second.inputs
        taken = _inputs(schedule, 1)
        assert set(taken).isdisjoint(first.inputs + second.inputs)
        assert schedule.take(1) is None, "it has its credits"
        assert schedule.finish(second.number, 0.1) == second.inputs


def test_ranks_that_come_and_go_at_random_lose_no_input_and_get_none_twice() -> None:
    for seed in range(15):
        chance = random.Random(seed)  # noqa: S311 - to be the same each time
        schedule, got = Schedule(range(80)), []
        holds: dict[int, list[Chunk]] = {rank: [] for rank in range(1, 5)}
        joined = set(holds)
        for rank in holds:
            schedule.join(rank)
        for step in range(4000):
            if schedule.finished:
                break
            rank = chance.choice(list(holds))
            while (chunk := schedule.take(rank)) is not None:
                had = {index for one in holds[rank] for index in one.inputs}
                assert had.isdisjoint(chunk.inputs), (seed, step)
                holds[rank].append(chunk)
            event = chance.random()
            if event < 0.2 and rank in joined:
                joined.discard(rank)
                chance.choice((schedule.pass_over, schedule.lose))(rank)
            elif event < 0.4 and rank not in joined:
                joined.add(rank)
                schedule.join(rank)
            elif holds[rank]:
                chunk = holds[rank].pop(0)
                assert schedule.inputs(rank, chunk.number) == chunk.inputs
                got += schedule.finish(chunk.number, 0.01)
        assert schedule.finished and sorted(got) == list(range(80)), seed


def test_inputs_that_cannot_be_used_say_nothing_of_a_ranks_pace() -> None:
    schedule = Schedule(range(1000))
    for rank in (1, 2):
        schedule.join(rank)
    first = schedule.take(1)
    assert first is not None
    schedule.finish(first.number, 0.0001, 0)
    again = schedule.take(1)
    assert again is not None and len(again.inputs) == FIRST_CHUNK, "nothing is known of it yet"
    schedule.finish(again.number, 0.5, 1)  # one of them took all the time
    third = schedule.take(1)
    assert third is not None and len(third.inputs) == LEAST


def test_a_rank_that_waits_for_faster_ones_is_asked_again_where_they_slow_down() -> None:
    schedule = Schedule(range(600))
    for rank in (1, 2):
        schedule.join(rank, 0.001)
    slow = [schedule.take(2) for _ in range(CREDITS)]
    for chunk in slow:
        assert chunk is not None
        schedule.finish(chunk.number, 1.0 * len(chunk.inputs))
    assert schedule.take(2) is None and schedule.kept_waiting == [2]
    for _ in range(4):  # now the other comes to such inputs, too
        chunk = schedule.take(1)
        assert chunk is not None
        schedule.finish(chunk.number, 1.0 * len(chunk.inputs))
    assert _inputs(schedule, 2) and schedule.kept_waiting == []


def test_a_model_that_takes_several_inputs_at_once_gets_its_number_of_them() -> None:
    for told in (None, 0.001, 0.1):
        schedule, sizes = Schedule(range(200), batch=32), []
        for rank in (1, 2):
            schedule.join(rank, told)
        while not schedule.finished:
            for rank in (1, 2):
                chunk = schedule.take(rank)
                if chunk is not None:
                    sizes.append(len(chunk.inputs))
                    schedule.finish(chunk.number, 0.1 * len(chunk.inputs))
        assert sum(sizes) == 200 and all(size % 32 == 0 for size in sizes[:-1]), sizes


def test_inputs_that_come_later() -> None:
    schedule = Schedule([])
    schedule.join(1)
    schedule.join(2)
    assert schedule.finished and schedule.take(1) is None
    schedule.add([7, 8])
    chunk = schedule.take(2)
    assert chunk is not None and not schedule.finished
    rest = schedule.take(1)
    assert rest is not None and sorted([*chunk.inputs, *rest.inputs]) == [7, 8]
    assert schedule.finish(chunk.number, 0.1) == chunk.inputs and not schedule.finished
    schedule.add([3])
    assert schedule.lose(1) == []
    assert sorted(input for _ in range(2) if (each := schedule.take(2)) for input in each.inputs) == sorted(
        [3, *rest.inputs]
    )


def test_results_of_many_numbers_come_a_few_at_once() -> None:
    """Rank 0 reads the results of a chunk at once: those of 512 inputs with 50,000 numbers each are half a gigabyte."""
    schedule = Schedule(range(10_000))
    schedule.join(1, 0.0001, 50_000)
    schedule.join(2, 0.0001)
    few, many = schedule.take(1), schedule.take(2)
    assert few is not None and many is not None
    assert (len(few.inputs), len(many.inputs)) == (MOST_NUMBERS // 50_000, LARGEST_CHUNK)
    schedule.finish(few.number, 0.0008)
    few = schedule.take(1)
    assert few is not None and len(few.inputs) == MOST_NUMBERS // 50_000
    schedule.join(3, None, 10**9)
    one = schedule.take(3)
    assert one is not None and len(one.inputs) == 1
