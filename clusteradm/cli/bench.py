"""Measure a cluster's speed with a deployed model: the same inputs on 1, 2, ... and all TPUs, and each TPU alone.

Prints images per second, speed-up and efficiency by the number of TPUs, and the time of an inference of each TPU beside
the published one of a known model. INPUTS are those of `clusteradm infer`; without any, inputs are made for the model.
With --pipeline K these are pipelines of K TPUs, beside one TPU with the whole model. Each run is a job of its own, and
is repeated; figures are medians, and a job's start-up is told apart.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from clusteradm.cli import bench_view, conditions, infer_plan, job_report, show, stages_view
from clusteradm.cli.bench_view import Outcome
from clusteradm.cli.conditions import Conditions
from clusteradm.cli.context import QUICK_SECONDS, add_connection_arguments, at_head, positive
from clusteradm.cli.job_view import transfer, watch
from clusteradm.cli.show import counted
from clusteradm.errors import HostFailed, UsageError
from clusteradm.inventory import Cluster
from clusteradm.jobs import HeadInputs, JobReport, Jobs, LocalInputs, Plan, Update, bench, made, resolve, writable
from clusteradm.jobs.bench import Bench
from clusteradm.models.reference import Reference
from clusteradm.models.repository import Repository
from clusteradm.node.spec.wire.job import Status
from clusteradm.transport import Connections

EXAMPLES = """\
examples:
  clusteradm bench --model mobilenet_v2
  clusteradm bench --model mobilenet_v2 photos/ --report bench.html
  clusteradm bench --model mobilenet_v2 --tpus 1,2,4 --runs 5
  clusteradm bench --model inception_v4 --pipeline 3
  clusteradm bench --model digits --limit w[1:2] --images 2000 --json

exit status:
  0    measured; warnings say what the figures may suffer from
  2    wrong usage, or no inputs can be made for the model
  3    a run failed, or no TPU is healthy and free
  4    the head is unreachable
  130  interrupted; the run is cancelled and removed
