"""`infer --watch DIR`: a job that stays open, and takes the files that come into a folder here or on the head."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clusteradm import regular
from clusteradm.cli import next_step, show
from clusteradm.cli.context import at_head
from clusteradm.cli.display import ask
from clusteradm.cli.job_view import watch
from clusteradm.cli.show import counted
from clusteradm.errors import HostUnreachable, UsageError
from clusteradm.jobs import Jobs, Plan, formats, writable
from clusteradm.jobs.appending import Appending
from clusteradm.jobs.inputs import ON_HEAD
from clusteradm.jobs.ledger import Ledger
from clusteradm.jobs.watching import Folder, Watch
from clusteradm.models.reference import Reference
from clusteradm.node.spec.wire.job import Status
from clusteradm.node.spec.wire.job_names import COMPLETE, OPEN
from clusteradm.node.spec.wire.manifest import CLASSIFIER, RAW
from clusteradm.transport import Connections

_SAY_SECONDS = 60.0  # between two lines about what is done, where there is no terminal
_INTERRUPTED = 130
# What makes a job another one.
_ASKED = ("watch", "model", "version", "task", "top", "threshold", "mean", "std", "layout", "fit", "sample_rate", "cpu")
_ASKED_TOO = ("ranks", "limit", "format")


def check(args: argparse.Namespace) -> None:
    """Raise UsageError where the options contradict each other, or DIR is no folder."""
    for name in ("truth", "annotate", "report", "similar"):
        if getattr(args, name) is not None:
            raise UsageError(f"--watch has no end, which --{name} waits for", next_step="leave one of the two out")
    if args.inputs:
        raise UsageError("--watch takes the files of its folder, and no INPUTS besides", next_step="leave them out")
    if not args.model:
        raise UsageError("--watch takes --model NAME", next_step="clusteradm infer --help shows examples")
    Reference.parse(args.model)
    if args.format not in (formats.JSONL, formats.CSV):
        raise UsageError(f"--format {args.format} cannot be appended to", next_step="--format jsonl or csv")
    if args.output in (None, "-"):
        raise UsageError(
            "--watch appends to a file, beside which it keeps the record of what was taken", next_step="--output FILE"
        )
    if args.watch.startswith(ON_HEAD):
        if regular.readable(args.watch) != args.watch:
            raise UsageError("the path is not UTF-8, and cannot be sent", where=regular.readable(args.watch))
    elif not regular.is_folder(Path(args.watch)):
        raise UsageError(
            f"no folder {regular.readable(args.watch)} here",
            next_step=f"what is on the head is named {ON_HEAD}{regular.readable(args.watch)}",
        )
    elif args.detach:
        raise UsageError(
            "--detach leaves the job to itself, and a folder of this machine is watched by this command",
            next_step=f"a folder on the head is watched there: --watch {ON_HEAD}DIR",
        )


def run(args: argparse.Namespace, plan_of: Callable[[Connections], Plan]) -> int:
    """Watch until Ctrl-C, or the end of the job. `plan_of` makes the plan of a new one."""
    output = writable(Path(args.output))
    ledger = Ledger(output)
    try:
        with at_head(args) as (connections, cluster), _terminated():
            return _Command(args, Jobs(connections, cluster), ledger, output).run(lambda: plan_of(connections))
    finally:
        ledger.close()


@contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM is Ctrl-C: systemd ends a service by it."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Command:
    def __init__(self, args: argparse.Namespace, jobs: Jobs, ledger: Ledger, output: Path) -> None:
        self._args, self._jobs, self._ledger, self._output = args, jobs, ledger, output
        place = str(args.watch)
        self._on_head = place.removeprefix(ON_HEAD) or "." if place.startswith(ON_HEAD) else None
        asked = {name: getattr(args, name) for name in (*_ASKED, *_ASKED_TOO)}
        if self._on_head is None:
            asked["watch"] = regular.readable(Path(place).resolve())
        self._what = json.dumps(asked, default=str)
        self._images = self._errors = self._taken = 0

    def run(self, make_plan: Callable[[], Plan]) -> int:
        job, after = self._before()
        while True:
            job = self._begin(make_plan, after) if job is None else self._go_on(job)
            if self._args.detach:
                return self._leave(job)
            status, interrupted = self._follow(job)
            self._ledger.end()
            self._ledger.put("last", job)
            if interrupted or self._on_head is not None or status.state != COMPLETE:
                break
            show.message(f"job {job} has ended, as it heard nothing of this command for a while")
            job = after = None
        self._say(job, status)
        if not interrupted:
            self._jobs.check(job, status)
        return _INTERRUPTED if interrupted else 0

    def _begin(self, make_plan: Callable[[], Plan], after: str | None) -> str:
        plan = make_plan()
        job = self._jobs.open(plan, self._on_head, after, top=plan.top)
        self._ledger.begin(job, self._what)
        ranks = counted(plan.ranks, "rank")
        show.message(f"job {job}: {plan.model.name} version {plan.model.version}, {ranks}, watches {self._place()}")
        return job

    def _go_on(self, job: str) -> str:
        show.message(f"job {job} goes on: it watches {self._place()}")
        return job

    def _place(self) -> str:
        return show.line(regular.readable(self._args.watch))

    def _before(self) -> tuple[str | None, str | None]:
        """The job of an earlier command, if it is open and was asked for the same; and that whose files are not to be
        taken again. Of one that has ended, or was asked for something else, what is left of its results is fetched."""
        job = self._ledger.job
        if job is None:
            return None, self._ledger.get("last") if self._same_place() else None
        if job not in {summary.job for summary in self._jobs.list()}:
            show.message(f"warning: job {job} of an earlier command was removed")
            self._ledger.end()
            return None, None
        state = self._jobs.show(job).status.state
        if state in OPEN and self._ledger.what == self._what:
            return job, None
        show.message(f"job {job} of an earlier command: fetching what is left of its results")
        if state in OPEN:
            self._jobs.end(job)
        self._drain(job)
        self._ledger.end()
        self._ledger.put("last", job)
        return None, job if self._same_place() else None

    def _same_place(self) -> bool:
        """Whether the job before watched the same folder of the head."""
        if self._on_head is None or self._ledger.what is None:
            return False
        return bool(json.loads(self._ledger.what).get("watch") == self._args.watch)

    def _drain(self, job: str) -> None:
        output = self._appending(job)
        watch(Watch(self._jobs, job, self._ledger, output, None, _tell).updates(), every=_SAY_SECONDS)
        self._images, self._errors = self._images + output.images, self._errors + output.errors

    def _appending(self, job: str) -> Appending:
        model = self._jobs.show(job).spec
        return Appending(
            self._output, self._args.format, model.model.task or (CLASSIFIER if model.top else RAW), self._ledger
        )

    def _follow(self, job: str) -> tuple[Status, bool]:
        """Follow the job to its end; its last status, and whether it was ended from here."""
        output = self._appending(job)
        folder = None if self._on_head is not None else Folder(Path(self._args.watch), self._ledger)
        followed = Watch(self._jobs, job, self._ledger, output, folder, _tell)
        interrupted = False
        try:
            while True:
                try:
                    return watch(followed.updates(), every=_SAY_SECONDS), interrupted
                except KeyboardInterrupt:
                    self._jobs.drop()
                    if followed.stopping:
                        self._cancel(job)
                        raise
                    if folder is None and _left():
                        self._leave(job)
                        raise
                    interrupted = True
                    show.message("no more files are taken; the results of those that were are waited for ...")
                    followed.stop()
        except HostUnreachable as error:
            raise HostUnreachable(error.what, where=error.where, next_step=self._again()) from error
        except (OSError, sqlite3.Error) as error:
            what = getattr(error, "strerror", None) or str(error)
            raise UsageError(f"cannot write it: {what}", where=str(self._output), next_step=self._again()) from error
        finally:
            self._images, self._errors = self._images + output.images, self._errors + output.errors
            if folder is not None:
                self._taken += folder.taken
                folder.close()

    def _again(self) -> str:
        return f"nothing is lost; to go on: {next_step.again(self._args)}"

    def _cancel(self, job: str) -> None:
        show.message(f"cancelling job {job} ...")
        self._jobs.cancel(job)
        self._drain(job)
        self._ledger.end()
        self._ledger.put("last", job)
        show.message(f"job {job} is cancelled; files without a result are taken the next time")

    def _leave(self, job: str) -> int:
        if self._args.json:
            show.json_document("infer", {"job": job, "detached": True})
        else:
            words = [word for word in self._args.typed if word != "--detach"]
            show.message(f"it goes on; its results: {shlex.join(['clusteradm', *words])}")
        return 0

    def _say(self, job: str, status: Status) -> None:
        if self._args.json:
            model = status.model
            show.json_document(
                "infer",
                {
                    "job": job,
                    "state": status.state,
                    "model": {"name": model.name, "version": model.version, "sha256": model.sha256} if model else None,
                    "watch": regular.readable(self._args.watch),
                    "output": str(self._output),
                    "files": None if self._on_head is not None else self._taken,
                    "images": self._images,
                    "errors": self._errors,
                },
            )
            return
        failed = f", {self._errors:,} of them errors" if self._errors else ""
        show.stdout.print(f"{counted(self._images, 'result')}{failed} appended to {self._output}")


def _tell(text: str) -> None:
    show.message(show.line(text))


def _left() -> bool:
    """Whether the person of this terminal wants the job to go on. Ctrl-C again, or no answer, is no."""
    if not (show.stderr.is_terminal and sys.stdin.isatty()):
        return False
    try:
        return (ask("end the job, or leave it running? [E/l] ") or "").strip().lower() in ("l", "leave")
    except KeyboardInterrupt:
        return False
