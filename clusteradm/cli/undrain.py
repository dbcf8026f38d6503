"""Return a drained host or Edge TPU to service: new jobs use it again, if it is healthy."""

from __future__ import annotations

import argparse

from clusteradm.cli import context, show
from clusteradm.cli.drain import show_drains
from clusteradm.errors import HostFailed
from clusteradm.fleet.drains import Drains

EXAMPLES = """\
examples:
  clusteradm undrain coral-3
  clusteradm undrain coral-3:0001:01:00.0

exit status: 3 where somebody else's Slurm keeps it drained
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm undrain`."""
    parser.add_argument("subjects", nargs="+", metavar="HOST[:TPU]", help="host or TPU to return to service")
    context.add_connection_arguments(parser, limit=False, forks=False)


def run(args: argparse.Namespace) -> int:
    with context.connect(args, context.open_cluster(args)) as connections:
        left = Drains(connections).undrain(args.subjects)
    show_drains("undrain", left, as_json=args.json)
    kept = [drain for drain in left if drain.subject in args.subjects]
    for drain in kept:
        show.message(
            f"error: {drain.subject} is still drained, by {drain.by}, in a Slurm that clusteradm did not set up\n"
            f"  return it there, on the head: scontrol update NodeName={drain.host} State=RESUME"
        )
    return HostFailed.exit_code if kept else 0