"""

_FEW = 64  # inputs of each TPU in the run that finds out how many are needed
_ALONE_SECONDS = 10.0  # that the made inputs keep one TPU busy for, at least
_ALL_SECONDS = 1.5  # and all TPUs together


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm bench`."""
    parser.add_argument("inputs", nargs="*", metavar="INPUTS", help="files, folders, arrays; head:PATH is on the head")
    parser.add_argument("--model", required=True, metavar="NAME[:VERSION|@LABEL]", help="a deployed model")
    parser.add_argument(
        "--tpus",
        type=_numbers,
        default=(),
        metavar="N,...",
        help="numbers of TPUs (default: 1, 2, 4, ... and all, or pipelines of them)",
    )
    stages_view.add_argument(parser)
    parser.add_argument(
        "--runs", type=positive, default=3, metavar="N", help="runs of each, of which the median counts (default: 3)"
    )
    parser.add_argument(
        "--images", type=positive, metavar="N", help="inputs to make (default: enough for 10 s of one TPU, and more)"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a page with the figures and plots")
    add_connection_arguments(parser, connect=QUICK_SECONDS)


def run(args: argparse.Namespace) -> int:
    """Measure, and show what was measured."""
    if args.images and args.inputs:
        raise UsageError("--images makes inputs, and INPUTS are given", next_step="leave one of the two out")
    if args.report is not None:
        writable(args.report, "the report")
    Reference.parse(args.model)
    given = resolve(args.inputs) if args.inputs else None
    with (
        at_head(args) as (connections, cluster),
        tempfile.TemporaryDirectory(prefix="clusteradm-bench-") as folder,
    ):
        plan = Plan.make(connections, args.model, limit=args.limit, pipeline=args.pipeline)
        infer_plan.say_plan(args, plan)
        plan.check()
        tpus = bench.counts(args.tpus, plan.slots.count, plan.stages)
        hosts = [slot.host for slot in plan.slots.usable]
        before = conditions.now(connections, cluster, hosts)

        def follow(job: str, updates: Iterator[Update]) -> Status:
            return watch(updates)  # without temperatures: to measure them would load the hosts

        work = Bench(Jobs(connections, cluster), plan, follow, lambda: transfer("sending the inputs"))
        try:
            inputs = given or _made(args, work, plan, max(tpus) // plan.stages, Path(folder))
            _measure(args, work, inputs, tpus)
            after = conditions.now(connections, cluster, hosts)
        except KeyboardInterrupt:
            _say_so_far(work)
            raise
        outcome = _outcome(args, connections, cluster, plan, work, inputs, given is None, before, after)
    if args.json:
        path = None if args.report is None else str(args.report)
        show.json_document("bench", {**bench_view.document(outcome), "report": path})
    else:
        bench_view.print_outcome(outcome)
        stages_view.print_stages(outcome.one, cluster.head.name, args, show.stdout)
    # Last: where it cannot be written, the figures are not lost.
    if args.report is not None:
        from clusteradm.cli.bench_page import html  # Jinja, which nothing else of this needs

        job_report.save(args.report, html(outcome), "name a file in a folder with room; the figures are those above")
    return 0


def _made(args: argparse.Namespace, work: Bench, plan: Plan, most: int, folder: Path) -> LocalInputs:
    """Inputs for the model: as many as are asked for, or enough for some seconds of work of the `most` TPUs or
    pipelines."""
    count = args.images
    if count is None:
        few = made.inputs(plan.model, _FEW * (1 if plan.stages > 1 else len(work.rounds[0])), folder)
        show.message("a short run first, to see how many inputs are needed")
        count = round(work.pace(few) * max(_ALONE_SECONDS, _ALL_SECONDS * most))
    return made.inputs(plan.model, count, folder)


def _measure(args: argparse.Namespace, work: Bench, inputs: LocalInputs | HeadInputs, tpus: list[int]) -> None:
    """Every run. Those of one kind are not one after the other: what changes meanwhile, as heat, is in all of them."""
    stages = args.pipeline or 1
    runs: list[tuple[str, Callable[[], JobReport]]] = []
    if stages == 1:
        for slots in work.rounds:
            what = f"each TPU alone on its host, {counted(len(slots), 'TPU')}"
            runs.append((what, functools.partial(work.round, inputs, slots)))
    elif work.has_whole:
        runs.append(("1 TPU with the whole model", functools.partial(work.whole, inputs)))
    for count in tpus:
        what = counted(count, "TPU") if stages == 1 else f"{counted(count // stages, 'pipeline')} of {stages} TPUs"
        runs.append((what, functools.partial(work.step, inputs, count)))
    for turn in range(args.runs):
        for number, (what, measure) in enumerate(runs, turn * len(runs) + 1):
            show.message(f"run {number} of {args.runs * len(runs)}: {what}")
            _say(measure())


def _say(report: JobReport) -> None:
    show.message(
        f"  {report.images_per_second:,.1f} images/s: {report.images:,} in {report.seconds:.2f} s, after "
        f"{report.startup_seconds:.2f} s of start-up"
    )
    for rank in report.ranks:
        if rank.error:
            show.message(f"warning: {show.line(rank.host)} {rank.pci_address}: {show.line(rank.error)}")
    if report.errors:
        show.message(f"warning: {report.errors:,} of {counted(report.images, 'input')} failed")


def _say_so_far(work: Bench) -> None:
    """After Ctrl-C: what was measured is not lost."""
    steps = work.measured.scaling()
    if steps:
        show.message("measured so far:")
        show.stderr.print(bench_view.table(steps))


def _outcome(
    args: argparse.Namespace,
    connections: Connections,
    cluster: Cluster,
    plan: Plan,
    work: Bench,
    inputs: LocalInputs | HeadInputs,
    made_up: bool,
    before: Conditions,
    after: Conditions,
) -> Outcome:
    steps = work.measured.scaling()
    if not steps:
        raise HostFailed(f"no run with one {bench.unit(plan.stages)} has a result")
    latency = bench.published(plan.model)
    published = {
        slot.host: None
        if latency is None
        else (latency.dev_board or latency.usb if slot.host in before.dev_boards else latency.usb)
        for slot in plan.slots.usable
    }
    model = plan.model
    _, manifest = Repository(connections, cluster).find(Reference(model.name, model.version))
    return Outcome(
        cluster=str(cluster.setting("cluster_name")),
        model=model,
        images=steps[0].runs[0].images,
        made=made_up,
        bytes=inputs.bytes if isinstance(inputs, LocalInputs) else None,
        runs=args.runs,
        steps=steps,
        tpus=work.measured.tpus(published),
        latency=latency,
        devices=tuple(sorted(work.measured.devices)),
        before=before,
        after=after,
        cpu_operations=sum(manifest.cpu_operations.values()),
        streamed_bytes=manifest.streamed_bytes,
    )


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers from 1, as 1,2,4")
    return tuple(sorted(set(map(int, parts))))
