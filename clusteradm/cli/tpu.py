"""Reset one Edge TPU: remove it from its PCI bus and scan for it again, which recovers some that hang."""

from __future__ import annotations

import argparse

from rich.table import Table

from clusteradm.cli import context, show
from clusteradm.errors import UsageError
from clusteradm.fleet.tpu_reset import reset
from clusteradm.node.spec.wire.fleet import Card

EXAMPLES = """\
examples:
  clusteradm tpu reset coral-3:0001:01:00.0    by its PCI address
  clusteradm tpu reset coral-3:apex_0          by the device that it is now
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="tpu_command", metavar="COMMAND", required=True)
    summary = "remove an Edge TPU from its bus and scan for it again; refused while a process has it open"
    parser_of_reset = commands.add_parser("reset", help=summary, description=summary)
    parser_of_reset.add_argument("subject", metavar="HOST:TPU", help="TPU: its PCI address, or apex_N")
    context.add_connection_arguments(parser_of_reset, limit=False)


def run(args: argparse.Namespace) -> int:
    cluster = context.open_cluster(args)
    name, _, tpu = args.subject.partition(":")
    host = cluster.host(name)
    if not tpu:
        raise UsageError(f"which Edge TPU of {name}?", next_step=f"name it: {name}:apex_0, or {name}:PCI-ADDRESS")
    with context.connect(args, cluster) as connections:
        connections.open([host])
        done = reset(connections, host, tpu)
    if args.json:
        body = {"host": name, "before": vars(done.before), "after": vars(done.after), "seconds": done.seconds}
        show.json_document("tpu reset", body)
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (f"{name}:{done.before.address}", "before", "after"):
        table.add_column(column)
    for field in ("device", "node", "driver", "status", "temp"):
        table.add_row(field, _text(field, done.before), _text(field, done.after))
    show.stdout.print(table)
    show.message(f"it was away for {done.seconds:.1f} s")
    return 0


def _text(field: str, card: Card) -> str:
    value: str | None = getattr(card, field)
    if value is None:
        return "-"
    if field == "temp" and value.isdecimal() and len(value) < 10:
        return f"{int(value) / 1000:.1f} °C"
    return value
