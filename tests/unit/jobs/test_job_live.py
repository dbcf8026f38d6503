"""The live view of a job: what is in it, at any width and height."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clusteradm.cli import job_live, show
from clusteradm.cli.job_live import Live, duration
from clusteradm.cli.temperatures import Warmth
from clusteradm.health import Severity
from clusteradm.jobs.pace import Pace, RankPace
from clusteradm.jobs.use import Use

BUSY, STARVED = Use(0.97, 0.01, 0.01), Use(0.3, 0.05, 0.6)


def pace(hosts: int, tpus: int, use: Use | None = BUSY) -> Pace:
    ranks = tuple(
        RankPace(f"w{host}", f"000{tpu}:01:00.0", 8, "ready", None, 10.0 * host, use)
        for host in range(1, hosts + 1)
        for tpu in range(1, tpus + 1)
    )
    return Pace(400, 1000, ranks, rates={f"w{host}": 10.0 * host * tpus for host in range(1, hosts + 1)})


def warm(host: str, _: str | None) -> Warmth | None:
    return Warmth(91.4, Severity.WARNING, "HOT") if host == "w2" else Warmth(50.2) if host == "w1" else None


def drawn(what: object, width: int = 100) -> list[str]:
    output = show.Output(width=width)
    with output.capture() as captured:
        output.print(what)
    return captured.get().splitlines()


def test_a_row_for_each_rank() -> None:
    lines = drawn(job_live.table(pace(3, 1), warm, 20))
    assert lines[0].split() == ["host", "images/s", "TPU", "°C", "█TPU", "▒input", "░network", "waits", "for", "queue"]
    assert [line.split() for line in lines[1:3]] == [
        ["w1", "10.0", "0001:01:00.0", "50", "█" * 16, "TPU", "97", "%", "8"],
        ["w2", "20.0", "0001:01:00.0", "91", "█" * 16, "TPU", "97", "%", "HOT", "8"],
    ]
    assert job_live.summary(pace(3, 1)) == "60.0 images/s, 0:10 left, 576 queued"
    assert job_live.summary(replace(pace(3, 1), errors=1200)).endswith(" queued, 1,200 failed")


def test_several_tpus_of_a_host_have_its_sum_once() -> None:
    lines = [line.split() for line in drawn(job_live.table(pace(2, 2, STARVED), warm, 20))[1:]]
    assert [line[:3] for line in lines] == [
        ["w1", "20.0", "0001:01:00.0"],
        ["0002:01:00.0", "10.0", "50"],
        ["w2", "40.0", "0001:01:00.0"],
        ["0002:01:00.0", "20.0", "91"],
    ]
    assert all(line[-4:-1] == ["network", "60", "%"] or "HOT" in line for line in lines)


def test_stages_of_pipelines() -> None:
    ranks = tuple(
        RankPace(f"w{n}", "0001:01:00.0", 8, "ready", None, 20.0, BUSY, f"1.{n}" if n < 3 else "") for n in (1, 2, 3)
    )
    lines = drawn(job_live.table(Pace(4, 9, ranks, rates={"w1": 0.0, "w2": 20.0, "w3": 20.0}), warm, 9))
    assert [line.split()[:5] for line in lines[1:3]] == [
        ["w1", "0.0", "0001:01:00.0", "1.1", "20.0"],
        ["w2", "20.0", "0001:01:00.0", "1.2", "20.0"],
    ]


def test_what_has_no_room_is_summed_up() -> None:
    hosts = drawn(job_live.table(pace(6, 4), warm, 10))
    assert [line.split()[:3] for line in hosts[1:]] == [[f"w{n}", f"{40.0 * n:.1f}", "4"] for n in range(1, 7)]
    slowest = drawn(job_live.table(pace(60, 4), warm, 10))
    assert len(slowest) == 11 and slowest[-1].split() == ["and", "51", "faster"]
    assert [line.split()[0] for line in slowest[1:-1]] == [f"w{n}" for n in range(1, 10)]


def test_a_rank_that_is_lost_and_one_that_has_nothing_to_do() -> None:
    lost = RankPace("w1", None, 0, "failed", "gone", 0.0)
    idle = RankPace("w2", None, 0, "ready", None, 0.0)
    lines = drawn(job_live.table(Pace(4, 9, (lost, idle), rates={"w1": 0.0, "w2": 0.0}), warm, 9))
    assert "CPU" in lines[1] and "left out" in lines[1] and "no input left" in lines[2]
    assert Pace(4, 9, (lost,), rates={"w1": 0.0}).left is None


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    evil = RankPace("w\x1b[31m" + "x" * 90, "\u202e0000", 8, "ready", "\x1b]0;t", 1.0, STARVED)
    lines = drawn(job_live.table(Pace(4, 9, (evil,), rates={evil.host: 1.0}), warm, 9), width)
    assert max(map(len, lines)) <= width and "\x1b" not in "".join(lines) and "\u202e" not in "".join(lines)


def test_before_anything_is_measured_it_is_a_bar() -> None:
    live = Live()
    live.update("starting", Pace(0, 9, ()))
    assert "images/s" not in "\n".join(drawn(live.render()))
    live.update("running", pace(2, 1))
    assert "30.0 images/s" in "\n".join(drawn(live.render()))


def test_durations() -> None:
    assert [duration(seconds) for seconds in (0.2, 67, 750, 10_800, 1e12)] == [
        "0:00",
        "1:07",
        "12:30",
        "3:00:00",
        "99:59:59",
    ]
