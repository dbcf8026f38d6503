"""Reset an Edge TPU of a host."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from clusteradm.cli import context, show
from clusteradm.cli.parser import Parser
from clusteradm.errors import HostFailed, UsageError

EXAMPLES = """\
examples:
  clusteradm tpu reset coral-3:0001:01:00.0  by its PCI address
  clusteradm tpu reset coral-3:apex_0        by its device
"""

_RESET = """\
Remove an Edge TPU from its bus and scan for it again, which helps some that hang. Refused while a process has it open.
"""

# Twice the ten seconds that the node waits, and what a slow board needs besides.
SECONDS = 60.0
POWER = "switch the host off and on (a reboot is not enough), or move the card to another slot"


def add_arguments(parser: Parser) -> None:
    """The verbs of `clusteradm tpu`."""
    summary = "remove an Edge TPU from its bus and scan for it again"
    reset = parser.add_commands("verb").add("reset", summary, description=_RESET, examples=EXAMPLES)
    reset.add_argument("subject", metavar="HOST:TPU", help="a host and its TPU: PCI address or apex_N")
    context.add_connection_arguments(reset, limit=False, forks=False)


def run(args: argparse.Namespace) -> int:
    cluster = context.open_cluster(args)
    name, _, tpu = args.subject.partition(":")
    if name not in cluster.hosts:
        raise UsageError(f"there is no host {name!r}", next_step=f"hosts: {' '.join(cluster.hosts)}")
    if not tpu:
        raise UsageError(f"which Edge TPU of {name}?", next_step=f"name it: {name}:apex_0, or {name}:PCI-ADDRESS")
    host = cluster.hosts[name]
    with context.connect(args, cluster) as connections:
        connections.meet([host])
        user = cluster.setting("cluster_user", host)
        reply = connections.node(host).call("tpu-reset", timeout=SECONDS, tpu=tpu, user=user)
    _check(name, tpu, reply)
    before, after = reply["before"], reply["after"]
    if args.json:
        body = {"host": name, "before": before, "after": after, "seconds": reply["seconds"]}
        show.json_document("tpu reset", body)
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (f"{name}:{before['address']}", "before", "after"):
        table.add_column(column)
    for line in ("device", "node", "driver", "status", "temp"):
        table.add_row(line, _text(line, before), _text(line, after))
    show.stdout.print(table)
    show.message(f"it was away for {reply['seconds']:.1f} s")
    return 0


def _text(line: str, about: Mapping[str, Any]) -> str:
    value = about[line]
    if value is None:
        return "-"
    return f"{int(value) / 1000:.1f} °C" if line == "temp" else str(value)


def _check(host: str, name: str, reply: Mapping[str, Any]) -> None:
    """Raises what is to be said where the reset was not done, or did not help."""
    outcome, before, after = reply["outcome"], reply["before"], reply["after"]
    if outcome == "unknown":
        there = ", ".join(" = ".join(filter(None, (tpu["address"], tpu["device"]))) for tpu in reply["tpus"])
        raise UsageError(f"{host} has no Edge TPU {name!r} on its bus", next_step=f"it has: {there or 'none'}")
    what, remedy = {
        "busy": (f"{name} is in use by {_owner(reply['owner'])}; nothing was done", "wait for its end, or stop it"),
        "denied": (
            f"its kernel does not let the bus be scanned: {reply['reason']}",
            "run it for the machine itself: in a container sysfs may be read-only",
        ),
        "stays": (f"{before['address']} could not be taken off the bus", POWER),
        "lost": (f"{before['address']} did not come back: it {_seen(after)}", POWER),
        "done": ("", ""),
    }[outcome]
    if what:
        raise HostFailed(what, where=host, next_step=remedy)


def _seen(after: Mapping[str, Any] | None) -> str:
    if after is None:
        return "is not on the bus any more"
    if after["driver"] is None:
        return "is on the bus again, but the driver gave up on it"
    return "is on the bus again, but has no device node"


def _owner(owner: Mapping[str, Any] | None) -> str:
    if owner is None:
        return "a process that does not show who it is"
    if owner["job"]:
        return f"job {owner['job']} of this cluster"
    return f"process {owner['pid']} of {owner['user'] or 'an unknown user'} ({owner['command'] or 'no command line'})"
