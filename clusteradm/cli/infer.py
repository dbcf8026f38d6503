"""Run a deployed model over many inputs, on every healthy Edge TPU of the cluster at once.

INPUTS are pictures, folders and tar files of pictures, sound (.wav), or NumPy arrays (.npy, .npz, FILE.npz:NAME; each
row of the first dimension is one input) on this machine, @FILE for a list of paths, or head:PATH on the head (a
relative PATH is below the shared directory). Results are JSON Lines, exactly one line per input, in the order of the
inputs' names. --watch DIR takes the files that come into a folder instead, until Ctrl-C, and appends their results. The
job runs on the head and outlives this command; Ctrl-C cancels it, on a terminal after a question.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from clusteradm import atomic, regular
from clusteradm.cli import feed_options, infer_output, infer_watch, job_report, next_step, show, stages_view
from clusteradm.cli.context import QUICK_SECONDS, add_connection_arguments, at_head
from clusteradm.cli.display import ask
from clusteradm.cli.infer_plan import plan_of, version_of
from clusteradm.cli.job_view import print_report, transfer, watch
from clusteradm.cli.show import counted
from clusteradm.cli.temperatures import Temperatures
from clusteradm.errors import HostFailed, HostUnreachable, UsageError
from clusteradm.inventory.slurm import LAUNCHERS
from clusteradm.jobs import (
    HeadInputs,
    JobReport,
    Jobs,
    LocalInputs,
    Results,
    build,
    formats,
    resolve,
    truth,
    writable,
)
from clusteradm.jobs.plan import task_of
from clusteradm.models.reference import Reference
from clusteradm.node.spec.wire.job import Status
from clusteradm.node.spec.wire.job_names import RESULTS
from clusteradm.node.spec.wire.result import Result
from clusteradm.transport import Connections

EXAMPLES = """\
examples:
  clusteradm infer --model mobilenet_v2 photos/ --output results.jsonl
  clusteradm infer --model digits digits/ --truth truth.csv --output r.jsonl
  clusteradm infer --model digits:2 digits/      version 2, or: digits@stable
  clusteradm infer --model digits head:/srv/cluster/data/digits
  clusteradm infer --model mobilenet_v2 batch.npy --top 1
  clusteradm infer --model ssd photos/ --threshold 0.4 --annotate drawn/
  clusteradm infer --model ssd photos/ --output r.jsonl --report report.html
  clusteradm infer --model faces --task embed photos/ --similar me.jpg
  clusteradm infer --model ssd @list.txt --format csv --output results.csv
  clusteradm infer --model inception_v4 --pipeline 3 photos/ --output r.jsonl
  clusteradm infer --model mobilenet_v2 photos/ --detach
  clusteradm infer --model ssd --watch incoming/ --output results.jsonl
  clusteradm infer --model ssd --watch in/ --output r.jsonl --annotate drawn/
  clusteradm infer --model ssd --watch head:camera --output results.jsonl
  clusteradm infer --model digits digits/ --launcher slurm --partition tpu
  clusteradm infer --attach 20261123-170102-3fa9c2 --output results.jsonl

results:
  {"input", "index", ...} and, by the task:
  "top": [{"class", "label", "score"}, ...]          classify
  "objects": [{"class", "label", "score", "box"}]    detect
  "segments": [{"class", "label", "share"}], "map"   segment
  "poses": [{"score", "keypoints"}]                  pose
  "embedding": [number, ...]                         embed
  "outputs": [{"name", "shape", "values"}]           raw
  "error": reason                                    no result

A picture is scaled to the size of the model's input. Its pixels are fed as the
model was deployed, or by --mean, --std and --layout; else black to white is the
whole range of a quantised input, -1 to 1 of a float one. Tensors of more than 1,024 numbers
are written as .npy files. The truth is a CSV file with the columns input,label
or JSON Lines with these keys.

exit status:
  0    every input has a result
  2    wrong usage, or no input can be used
  3    the job failed, or the results are complete but some are errors
  4    the head is unreachable
  130  interrupted; the job is cancelled, or goes on, as answered
