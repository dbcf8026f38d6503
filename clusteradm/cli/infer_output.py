"""What `infer` makes of a job's results: another format, annotated pictures, an order by similarity."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from clusteradm import regular
from clusteradm.cli import next_step, show
from clusteradm.cli.job_view import counting
from clusteradm.cli.show import counted
from clusteradm.errors import UsageError
from clusteradm.jobs import HeadInputs, Jobs, LocalInputs, Results, annotate, formats, similar, writable
from clusteradm.jobs.inputs import File
from clusteradm.node.spec.wire.manifest import EMBEDDING

_MOST_SHOWN = 10  # similar inputs
_MOST_WARNINGS = 3  # pictures that were not drawn
_LATER = "clusteradm job show JOB --report FILE writes it once the job has ended"


@dataclass(frozen=True)
class Wanted:
    """What the options ask for. `pictures`: the files of the inputs by name; `query`: what the results call the file of
    --similar."""

    form: str
    folder: Path | None = None
    pictures: Mapping[str, File] = field(default_factory=dict)
    query: str | None = None

    def write(self, results: Results, task: str | None, into: BinaryIO) -> None:
        """Write the results in the format that is asked for."""
        if self.form == formats.JSONL:
            results.copy(into)
        else:
            formats.write(self.form, task, results.lines, into)

    def check(self, task: str | None) -> None:
        """Raise UsageError where the results of a task cannot be had so, or packages are missing."""
        formats.check(self.form, task)
        if self.folder is not None:
            annotate.require(task)
        if self.query is not None and task != EMBEDDING:
            raise UsageError(
                f"--similar compares embeddings, and the results are those of the task {task or 'raw'}",
                next_step="--task embed, if the model's output is one",
            )


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add --format."""
    parser.add_argument(
        "--format", choices=formats.FORMATS, default=formats.JSONL, help="of the results (default: JSON Lines)"
    )


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add --report."""
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write a page about the job: its speed, ranks, errors and pictures"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --format, --annotate, --report and --similar."""
    add_format(parser)
    parser.add_argument("--annotate", type=Path, metavar="DIR", help="write the pictures to DIR with what was found")
    add_report(parser)
    parser.add_argument("--similar", metavar="FILE", help="of embeddings: rank the inputs by similarity to FILE")


def check_report(args: argparse.Namespace) -> None:
    """Raise UsageError where the file of --report cannot be written."""
    if str(args.report) == "-":
        raise UsageError("--report is a page, and written to a file", next_step="--report FILE.html")
    writable(args.report, "the report")


def check_format(args: argparse.Namespace) -> None:
    """Raise UsageError where the format that is asked for cannot be had or shown."""
    if args.format != formats.JSONL:
        formats.require(args.format)
        if args.output in (None, "-") and (args.json or args.format != formats.CSV):
            raise UsageError(f"--format {args.format} is written to a file", next_step="--output FILE")


def wanted(
    args: argparse.Namespace, inputs: LocalInputs | HeadInputs | None
) -> tuple[Wanted, LocalInputs | HeadInputs | None]:
    """What the options ask for, and the inputs with the file of --similar. Raises UsageError for what cannot be."""
    for name in ("annotate", "similar") if args.watch is None else ():
        if getattr(args, name) is not None and not isinstance(inputs, LocalInputs):
            raise UsageError(f"--{name} takes a new job's inputs, which are files of this machine")
        if getattr(args, name) is not None and args.detach:
            raise UsageError(f"--detach does not wait for results: without --{name}")
    if args.report is not None:
        check_report(args)
        if args.output not in (None, "-") and Path(args.output).resolve() == args.report.resolve():
            raise UsageError(
                f"--output and --report are the same file, {args.report}", next_step="give each a file of its own"
            )
        if args.detach:
            raise UsageError("--detach does not wait for the job: without --report", next_step=_LATER)
    check_format(args)
    query = None
    if args.similar is not None and isinstance(inputs, LocalInputs):
        inputs, query = similar.with_query(inputs, args.similar)
    elif args.similar is not None:
        query = similar.query_file(args.similar).name
    if args.annotate is not None:
        try:
            args.annotate.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"--annotate: cannot write to {regular.readable(args.annotate)}: {error.strerror}",
                next_step="name a folder, which is made where it is missing",
            ) from None
    pictures = {file.name: file for file in inputs.files} if isinstance(inputs, LocalInputs) else {}
    return Wanted(args.format, args.annotate, pictures, query), inputs


