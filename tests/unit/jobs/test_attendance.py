"""Who is silent: a frozen host, the head's own line, a head that was frozen itself."""

from __future__ import annotations

from clusteradm.node.job.attendance import ALL_SILENT_SECONDS, SILENT_SECONDS, Attendance

HOSTS = {1: "head", 2: "w1", 3: "w1", 4: "w2"}


def pass_seconds(attendance: Attendance, begin: float, seconds: float, *alive: int) -> float:
    """Time in steps, in which some ranks say every second that they live."""
    for step in range(int(seconds * 10)):
        if step % 10 == 0:
            for rank in alive:
                attendance.hear(rank)
        attendance.pass_time(begin + step / 10)
    return begin + seconds


def test_the_ranks_of_a_frozen_host_are_silent_after_eight_seconds() -> None:
    attendance = Attendance(HOSTS, "head", 100.0)
    now = pass_seconds(attendance, 100.0, SILENT_SECONDS - 1, 1, 4)
    assert attendance.silent() == set()
    now = pass_seconds(attendance, now, 2, 1, 4)
    assert attendance.silent() == {2, 3}
    pass_seconds(attendance, now, 1, 1, 2, 3, 4)
    assert attendance.silent() == set()


def test_all_hosts_at_once_are_the_heads_own_line_and_given_time() -> None:
    attendance = Attendance(HOSTS, "head", 0.0)
    now = pass_seconds(attendance, 0.0, ALL_SILENT_SECONDS - 10, 1)
    assert attendance.silent() == set()
    pass_seconds(attendance, now, 20, 1)
    assert attendance.silent() == {2, 3, 4}


def test_one_other_host_is_no_line() -> None:
    attendance = Attendance({1: "head", 2: "w1"}, "head", 0.0)
    pass_seconds(attendance, 0.0, SILENT_SECONDS + 1, 1)
    assert attendance.silent() == {2}


def test_who_has_left_is_not_waited_for() -> None:
    attendance = Attendance(HOSTS, "head", 0.0)
    attendance.leave(4)
    pass_seconds(attendance, 0.0, SILENT_SECONDS + 1, 1, 2, 3)
    assert attendance.silent() == set()


def test_a_head_that_was_frozen_itself_blames_nobody() -> None:
    attendance = Attendance(HOSTS, "head", 0.0)
    attendance.pass_time(3600.0)
    assert attendance.silent() == set()