"""

_MOST_WARNINGS = 10  # of one kind
_MOST_SHOWN = 3  # failed inputs
# Options that say how a job is to be started.
_OF_A_NEW_JOB = (
    "model",
    "version",
    "task",
    "top",
    "ranks",
    "pipeline",
    "cpu",
    "mean",
    "std",
    "layout",
    "fit",
    "sample_rate",
    "threshold",
    "limit",
    "wait",
    "share",
    "launcher",
    "partition",
    "account",
    "detach",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm infer`."""
    parser.add_argument("inputs", nargs="*", metavar="INPUTS", help="files, folders, arrays; head:PATH is on the head")
    parser.add_argument("--model", metavar="NAME[:VERSION|@LABEL]", help="a deployed model")
    parser.add_argument("--version", metavar="N", help="version of NAME (default: latest)")
    parser.add_argument(
        "--output", default=None, metavar="FILE", help="write results to FILE (default: standard output)"
    )
    parser.add_argument("--truth", type=Path, metavar="FILE", help="right answers, to measure the accuracy")
    parser.add_argument(
        "--top", type=_count, metavar="K", help="classes per result; 0: whole outputs (default: 5 of a classifier)"
    )
    parser.add_argument("--ranks", type=_positive, metavar="N", help="use at most N TPUs, spread over the hosts")
    stages_view.add_argument(parser)
    parser.add_argument("--cpu", action="store_true", help="run on CPUs instead, one rank per host")
    feed_options.add_task(parser, raw=True)
    feed_options.add_arguments(parser)
    feed_options.add_fit(parser)
    feed_options.add_rate(parser)
    feed_options.add_threshold(parser)
    infer_output.add_arguments(parser)
    others = parser.add_mutually_exclusive_group()
    others.add_argument("--wait", action="store_true", help="queue behind the jobs that have the TPUs")
    others.add_argument(
        "--share", action="store_true", help="use the TPUs that other jobs leave, without a warning (default: with one)"
    )
    parser.add_argument(
        "--launcher", choices=LAUNCHERS, help="direct: clusteradm's own queue; slurm (default: as cluster_launcher)"
    )
    parser.add_argument("--partition", metavar="NAME", help="partition of Slurm")
    parser.add_argument("--account", metavar="NAME", help="account of Slurm that the job is charged to")
    parser.add_argument("--detach", action="store_true", help="start the job and do not wait for it")
    parser.add_argument(
        "--watch",
        metavar="DIR",
        help="take each file that comes into DIR, once, when it is whole, and append the results to --output",
    )
    parser.add_argument("--attach", metavar="JOB", help="follow a job that was started before")
    add_connection_arguments(parser, connect=QUICK_SECONDS)


