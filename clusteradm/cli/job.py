"""Inference jobs on the head: list them, show one, print its log, cancel, resume or remove it.

Jobs are started by `clusteradm infer`. A job keeps its inputs until it is complete or removed. One that a restart of
the head has interrupted goes on by itself when the head is up again.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import asdict
from pathlib import Path

from clusteradm.cli import infer, infer_output, job_report, next_step, show
from clusteradm.cli.context import add_connection_arguments, at_head
from clusteradm.cli.job_view import how_it_ended
from clusteradm.cli.parser import Parser
from clusteradm.cli.show import counted
from clusteradm.errors import ClusteradmError, HostFailed, UsageError
from clusteradm.jobs import Jobs, Results, writable
from clusteradm.jobs.plan import task_of
from clusteradm.node.spec.wire.job import Attempt, Status
from clusteradm.node.spec.wire.job_names import COMPLETE, LOG, RESULTS, UNFINISHED
from clusteradm.node.spec.wire.job_requests import JobDetails, JobSummary

EXAMPLES = """\
examples:
  clusteradm job list
  clusteradm job show 20261123-170102-3fa9c2
  clusteradm job show 20261123-170102-3fa9c2 --report report.html
  clusteradm job attach 20261123-170102-3fa9c2 --output results.jsonl
  clusteradm job results 20261123-170102-3fa9c2 --output results.jsonl
  clusteradm job logs 20261123-170102-3fa9c2
  clusteradm job cancel 20261123-170102-3fa9c2
  clusteradm job resume 20261123-170102-3fa9c2
  clusteradm job remove 20261123-170102-3fa9c2
"""

# Verb: its line of help, and its example.
_VERBS = {
    "list": ("list every job on the head, the oldest first", ""),
    "show": ("show one job: state, slots, attempts and ranks", " 20261123-170102-3fa9c2"),
    "attach": ("follow a job to its end, and fetch its results", " 20261123-170102-3fa9c2 --output results.jsonl"),
    "results": ("fetch the results of a complete job again", " 20261123-170102-3fa9c2 --output results.jsonl"),
    "logs": ("print the output of mpirun and of the ranks of a job", " 20261123-170102-3fa9c2"),
    "cancel": ("end a job; its inputs and its results so far are kept", " 20261123-170102-3fa9c2"),
    "resume": ("go on with a job that was interrupted, cancelled or failed", " 20261123-170102-3fa9c2"),
    "remove": ("remove jobs that have ended, with their inputs and results", " 20261123-170102-3fa9c2"),
}


def add_arguments(parser: Parser) -> None:
    """The verbs of `clusteradm job`."""
    verbs = parser.add_commands("verb")
    for name, (summary, example) in _VERBS.items():
        examples = f"examples:\n  clusteradm job {name}{example}\n  clusteradm job {name}{example} --json\n"
        verb = verbs.add(name, summary, examples=examples)
        if name == "remove":
            verb.add_argument("jobs", nargs="+", metavar="JOB", help="ids of the jobs")
        elif name != "list":
            verb.add_argument("job", metavar="JOB", help="id of the job")
        if name in ("attach", "show"):
            infer_output.add_report(verb)
        if name in ("attach", "results"):
            verb.add_argument("--output", metavar="FILE", help="write results to FILE (default: standard output)")
            infer_output.add_format(verb)
        if name == "attach":
            verb.add_argument("--truth", type=Path, metavar="FILE", help="right answers, to measure the accuracy")
        add_connection_arguments(verb, limit=False, forks=False)


def run(args: argparse.Namespace) -> int:
    """Run the verb."""
    if args.verb == "attach":
        return infer.attach(args)
    with at_head(args) as (connections, cluster):
        jobs = Jobs(connections, cluster)
        if args.verb == "show" and args.report is not None:
            body = job_report.of_ended(args, args.job, jobs, cluster)
            if args.json:
                show.json_document("job show", body)
        else:
            _RUN[args.verb](args, jobs)
    return 0


def _list(args: argparse.Namespace, jobs: Jobs) -> None:
    found = jobs.list()
    if args.json:
        show.json_document("job list", {"jobs": [vars(job) for job in found]})
    elif found:
        show.stdout.print(_table_of_jobs(found))
    else:
        show.message("there are no jobs")


def _table_of_jobs(jobs: tuple[JobSummary, ...]) -> show.Table:
    table = show.Table()
    on_slurm = ("slurm",) if any(job.slurm for job in jobs) else ()
    for column in ("job", "state", *on_slurm, "model", "inputs", "done", "attempts", "error"):
        table.add_column(column, justify="right" if column in ("inputs", "done", "attempts") else "left")
    for job in jobs:
        model = f"{job.model} {job.version}" if job.model else "-"
        error = (job.error or "").partition("\n")[0]
        state = f"{job.state}, number {len(job.ahead) + 1}" if job.ahead else job.state
        there = (job.slurm or "-",) if on_slurm else ()
        table.add_row(job.job, state, *there, model, f"{job.total:,}", f"{job.done:,}", str(job.attempts), error)
    return table


def _show(args: argparse.Namespace, jobs: Jobs) -> None:
    details = jobs.show(args.job)
    if args.json:
        body = {
            "job": args.job,
            "directory": jobs.directory(args.job),
            "bytes": details.bytes,
            "spec": asdict(details.spec),
            "status": asdict(details.status),
            "progress": asdict(details.progress) if details.progress else None,
        }
        show.json_document("job show", body)
        return
    for name, text in _facts(details, jobs.directory(args.job)):
        show.stdout.print(f"{name:10} {show.line(text)}")
    for attempt in details.status.attempts:
        show.stdout.print(f"\nattempt {attempt.attempt}: {how_it_ended(attempt, details.status.state)}")
        show.stdout.print(_table_of_ranks(attempt, details))


def _facts(details: JobDetails, directory: str) -> list[tuple[str, str]]:
    spec, status = details.spec, details.status
    done = status.images or (details.progress.done if details.progress else 0)  # once it is complete, to the last
    errors = status.errors or (details.progress.errors if details.progress else 0)
    failed = f", {errors:,} of them with an error" if errors else ""
    inputs = f"{done:,} of {spec.inputs:,} done{failed}" + ("" if details.bytes else "; the inputs are removed")
    if spec.watch is not None:
        left = max(0, details.progress.total - done) if details.progress else 0
        inputs = f"{done:,} done{failed}, {left:,} left, from {spec.watch.folder or 'a command'}"
    places = ", ".join(f"{slot.host} ({len(slot.tpus)})" for slot in spec.slots)
    return [
        ("job", spec.job),
        ("state", status.state + _why(status)),
        ("model", f"{spec.model.name} version {spec.model.version}"),
        ("inputs", inputs),
        ("slots", places + (f", at most {counted(spec.ranks, 'rank')}" if spec.ranks else "")),
        *([("slurm", status.slurm or "not asked yet")] if spec.slurm else ()),
        ("directory", directory),
    ]


def _why(status: Status) -> str:
    if status.ahead:
        return f" behind {counted(len(status.ahead), 'job')}: {', '.join(status.ahead)}"
    return f": {status.error}" if status.error else ""


def _table_of_ranks(attempt: Attempt, details: JobDetails) -> show.Table:
    """The attempt's ranks: of one that runs, as rank 0 wrote them last."""
    ranks, progress = attempt.ranks, details.progress
    if not ranks and progress is not None and progress.attempt == attempt.attempt:
        ranks = progress.ranks
    table = show.Table()
    for column in ("rank", "host", "TPU", "state", "images", "error"):
        table.add_column(column, justify="right" if column in ("rank", "images") else "left")
    for rank in ranks:
        place = rank.tpu or rank.pci_address or "CPU"
        table.add_row(str(rank.rank), rank.host, place, rank.state, f"{rank.images:,}", rank.error or "")
    return table


