"""Switch hosts off: all of --limit at once, the head after the others. Only its power switches a board on again."""

from __future__ import annotations

import argparse

from clusteradm.cli import context, power_view, show
from clusteradm.cli.context import QUICK_SECONDS
from clusteradm.fleet import power
from clusteradm.node.spec.wire.power import POWEROFF

EXAMPLES = """\
examples:
  clusteradm poweroff                   asks, then switches all hosts off
  clusteradm poweroff --limit 'coral-[5-7]' --yes

exit status: 3 or 4 where a host failed or did not answer
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm poweroff`."""
    parser.add_argument("--yes", action="store_true", help="do not ask")
    context.add_connection_arguments(parser, forks=False, connect=QUICK_SECONDS)


def run(args: argparse.Namespace) -> int:
    """Switch off; the exit status."""
    cluster = context.open_cluster(args)
    hosts = power.head_last(context.select(args, cluster))
    with context.connect(args, cluster) as connections:
        running = power_view.running(connections, cluster) if not args.yes else {}
        if not args.yes and not power_view.confirmed(args, hosts, running, "Switch off"):
            show.message("nothing was done")
            return 0
        done = power.at_once(connections, hosts, POWEROFF, power.Waits(), power_view.say)
        return power_view.outcome(args, "poweroff", done)