def run(args: argparse.Namespace) -> int:
    """Run a job, or follow one; 0 once every input has a result, 3 where some have an error."""
    asked, inputs = infer_output.wanted(args, _check(args))
    if args.watch is not None:
        return infer_watch.run(args, lambda connections: plan_of(args, connections, asked))
    known = truth.read(args.truth) if args.truth else None
    output = None if args.output in (None, "-") else writable(Path(args.output))
    with at_head(args) as (connections, cluster):
        jobs = Jobs(connections, cluster)
        job = _submit(args, connections, jobs, inputs, asked) if inputs else args.attach
        if args.detach:
            return _leave(args, job)
        if args.attach and jobs.show(job).spec.watch is not None:
            raise UsageError(
                f"job {job} stays open for inputs, and has no end at which it has results",
                next_step="clusteradm infer --watch DIR --output FILE, as it was started, appends them to FILE",
            )
        with Temperatures(connections, cluster) as temperatures:
            status = _follow(args, jobs, job, temperatures)
        with infer_output.fetched(args, jobs, job, RESULTS, infer_output.again(args, job)) as file:
            results = Results(job, cluster.head.name, file)
            task = task_of(status.model, status.top)
            asked.check(task)
            accuracy = truth.score(results.lines(), known, status.top) if known else None
            if known and accuracy is None:
                show.message("warning: the truth names none of the inputs: no accuracy")
            deliver(args, jobs, results, output, lambda file: asked.write(results, task, file))
            infer_output.draw(args, asked, jobs, results)
            sheet = job_report.gather(args, asked, jobs, results)
            ranked = infer_output.ranking(asked, results)
            failures = results.failures(_MOST_SHOWN)
            _warn_of_clipped(results)
            # They go nowhere else.
            lines = results.documents() if args.json and output is None else None
    report = build(job, status, accuracy)
    if failures:
        show.message(_summary(failures, report))
    if args.json:
        body = {**report.to_json(), "output": str(output) if output else None, "results": lines}
        if args.report:
            body["report"] = str(args.report)
        if args.similar:
            body["similar"] = [vars(one) for one in ranked]
        show.json_document("infer", body)
    else:
        console = show.stderr if output is None else show.stdout
        print_report(report, console)
        stages_view.print_stages(report, cluster.head.name, args, console)
        infer_output.print_ranking(ranked, console)
        if output:
            show.stdout.print(f"{counted(report.images, 'result')} in {output}")
    if sheet is not None:
        job_report.write(args, cluster, report, sheet)
    return HostFailed.exit_code if report.errors else 0


def attach(args: argparse.Namespace) -> int:
    """Follow args.job, as --attach does."""
    of_a_new_job = dict.fromkeys((*_OF_A_NEW_JOB, "annotate", "similar", "watch"))
    return run(argparse.Namespace(**{**of_a_new_job, "inputs": [], **vars(args), "attach": args.job}))


def _leave(args: argparse.Namespace, job: str) -> int:
    """Say how a job that is not waited for is taken up."""
    if args.json:
        show.json_document("infer", {"job": job, "detached": True})
    else:
        show.message(f"it goes on; its results: {next_step.command(f'infer --attach {job} --output FILE', args)}")
    return 0


def _summary(failures: Sequence[Result], report: JobReport) -> str:
    """The line about the inputs that have no result: the first of them, each with its reason."""
    texts = [f"{show.line(result.input)}: {show.line(result.error or '')}" for result in failures]
    if report.errors > len(failures):
        texts.append(f"and {report.errors - len(failures):,} more")
    return f"{report.errors:,} of {counted(report.images, 'input')} failed: " + "; ".join(texts)


def _check(args: argparse.Namespace) -> LocalInputs | HeadInputs | None:
    """The inputs; UsageError where the options contradict each other."""
    if args.json and args.output == "-":
        raise UsageError("--json and the results cannot both go to standard output", next_step="--output FILE")
    if args.attach is not None:
        if args.watch is not None:
            raise UsageError("--watch finds its job itself, if that is still there", next_step="leave --attach out")
        given = [
            f"--{name.replace('_', '-')}"
            for name in _OF_A_NEW_JOB
            if not (getattr(args, name) is None or getattr(args, name) is False)
        ]
        if args.inputs or given:
            raise UsageError(
                f"--attach follows a job as it was started: without {', '.join(given) or 'inputs'}",
                next_step=f"clusteradm infer --attach {args.attach}",
            )
        return None
    if args.watch is not None:
        infer_watch.check(args)
        return None
    if args.detach and (args.output or args.truth or args.format != formats.JSONL):
        raise UsageError(
            "--detach does not wait for results: without --output, --format and --truth",
            next_step="clusteradm infer --attach JOB --output FILE fetches them",
        )
    if args.wait and args.cpu:
        raise UsageError("--wait queues for TPUs, and --cpu uses none", next_step="leave one of the two out")
    if not args.model or not args.inputs:
        raise UsageError("a job takes --model NAME and INPUTS", next_step="clusteradm infer --help shows examples")
    Reference.parse(args.model).at(version_of(args))
    inputs = resolve(args.inputs)
    if isinstance(inputs, LocalInputs) and inputs.skipped:
        names = ", ".join(path.name for path in inputs.skipped[:3])
        more = f" and {len(inputs.skipped) - 3} more" if len(inputs.skipped) > 3 else ""
        show.message(f"left out, by their suffix: {names}{more}")
    left_out = inputs.left_out if isinstance(inputs, LocalInputs) else ()
    for text in left_out[:_MOST_WARNINGS]:
        show.message(f"warning: left out: {text}")
    if len(left_out) > _MOST_WARNINGS:
        show.message(f"warning: left out: {len(left_out) - _MOST_WARNINGS} more")
    return inputs


