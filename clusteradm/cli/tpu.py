"""Reset an Edge TPU of a host."""

from __future__ import annotations

import argparse

from clusteradm.cli import context, show
from clusteradm.cli.parser import Parser
from clusteradm.errors import UsageError
from clusteradm.fleet.tpu_reset import reset
from clusteradm.node.spec.wire.fleet import Card

EXAMPLES = """\
examples:
  clusteradm tpu reset coral-3:0001:01:00.0  by its PCI address
  clusteradm tpu reset coral-3:apex_0        by its device
  clusteradm tpu reset coral-3:usb:1-2       a USB Accelerator, by its port
"""

_RESET = """\
Remove an Edge TPU from its PCI bus and scan for it again, or have the kernel configure a USB Accelerator anew, which
helps some that hang. Refused while a process has it open.
"""


def add_arguments(parser: Parser) -> None:
    """The verbs of `clusteradm tpu`."""
    summary = "take an Edge TPU off its bus and back"
    verb = parser.add_commands("verb").add("reset", summary, description=_RESET, examples=EXAMPLES)
    verb.add_argument("subject", metavar="HOST:TPU", help="a host and its TPU: PCI address, apex_N, usb:PORT")
    context.add_connection_arguments(verb, limit=False, forks=False)


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
        before = vars(done.before) if done.before is not None else None
        body = {"host": name, "before": before, "after": vars(done.after), "seconds": done.seconds}
        show.json_document("tpu reset", body)
        return 0
    table = show.Table(f"{name}:{done.after.address}", "before", "after")
    for field in ("device", "node", "driver", "status", "temp"):
        table.add_row(field, _text(field, done.before), _text(field, done.after))
    show.stdout.print(table)
    away = f"it was away for {done.seconds:.1f} s" if done.before is not None else "it was off the bus; a scan found it"
    show.message(away)
    return 0


def _text(field: str, card: Card | None) -> str:
    value: str | None = getattr(card, field, None)
    if value is None:
        return "-"
    if field == "temp" and value.isdecimal() and len(value) < 10:
        return f"{int(value) / 1000:.1f} °C"
    return value
