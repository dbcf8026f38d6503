"""Who is silent: a frozen host, a head that was frozen itself."""

from __future__ import annotations

from clusteradm.node.job.attendance import SILENT_SECONDS, Attendance

RANKS = (1, 2, 3, 4)


def pass_seconds(attendance: Attendance, begin: float, seconds: float, *alive: int) -> float:
    """Time in steps, in which some ranks say every second that they live."""
    for step in range(int(seconds * 10)):
        if step % 10 == 0:
            for rank in alive:
                attendance.hear(rank)
        attendance.pass_time(begin + step / 10)
    return begin + seconds


def test_the_ranks_of_a_frozen_host_are_silent_after_five_seconds() -> None:
    attendance = Attendance(RANKS, 100.0)
    now = pass_seconds(attendance, 100.0, SILENT_SECONDS - 1, 1, 4)
    assert attendance.silent() == set()
    now = pass_seconds(attendance, now, 2, 1, 4)
    assert attendance.silent() == {2, 3}
    pass_seconds(attendance, now, 1, 1, 2, 3, 4)
    assert attendance.silent() == set()


def test_who_has_left_is_not_waited_for() -> None:
    attendance = Attendance(RANKS, 0.0)
    attendance.leave(4)
    pass_seconds(attendance, 0.0, SILENT_SECONDS + 1, 1, 2, 3)
    assert attendance.silent() == set()


def test_a_head_that_was_frozen_itself_blames_nobody() -> None:
    attendance = Attendance(RANKS, 0.0)
    attendance.pass_time(3600.0)
    assert attendance.silent() == set()