def _submit(
    args: argparse.Namespace,
    connections: Connections,
    jobs: Jobs,
    inputs: LocalInputs | HeadInputs,
    asked: infer_output.Wanted,
) -> str:
    """Start the job; its id."""
    plan = plan_of(args, connections, asked)
    with transfer("sending the inputs") as progress:
        job, total = jobs.submit(inputs, plan, top=plan.top, progress=progress)
    model, ranks = plan.model, counted(plan.ranks, "rank")
    ranks = f"at most {ranks}, as Slurm gives them" if plan.slurm else ranks
    show.message(f"job {job}: {counted(total, 'input')}, {model.name} version {model.version}, {ranks}")
    return job


def _follow(args: argparse.Namespace, jobs: Jobs, job: str, temperatures: Temperatures | None = None) -> Status:
    """Follow the job to its end and return its last status. Ctrl-C cancels it, or leaves it to itself, as answered."""
    try:
        status = watch(jobs.follow(job), temperatures)
    except KeyboardInterrupt:
        if _detached():
            _leave(args, job)
            raise
        show.message(f"cancelling job {job} ...")
        jobs.cancel(job)
        show.message(
            f"job {job} is cancelled; its inputs and results so far are kept in {jobs.directory(job)} on the head\n"
            f"  {next_step.command(f'job remove {job}', args)}"
        )
        raise
    except HostUnreachable as error:
        raise HostUnreachable(
            error.what,
            where=error.where,
            next_step=f"the job continues; take it up with: clusteradm infer --attach {job}",
        ) from error
    jobs.check(job, status)
    return status


def _detached() -> bool:
    """Whether the person of this terminal wants the job to go on. Ctrl-C again, or no answer, is no."""
    if not (show.stderr.is_terminal and sys.stdin.isatty()):
        return False
    try:
        return (ask("cancel the job, or leave it running? [C/l] ") or "").strip().lower() in ("l", "leave")
    except KeyboardInterrupt:
        return False


def deliver(
    args: argparse.Namespace,
    jobs: Jobs,
    results: Results,
    output: Path | None,
    write: Callable[[BinaryIO], None] | None = None,
) -> None:
    """Write the results, and the large tensors beside them, where the options say; `write`: where not as they are."""
    if output is not None:
        with infer_output.storing(args, results.job, regular.readable(output)):
            results.save(output, lambda name, file: jobs.fetch(results.job, name, file), write)
        if not atomic.in_place(output):
            return
    elif not args.json:
        stream = show.data_stream()
        with show.writing():
            (write or results.copy)(stream)
            stream.flush()
    large = results.tensor_files()
    if large:
        folder = f"{jobs.directory(results.job)}/{large[0].partition('/')[0]}"
        show.message(f"{len(large)} output tensors are on the head: {folder}")


def _warn_of_clipped(results: Results) -> None:
    """Say how many of the inputs had numbers out of the range of the model's input."""
    inputs, most = results.clipped()
    if inputs:
        show.message(
            f"warning: {counted(inputs, 'input')} {'have' if inputs > 1 else 'has'} numbers out of the range of the "
            f"model's input, up to {100 * most:.3g} % of them, which were cut to its ends (clipped in the results): "
            "is the array scaled as the model was trained?"
        )


def _positive(text: str) -> int:
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")


def _count(text: str) -> int:
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
