"""View of a job's pipelines: a row for each stage, and the one that holds the others up."""

from __future__ import annotations

import argparse

from clusteradm.cli import next_step, show
from clusteradm.cli.show import counted
from clusteradm.jobs import JobReport, Plan
from clusteradm.jobs.pipelines import split_command
from clusteradm.node.spec.wire.manifest import MOST_SEGMENTS


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Add --pipeline."""
    parser.add_argument(
        "--pipeline", type=_stages, metavar="K", help="the model's K segments, each on a TPU of its own, in pipelines"
    )


def _stages(text: str) -> int:
    if text.isdecimal() and 2 <= int(text) <= MOST_SEGMENTS:
        return int(text)
    raise argparse.ArgumentTypeError(
        f"{text!r} is no number of stages, from 2 to {MOST_SEGMENTS}; without --pipeline, each TPU has the whole model"
    )


def say(plan: Plan) -> None:
    """Say how many pipelines there are, and which TPUs none of them has."""
    if plan.stages == 1:
        return
    what = "host" if plan.slots.cpu else "TPU"
    show.message(f"{counted(plan.ranks // plan.stages, 'pipeline')} of {plan.stages} {what}s")
    if plan.left_over:
        names = show.line(", ".join(plan.left_over))
        are = f"{counted(len(plan.left_over), what)} {'is' if len(plan.left_over) == 1 else 'are'} left over"
        show.message(f"{are}, as {plan.slots.count} is no multiple of {plan.stages}: {names}")
    elif plan.most is not None and plan.ranks < plan.most:
        show.message(f"{plan.ranks} ranks, as {plan.most} is no multiple of {plan.stages}")


def print_stages(report: JobReport, head: str, args: argparse.Namespace, console: show.Output) -> None:
    """The table of the stages, and the advice."""
    if not report.stages:
        return
    table = show.Table(padding=(0, 2, 0, 0), header_style="")
    for name in ("stage", "ranks", "ms/image", "busy s", "busy %", "wait s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for one in report.stages:
        table.add_row(
            str(one.stage),
            str(one.ranks),
            f"{one.milliseconds:.2f}",
            f"{one.busy_seconds:.2f}",
            f"{100 * one.utilisation:.0f}",
            f"{one.wait_seconds:.2f}",
            "bottleneck" if one.bottleneck else "",
        )
    console.print(table)
    found, model = report.balance, report.model
    if found is None:
        return
    console.print(found.text)
    if not found.is_even and model.pipeline is not None:
        count, compiled = len(model.pipeline.stages), model.pipeline.compiled
        command = split_command(model.name, model.path, count, head, compiled=compiled, host=found.host)
        console.print(f"to split it by time:\n{next_step.complete(command, args)}", soft_wrap=True)
