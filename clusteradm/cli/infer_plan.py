"""Plan of a job, as the options of infer have it, and what is to be said of it."""

from __future__ import annotations

import argparse

from clusteradm.cli import feed_options, infer_output, next_step, show, stages_view
from clusteradm.errors import UsageError
from clusteradm.jobs import Plan, launcher
from clusteradm.models.reference import check_version
from clusteradm.node.spec.wire.manifest import CLASSIFIER, Feed
from clusteradm.node.spec.wire.versions import LATEST
from clusteradm.transport import Connections


def plan_of(args: argparse.Namespace, connections: Connections, asked: infer_output.Wanted) -> Plan:
    """The plan of a new job, with what is to be said of it."""
    mean, std, layout = feed_options.values(args)
    given = std or layout or args.fit or args.sample_rate
    feed = Feed(mean, std, layout, "user", fit=args.fit, rate=args.sample_rate) if given else None
    order = launcher.order(
        connections.cluster, args.launcher, partition=args.partition, account=args.account, wait=args.wait
    )
    plan = Plan.make(
        connections,
        args.model,
        version_of(args),
        limit=args.limit,
        ranks=args.ranks,
        cpu=args.cpu,
        feed=feed,
        threshold=args.threshold,
        task=args.task,
        top=args.top,
        wait=args.wait,
        pipeline=args.pipeline,
        slurm=order,
    )
    if args.truth and plan.model.task != CLASSIFIER:
        raise UsageError(f"--truth measures a classifier, and the results are those of --task {plan.model.task}")
    asked.check(plan.model.task)
    say_plan(args, plan, taken=not args.share)
    return plan


def say_plan(args: argparse.Namespace, plan: Plan, *, taken: bool = True) -> None:
    """Say what the job does without, and how its model is read. `taken`: also the TPUs that are in use."""
    for note in plan.notes:
        show.message(f"warning: {note}")
    for drain in plan.slots.drained:
        show.message(show.line(f"{drain.subject} is drained{': ' + drain.reason if drain.reason else ''}"))
    for text in (*plan.slots.left_out, *(plan.slots.taken if taken and plan.slurm is None else ())):
        show.message(f"warning: {text} ({next_step.command('health', args)})")
    plan.check()
    stages_view.say(plan)


def version_of(args: argparse.Namespace) -> int | None:
    """The version of --version; None for the latest. Raises UsageError for what is no version."""
    return None if args.version in (None, LATEST) else check_version(args.version)