def _logs(args: argparse.Namespace, jobs: Jobs) -> None:
    with infer_output.fetched(args, jobs, args.job, LOG, f"clusteradm job logs {args.job}") as file:
        if args.json:
            text = file.read().decode("utf-8", "replace")
            show.json_document("job logs", {"job": args.job, "log": text.splitlines()})
        else:
            stream = show.data_stream()
            with show.writing():
                shutil.copyfileobj(file, stream)
                stream.flush()


def _results(args: argparse.Namespace, jobs: Jobs) -> None:
    output = None if args.output in (None, "-") else writable(Path(args.output))
    infer_output.check_format(args)
    asked = infer_output.Wanted(args.format)
    details = jobs.show(args.job)
    status = details.status
    if details.spec.watch is not None:
        raise UsageError(
            f"the results of job {args.job} go to the command that watches",
            next_step="clusteradm infer --watch DIR --output FILE, as it was started, appends what is left to FILE",
        )
    state, task = status.state, task_of(status.model, status.top)
    if state != COMPLETE:
        verb = "attach" if state in UNFINISHED else "resume"
        raise UsageError(
            f"job {args.job} is {state}: it has no results yet",
            next_step=next_step.command(f"job {verb} {args.job}", args),
        )
    asked.check(task)
    with infer_output.fetched(args, jobs, args.job, RESULTS, infer_output.again(args, args.job)) as file:
        results = Results(args.job, jobs.head, file)
        lines = results.documents() if args.json and output is None else None
        if output is not None or lines is None:
            infer.deliver(args, jobs, results, output, lambda file: asked.write(results, task, file))
    if args.json:
        body = {"job": args.job, "output": str(output) if output else None, "results": lines}
        show.json_document("job results", body)
    elif output is not None:
        show.message(f"the results are in {output}")


def _cancel(args: argparse.Namespace, jobs: Jobs) -> None:
    jobs.cancel(args.job)
    state = jobs.show(args.job).status.state
    if args.json:
        show.json_document("job cancel", {"job": args.job, "state": state})
    else:
        show.message(f"job {args.job} is {state}")


def _resume(args: argparse.Namespace, jobs: Jobs) -> None:
    jobs.resume(args.job)
    if args.json:
        show.json_document("job resume", {"job": args.job, "state": jobs.show(args.job).status.state})
    else:
        follow = next_step.command(f"job attach {args.job}", args)
        show.message(f"job {args.job} goes on; follow it with: {follow}")


def _remove(args: argparse.Namespace, jobs: Jobs) -> None:
    removed: list[str] = []
    failed: list[ClusteradmError] = []
    for job in dict.fromkeys(args.jobs):
        try:
            jobs.remove(job)
        except (UsageError, HostFailed) as error:
            failed.append(error)
            continue
        removed.append(job)
        if not args.json:
            show.message(f"job {job} is removed")
    if args.json:
        show.json_document("job remove", {"removed": removed})
    for each in failed[:-1]:
        show.message(f"error: {next_step.complete(str(each), args)}")
    if failed:
        raise failed[-1]


_RUN = {
    "list": _list,
    "show": _show,
    "results": _results,
    "logs": _logs,
    "cancel": _cancel,
    "resume": _resume,
    "remove": _remove,
}
