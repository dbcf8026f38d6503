"""Take a host or an Edge TPU out of service: new jobs do not use it. Running jobs continue. Without a name, list what
is drained.
"""

from __future__ import annotations

import argparse
import datetime
import getpass
from collections.abc import Iterable
from dataclasses import asdict

from clusteradm.cli import context, show
from clusteradm.errors import UsageError
from clusteradm.fleet.drains import Drain, Drains

EXAMPLES = """\
examples:
  clusteradm drain                                      list what is drained
  clusteradm drain coral-3 --reason 'new power supply'  a whole host
  clusteradm drain coral-3:0001:01:00.0 coral-4:apex_1  single TPUs
  clusteradm undrain coral-3                            return it to service

A TPU is named by its PCI address or by its device, apex_N.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm drain`."""
    parser.add_argument("subjects", nargs="*", metavar="HOST[:TPU]", help="host or TPU to take out of service")
    parser.add_argument("--reason", default="", metavar="TEXT", help="why; shown in the list")
    context.add_connection_arguments(parser, limit=False, forks=False)


def run(args: argparse.Namespace) -> int:
    if args.reason and not args.subjects:
        raise UsageError("--reason needs a host or a TPU to drain")
    with context.connect(args, context.open_cluster(args)) as connections:
        drains = Drains(connections)
        by = getpass.getuser()
        found = drains.drain(args.subjects, reason=args.reason, by=by) if args.subjects else drains.all()
    show_drains("drain", found, as_json=args.json)
    return 0


def show_drains(command: str, drains: Iterable[Drain], *, as_json: bool) -> None:
    """Print all drains, as a table or as one JSON document of `command`."""
    found = list(drains)
    if as_json:
        show.json_document(command, {"drains": [{"subject": drain.subject, **asdict(drain)} for drain in found]})
        return
    if not found:
        show.message("nothing is drained")
        return
    table = show.Table("drained", "since", "by", "reason")
    for drain in found:
        since = datetime.datetime.fromtimestamp(drain.since).strftime("%Y-%m-%d %H:%M")
        table.add_row(drain.subject, since, drain.by, drain.reason)
    show.stdout.print(table)
