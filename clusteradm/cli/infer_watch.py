"""`infer --watch DIR`: a job that stays open, and takes the files that come into a folder here or on the head."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from clusteradm import regular
from clusteradm.cli import infer_output, job_report, next_step, show
from clusteradm.cli.context import at_head
from clusteradm.cli.display import ask
from clusteradm.cli.job_view import transfer, watch
from clusteradm.cli.show import counted
from clusteradm.errors import HostUnreachable, UsageError
from clusteradm.jobs import Jobs, LocalInputs, Plan, Results, Update, formats, similar, writable
from clusteradm.jobs.appending import MOST_SIMILAR, Appending, Drawing
from clusteradm.jobs.inputs import ON_HEAD, File
from clusteradm.jobs.ledger import Ledger
from clusteradm.jobs.passing import passing
from clusteradm.jobs.plan import task_of
from clusteradm.jobs.similar import Query, Similar
from clusteradm.jobs.watching import Folder, Watch
from clusteradm.models.reference import Reference
from clusteradm.node.spec.wire.job import Status
from clusteradm.node.spec.wire.job_names import COMPLETE, OPEN, RESULTS
from clusteradm.node.spec.wire.manifest import RAW
from clusteradm.transport import Connections

_SAY_SECONDS = 60.0  # between two lines about what is done, where there is no terminal
_INTERRUPTED = 130
# What makes a job another one.
_ASKED = ("watch", "model", "version", "task", "top", "threshold", "mean", "std", "layout", "fit", "sample_rate", "cpu")
_ASKED_TOO = ("ranks", "pipeline", "limit", "format")


def check(args: argparse.Namespace) -> None:
    """Raise UsageError where the options contradict each other, or DIR is no folder."""
    if args.truth is not None:
        raise UsageError(
            "--truth measures the accuracy over all inputs, and to a folder that is watched more come",
            next_step="without --watch, for the files that are there: clusteradm infer --model NAME DIR --truth FILE",
        )
    if args.annotate is not None and args.watch.startswith(ON_HEAD):
        raise UsageError(
            "--annotate draws pictures of this machine, and those of the folder are on the head",
            next_step="watch a folder of this machine: --watch DIR, which may be one of a network file system",
        )
    if args.inputs:
        raise UsageError("--watch takes the files of its folder, and no INPUTS besides", next_step="leave them out")
    if not args.model:
        raise UsageError("--watch takes --model NAME", next_step="clusteradm infer --help shows examples")
    Reference.parse(args.model)
    if args.format == formats.NPY:
        raise UsageError(
            "--format npy is one array, which begins with the number of its rows: it is not appended to",
            next_step=f"--format {formats.PARQUET}: the same numbers, in a folder to which files are added",
        )
    if args.output in (None, "-"):
        raise UsageError(
            "--watch appends to a file, beside which it keeps the record of what was taken",
            next_step="--output DIR" if args.format == formats.PARQUET else "--output FILE",
        )
    if not args.watch:
        raise UsageError("--watch without a folder", next_step="the current folder is named .")
    if args.watch.startswith(ON_HEAD):
        if not regular.is_text(args.watch):
            raise UsageError("the path is not UTF-8, and cannot be sent", where=regular.readable(args.watch))
    elif not regular.is_folder(Path(args.watch)):
        raise UsageError(
            f"no folder {regular.readable(args.watch)} here",
            next_step=f"what is on the head is named {ON_HEAD}{regular.readable(args.watch)}",
        )
    elif inside := [name for name in ("output", "annotate") if _is_within(getattr(args, name), args.watch)]:
        raise UsageError(
            f"--{inside[0]} is in the folder that is watched: what is written there would be taken as an input",
            next_step="name a place outside of it",
        )
    elif args.detach:
        raise UsageError(
            "--detach leaves the job to itself, and a folder of this machine is watched by this command",
            next_step=f"a folder on the head is watched there: --watch {ON_HEAD}DIR",
        )


def _is_within(path: str | Path | None, folder: str) -> bool:
    return path is not None and Path(path).resolve().is_relative_to(Path(folder).resolve())


def run(args: argparse.Namespace, plan_of: Callable[[Connections], Plan]) -> int:
    """Watch until Ctrl-C, or the end of the job. `plan_of` makes the plan of a new one."""
    output = _output(args)
    ledger = Ledger(output)
    try:
        _check_format(args, ledger)
        with at_head(args) as (connections, cluster), _terminated():
            command = _Command(args, Jobs(connections, cluster), ledger, output)
            status = command.run(lambda: plan_of(connections))
            if args.report is not None and not args.detach:
                job_report.of_ended(args, ledger.get("last") or "", Jobs(connections, cluster), cluster)
            return status
    finally:
        ledger.close()


def _output(args: argparse.Namespace) -> Path:
    """The file for the results, or of Parquet the folder, which is made. Raises UsageError."""
    output = Path(args.output)
    if args.format != formats.PARQUET:
        return writable(output)
    try:
        output.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot write to {regular.readable(output)}: {error.strerror}",
            next_step="--format parquet is written to a folder, which is made where the folder above it is there",
        ) from None
    return output


def _check_format(args: argparse.Namespace, ledger: Ledger) -> None:
    """Raise UsageError where the output holds results of another form."""
    before = json.loads(ledger.what or "{}")
    if not ledger.lines or not before:
        return
    form, has_similarity = before.get("format"), before.get("similar") is not None
    same = form == args.format
    if same and (form == formats.JSONL or has_similarity == (args.similar is not None)):
        return
    have = f"--format {form}" + (f" {'with' if has_similarity else 'without'} --similar" if same else "")
    raise UsageError(f"{regular.readable(args.output)} has results of {have}", next_step="name another --output")


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
        self._watched = asked["watch"]
        self._query_file = None if args.similar is None else similar.query_file(args.similar)
        self._query = asked["similar"] = self._query_file and similar.digest(self._query_file)
        self._what = json.dumps(asked, default=str)
        self._images = self._errors = self._taken = self._drawn = 0
        self._similar: list[Similar] = []

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
        task = task_of(plan.model, plan.top)
        before = self._ledger.get("task")
        if self._ledger.lines and before not in (None, task) and self._args.format != formats.JSONL:
            what = f"{self._output} has results of --task {before}, which have other columns than those of {task}"
            raise UsageError(what, next_step="name another --output")
        if self._query_file is not None:
            self._find_query(self._query_file, plan)
        job = self._jobs.open(plan, self._on_head, after, top=plan.top)
        self._ledger.begin(job, self._what)
        self._ledger.put("task", task)
        ranks = counted(plan.ranks, "rank")
        show.message(f"job {job}: {plan.model.name} version {plan.model.version}, {ranks}, watches {self._place()}")
        return job

    def _find_query(self, file: File, plan: Plan) -> None:
        """Have the vector of --similar's file in the ledger, by a job of its own unless it is there."""
        key = json.dumps([self._query, plan.model.sha256, plan.model.input], default=vars)
        if self._ledger.get("query") == key:
            return

        def follow(job: str, updates: Iterator[Update]) -> Status:
            return watch(updates)

        show.message(f"job for the vector of {show.line(file.name)}")
        one = replace(plan, most=plan.stages)
        with (
            passing(self._jobs, LocalInputs((file,)), one, follow, lambda: transfer("sending the file")) as (job, _),
            tempfile.TemporaryFile() as data,
        ):
            self._jobs.fetch(job, RESULTS, data)
            found = similar.vector(Results(job, self._jobs.head, data).lines(), file.name)
        self._ledger.put("vector", json.dumps(found.vector))
        self._ledger.put("query", key)

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
            Appending(self._output, self._args.format, self._ledger.get("task") or RAW, self._ledger).settle()
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
        self._count(output)

    def _appending(self, job: str) -> Appending:
        spec, asked = self._jobs.show(job).spec, json.loads(self._ledger.what or "{}")
        drawing = query = None
        if self._args.annotate is not None:
            same = asked.get("watch") == self._watched
            drawing = Drawing(self._args.annotate, Path(self._args.watch if same else asked["watch"]))
        if asked.get("similar") is not None:
            query = Query(tuple(json.loads(self._ledger.get("vector") or "[]")))
        task = task_of(spec.model, spec.top)
        return Appending(self._output, self._args.format, task, self._ledger, _tell, drawing, query)

    def _count(self, output: Appending) -> None:
        """Note what an output has had, for the end."""
        self._images, self._errors = self._images + output.images, self._errors + output.errors
        self._drawn += output.drawn
        self._similar = sorted([*self._similar, *output.similar], key=similar.order)[:MOST_SIMILAR]

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
            self._count(output)
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
                    **({} if self._args.report is None else {"report": str(self._args.report)}),
                    **({} if self._args.annotate is None else {"drawn": self._drawn}),
                    **({} if self._args.similar is None else {"similar": [vars(one) for one in self._similar]}),
                },
            )
            return
        failed = f", {self._errors:,} of them errors" if self._errors else ""
        infer_output.print_ranking(self._similar, show.stdout)
        show.stdout.print(f"{counted(self._images, 'result')}{failed} appended to {self._output}")
        if self._args.annotate is not None:
            show.stdout.print(f"{counted(self._drawn, 'picture')} in {self._args.annotate}")


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
