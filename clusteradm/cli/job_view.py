"""View of a job: progress while it runs, the table when it is complete."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TransferSpeedColumn,
)

from clusteradm.cli import show
from clusteradm.cli.display import Display
from clusteradm.cli.job_live import Live
from clusteradm.cli.show import counted
from clusteradm.cli.temperatures import Temperatures
from clusteradm.jobs import JobReport, Update
from clusteradm.jobs.pace import Watcher
from clusteradm.node.spec.wire.job import CUT_OFF, Attempt, RankProgress, Status
from clusteradm.node.spec.wire.job_names import QUEUED, STARTING, UNFINISHED

_PLAIN_EVERY = 5.0  # seconds between two lines where there is no terminal


# Called with how much is done, and how much there is in all.
Advance = Callable[[int, int], None]


def transfer(what: str) -> AbstractContextManager[Advance]:
    """A bar for bytes on a terminal, nothing elsewhere: call it with bytes sent, and bytes in all."""
    return _bar(what, DownloadColumn(), TransferSpeedColumn())


def counting(what: str) -> AbstractContextManager[Advance]:
    """A bar for things on a terminal, nothing elsewhere: call it with how many are done, and how many in all."""
    return _bar(what, MofNCompleteColumn())


@contextmanager
def _bar(what: str, *columns: DownloadColumn | TransferSpeedColumn | MofNCompleteColumn) -> Iterator[Advance]:
    # Disabled, as Display draws it.
    front = (TextColumn("{task.description}", markup=False), BarColumn())
    progress = Progress(*front, *columns, console=show.stderr, disable=True)
    with Display(show.stderr, progress.get_renderable):
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def watch(updates: Iterable[Update], temperatures: Temperatures | None = None, every: float = _PLAIN_EVERY) -> Status:
    """Show a job while it runs: a live view on a terminal, plain lines elsewhere, where something is done, every so
    many seconds. Its last status."""
    status = Status(STARTING)
    watcher, attempt, said, done = Watcher(), 1, 0.0, 0
    ahead: tuple[str, ...] = ()
    waiting = ""
    lost: dict[str, str] = {}  # what is left out, and why
    live = Live(temperatures.of) if temperatures is not None else Live()
    with Display(show.stderr, live.render):
        for update in updates:
            if update.status is None:
                show.message("the connection to the head is lost; the job continues there. Connecting again ...")
                continue
            status, progress = update.status, update.progress
            if status.ahead != ahead:
                ahead = status.ahead
                if ahead:
                    show.message(f"queued behind {counted(len(ahead), 'job')}: {show.line(', '.join(ahead))}")
            if status.state == QUEUED and status.slurm and status.slurm != waiting:
                waiting = status.slurm
                show.message(f"waiting for Slurm: job {show.line(waiting)}")
            attempts = status.attempts[-1].attempt if status.attempts else 0
            if attempts > attempt:
                attempt = attempts
                hosts = show.line(", ".join(status.attempts[-1].hosts))
                before = status.attempts[-2] if len(status.attempts) > 1 else status.attempts[-1]
                ended = f"{'the supervisor' if before.status == CUT_OFF else 'mpirun'} ended early"
                why = f"{show.line(before.back)} can work again" if before.back else ended
                show.message(f"{why}: attempt {attempt} on {hosts} does what is missing")
            if progress is None or progress.attempt != attempt:
                continue
            for rank in progress.ranks:
                place = show.line(_place(rank))
                if rank.error and lost.get(place) != rank.error:
                    lost[place] = rank.error
                    show.message(f"warning: {place} is left out: {show.line(rank.error)}")
                elif rank.state == "ready" and not rank.error and place in lost:
                    del lost[place]
                    show.message(f"{place} is back")
            pace = watcher.update(progress)
            live.update(progress.phase, pace)
            if show.stderr.is_terminal:
                if temperatures is not None:
                    temperatures.watch(rank.host for rank in progress.ranks)
            elif pace.rates and progress.done > done and time.monotonic() - said > every:
                said, done = time.monotonic(), progress.done
                rated = "  ".join(f"{show.line(host)} {rate:,.0f}" for host, rate in pace.rates.items())
                show.message(f"{progress.done:,} of {progress.total:,}   images/s: {rated}")
    return status


def _place(rank: RankProgress) -> str:
    return f"{rank.host} {rank.pci_address or 'CPU'}"


def how_it_ended(attempt: Attempt, state: str) -> str:
    """The end of an attempt, in words. `state`: of its job."""
    if attempt.status is None:
        return "running" if state in UNFINISHED else f"{state} meanwhile"
    if attempt.back:
        return f"ended to take back {attempt.back}"
    return "its supervisor ended" if attempt.status == CUT_OFF else f"mpirun ended with status {attempt.status}"


def print_report(report: JobReport, console: show.Output) -> None:
    """The table of a complete job."""
    table = show.Table(padding=(0, 2, 0, 0), header_style="")
    table.add_column("rank", justify="right")
    table.add_column("host", no_wrap=True)
    table.add_column("TPU", no_wrap=True)
    for name in ("images", "share", "images/s", "busy s", "decode s", "wait s"):
        table.add_column(name, justify="right", no_wrap=True)
    for rank in report.ranks:
        table.add_row(
            str(rank.rank),
            rank.host,
            rank.tpu or rank.pci_address or "CPU",
            f"{rank.images:,}",
            f"{100 * rank.share:.1f} %",
            f"{rank.images_per_second:,.1f}",
            f"{rank.busy_seconds:.2f}",
            f"{rank.decode_seconds:.2f}",
            f"{rank.wait_seconds:.2f}",
        )
    console.print(table)
    for rank in report.ranks:
        if rank.error:
            console.print(f"rank {rank.rank} on {show.line(rank.host)} failed: {show.line(rank.error)}")
    attempts = f", {report.attempts} attempts" if report.attempts > 1 else ""
    console.print(
        f"{counted(report.images, 'image')} in {report.seconds:.2f} s: {report.images_per_second:,.1f} images/s"
        f" (start-up {report.startup_seconds:.2f} s apart{attempts})"
    )
    if report.accuracy:
        right = report.accuracy
        text = f"accuracy: {100 * right.right / right.labelled:.1f} % ({right.right:,} of {right.labelled:,} right"
        top = f"; among the first {right.k}: {right.right_in_top:,})" if right.k > 1 else ")"
        console.print(text + top)
    for device in report.devices:
        console.print(f"device: {show.line(device)}")
