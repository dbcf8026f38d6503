"""What is said of a job while it runs: what is left out, what is back, behind which jobs it waits."""

from __future__ import annotations

import pytest

from clusteradm.cli.job_view import watch
from clusteradm.jobs import Update
from clusteradm.node.spec.wire.job import Attempt, Progress, RankProgress, Status


def ranks(state: str = "ready", error: str | None = None) -> tuple[RankProgress, ...]:
    return RankProgress(1, "head", "A", state="ready"), RankProgress(2, "w1", "B", state=state, error=error)


def progress(attempt: int, found: tuple[RankProgress, ...]) -> Progress:
    return Progress(attempt, "running", 9, 1, 0, 1.0, 1.0, 2.0, found)


def test_what_is_left_out_and_what_is_back(capsys: pytest.CaptureFixture[str]) -> None:
    one, two = Attempt(1, 1.0, ("head", "w1")), Attempt(2, 2.0, ("head", "w1"))
    running = Status("running", attempts=(one,))
    ended = Attempt(**{**vars(one), "status": 0, "back": "w1 B"})
    lost = progress(1, ranks("failed", "w1 has not answered for 5 s"))
    late = progress(1, ranks("ready", "w1 has not come on with its inputs for 5 s"))
    said = [
        Update(Status("queued", ahead=("J1", "J2"))),
        Update(Status("queued", ahead=("J2",))),
        Update(running, progress(1, ranks())),
        Update(running, late),
        Update(running, lost),
        Update(running, lost),
        Update(running, progress(1, ranks())),
        Update(running, lost),
        Update(Status("running", attempts=(ended, two)), progress(2, ranks())),
    ]
    assert watch(said).state == "running"
    assert capsys.readouterr().err.splitlines() == [
        "queued behind 2 jobs: J1, J2",
        "queued behind 1 job: J2",
        "warning: w1 B is left out: w1 has not come on with its inputs for 5 s",
        "warning: w1 B is left out: w1 has not answered for 5 s",
        "w1 B is back",
        "warning: w1 B is left out: w1 has not answered for 5 s",
        "w1 B can work again: attempt 2 on head, w1 does what is missing",
        "w1 B is back",
    ]


def test_why_a_job_waits_for_slurm_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    waits = Update(Status("queued", slurm="7 PENDING (Resources)"))
    goes_on = Update(Status("running", attempts=(Attempt(1, 1.0, ("head",)),), slurm="7 RUNNING"))
    again = Update(Status("queued", slurm="7 PENDING (\x1b[1mBeginTime)"))
    watch([waits, waits, goes_on, again])
    assert capsys.readouterr().err.splitlines() == [
        "waiting for Slurm: job 7 PENDING (Resources)",
        "waiting for Slurm: job 7 PENDING (\\x1b[1mBeginTime)",
    ]