def again(args: argparse.Namespace, job: str) -> str:
    """The command that fetches the results of a job, as the options say."""
    form = "" if args.format == formats.JSONL else f" --format {args.format}"
    return f"clusteradm job results {job} --output FILE{form}"


@contextmanager
def storing(args: argparse.Namespace, job: str, where: str) -> Iterator[None]:
    """What keeps the results of a job from being written here, as UsageError that says where they still are."""
    try:
        yield
    except KeyboardInterrupt:
        show.message(f"job {job} is complete; its results: {next_step.complete(again(args, job), args)}")
        raise
    except OSError as error:
        raise UsageError(
            f"cannot write it: {error.strerror}", where=where, next_step=f"they are on the head: {again(args, job)}"
        ) from error


@contextmanager
def fetched(args: argparse.Namespace, jobs: Jobs, job: str, name: str, command: str) -> Iterator[BinaryIO]:
    """A file of a job, in a temporary one. Raises UsageError where there is no room for it here. `command`: fetches it
    again."""
    with tempfile.TemporaryFile() as file:
        try:
            jobs.fetch(job, name, file)
            file.flush()
        except KeyboardInterrupt:
            show.message(f"{name} of job {job} is on the head: {next_step.complete(command, args)}")
            raise
        except OSError as error:
            raise UsageError(
                f"cannot store {name} of job {job}, which is on the head: {error.strerror}",
                where=tempfile.gettempdir(),
                next_step=f"make room there, or set TMPDIR to a folder of a larger disk; then: {command}",
            ) from error
        file.seek(0)
        yield file


def draw(args: argparse.Namespace, asked: Wanted, jobs: Jobs, results: Results) -> None:
    """Write the annotated pictures, and say how many."""
    if asked.folder is None:
        return

    def fetch(name: str, into: BinaryIO) -> None:
        jobs.fetch(results.job, name, into)

    drawn, failed = 0, []
    total = len(asked.pictures)
    with counting("drawing the pictures") as progress:
        try:
            for result, why in annotate.draw(results.lines(), asked.pictures, asked.folder, fetch):
                drawn += why is None
                if why is not None:
                    failed.append(f"{show.line(result.input)}: {show.line(why)}")
                progress(drawn + len(failed), total)
        except OSError as error:
            what = f"--annotate: cannot write to {regular.readable(asked.folder)}: {error.strerror}"
            there = f"{counted(drawn, 'picture')} {'is' if drawn == 1 else 'are'} there"
            kept = f"the results are in {args.output}" if args.output not in (None, "-") else "the results are written"
            raise UsageError(what, next_step=f"{there}, and {kept}; pictures are drawn by a new job alone") from error
    for text in failed[:_MOST_WARNINGS]:
        show.message(f"warning: not drawn: {text}")
    if len(failed) > _MOST_WARNINGS:
        show.message(f"warning: not drawn: {len(failed) - _MOST_WARNINGS} more")
    show.message(f"{counted(drawn, 'picture')} in {asked.folder}")


def ranking(asked: Wanted, results: Results) -> list[similar.Similar]:
    """The inputs by similarity; none if that is not asked for."""
    if asked.query is None:
        return []
    return similar.rank(results.lines, asked.query)


def print_ranking(ranked: list[similar.Similar], console: Any) -> None:
    """Print the most similar inputs."""
    if not ranked:
        return
    table = show.Table("similarity", "input")
    for one in ranked[:_MOST_SHOWN]:
        table.add_row("-" if one.similarity is None else f"{one.similarity:.4f}", show.line(one.input))
    console.print(table)
