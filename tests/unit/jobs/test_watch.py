"""When an attempt of mpirun is to be ended, by what rank 0 writes; and what a worker process says of itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clusteradm.node.job import files, launch, watch
from clusteradm.node.job.pulse import Pulse
from clusteradm.node.job.watch import Watch
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.job import Progress, RankProgress

LOG = "/nowhere/log"
PIPES: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(watch, "time", clock)
    return clock


def after(observer: Watch, clock: Clock, seconds: float) -> str | None:
    """What it says when so many seconds have passed, in which it was asked twice a second."""
    said = None
    for _ in range(int(seconds * 2)):
        clock.now += 0.5
        said = observer.overdue(0)
    return said


def write(path: Path, attempt: int, phase: str, now: float) -> None:
    files.write_json(str(path), Progress(attempt, phase, 4, 0, 0, None, None, now, ()))


def test_ranks_that_never_start(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "progress.json"
    write(path, 1, "running", 5.0)  # of the attempt before
    observer = Watch(str(path), 2, 10, LOG, lambda: True)
    assert after(observer, clock, watch.START_SECONDS - 1) is None
    assert after(observer, clock, 5) == "the ranks did not start in 60 s"
    # With five million inputs, rank 0 reads for long before it writes.
    assert after(Watch(str(path), 2, 5_000_000, LOG, lambda: True), clock, 600) is None


def test_a_rank_0_that_does_nothing(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "progress.json"
    observer = Watch(str(path), 1, 10, LOG, lambda: True)
    for now in range(5):
        write(path, 1, "running", float(now))
        assert after(observer, clock, watch.SILENT_SECONDS - 1) is None
    assert after(observer, clock, 5) == "rank 0 did nothing for 60 s"


def test_an_mpirun_that_does_not_end_after_its_rank_0(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "progress.json"
    observer = Watch(str(path), 1, 10, LOG, lambda: True)
    write(path, 1, "finished", 1.0)
    assert after(observer, clock, watch.END_SECONDS - 1) is None
    assert after(observer, clock, 5) == "a host did not end its ranks in 5 s"


def test_a_rank_0_that_has_died(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "progress.json"
    alive = [True]
    observer = Watch(str(path), 1, 10, LOG, lambda: alive[0])
    write(path, 1, "running", 1.0)
    assert after(observer, clock, 5) is None
    alive.clear()
    alive.append(False)
    assert after(observer, clock, 1) == "rank 0 has ended"
    # One that has come to its end has let go of the journal.
    write(path, 1, "finished", 2.0)
    assert after(observer, clock, 1) is None


def test_a_rank_0_that_has_died_before_it_wrote(tmp_path: Path, clock: Clock) -> None:
    alive = [False]
    observer = Watch(str(tmp_path / "progress.json"), 1, 10, LOG, lambda: alive[0])
    assert after(observer, clock, 5) is None, "it starts"
    alive[0] = True
    assert after(observer, clock, 1) is None
    alive[0] = False
    assert after(observer, clock, 1) == "rank 0 has ended"


def test_a_lost_rank_is_not_waited_for_at_the_end(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "progress.json"
    observer = Watch(str(path), 1, 10, LOG, lambda: False)
    lost = RankProgress(1, "w1", None, state="failed", fault="silent")
    files.write_json(str(path), Progress(1, "finished", 4, 4, 0, None, None, 1.0, (lost,)))
    assert after(observer, clock, 2) == "a host did not end its ranks in 0.5 s"


def test_a_rank_that_could_not_begin_ends_the_attempt_at_once(tmp_path: Path, clock: Clock) -> None:
    log = tmp_path / "log"
    log.write_text(f"[1,2]<stderr>:{job_names.NOT_BEGUN}\n")  # of the attempt before
    observer = Watch(str(tmp_path / "progress.json"), 2, 10, str(log), lambda: False)
    assert after(observer, clock, 2) is None
    with log.open("a") as file:
        file.write(
            "[1,2]<stderr>:ModuleNotFoundError: No module named 'mpi4py'\n[1,2]<stderr>:" + job_names.NOT_BEGUN[:15]
        )
    assert after(observer, clock, 1) is None
    with log.open("a") as file:
        file.write(job_names.NOT_BEGUN[15:] + "\n")
    assert after(observer, clock, 1) == "a rank could not begin"


def test_a_rank_of_the_head_that_ends_before_it_begins(tmp_path: Path, clock: Clock) -> None:
    """Of which mpirun says nothing: it is told to let the others wait."""
    rank = f"OMPI_COMM_WORLD_RANK=0 exec {sys.executable} -c 'import time; print(1, flush=True); time.sleep(600)'"
    with subprocess.Popen(["sh", "-c", f"{rank} & read line; kill $!; wait; echo; read line"], **PIPES) as mpirun:
        assert mpirun.stdin is not None and mpirun.stdout is not None
        mpirun.stdout.readline()
        observer = Watch(str(tmp_path / "progress.json"), 1, 10, LOG, lambda: False)
        assert launch.ranks(mpirun.pid) == {0}
        assert observer.overdue(mpirun.pid) is None
        mpirun.stdin.write("\n")
        mpirun.stdin.flush()
        mpirun.stdout.readline()
        assert observer.overdue(mpirun.pid) == "rank 0 has ended before it could begin"
        mpirun.communicate("\n")


def test_a_head_that_was_frozen_itself_ends_nothing(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "progress.json"
    observer = Watch(str(path), 1, 10, LOG, lambda: True)
    write(path, 1, "running", 1.0)
    assert observer.overdue(0) is None
    clock.now += 3600
    assert observer.overdue(0) is None


def test_the_pulse_says_what_is_worked_on_and_how_long_it_takes() -> None:
    pulse = Pulse()
    assert (pulse.step, pulse.inferred, pulse.inputs(), pulse.slowest) == (0, None, set(), 0.0)
    pulse.decode(0, 0)
    pulse.decode(2, 7)
    pulse.begin(5)
    assert (pulse.step, pulse.inferred, pulse.inputs()) == (1, 5, {0, 5, 7})
    pulse.decode(0, None)
    pulse.end(0.5)
    assert (pulse.inferred, pulse.inputs(), pulse.slowest) == (None, {7}, 0.5)
    for seconds in (0.1, 0.6, 3600.0):  # of the last it was stopped with its host
        pulse.end(seconds)
    assert pulse.slowest == 2.4
