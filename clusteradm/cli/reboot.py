"""Reboot hosts: all of --limit at once, the head after the others; or, with --rolling N, N at a time, while the cluster
goes on working. A host's turn: it is drained, no job uses it any more, it is rebooted, it answers from another boot, it
is as healthy as before, and it is returned to service. After a host that is not, no other is begun.
"""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Callable, Mapping, Sequence

from clusteradm.cli import context, next_step, power_view, show
from clusteradm.cli.context import QUICK_SECONDS
from clusteradm.errors import UsageError
from clusteradm.fleet import power
from clusteradm.inventory import Host
from clusteradm.jobs import Jobs
from clusteradm.jobs.places import running_on
from clusteradm.node.spec.wire.power import REBOOT
from clusteradm.transport import Connections

EXAMPLES = """\
examples:
  clusteradm reboot --rolling 1            one after the other, the head last
  clusteradm reboot --rolling 2 --hand-on  two at a time; jobs go on on others
  clusteradm reboot --limit coral-3        asks, then reboots it
  clusteradm reboot --limit compute --yes

exit status: 3 or 4 where a host did not come back
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm reboot`."""
    parser.add_argument(
        "--rolling", type=context.positive, metavar="N", help="N hosts at a time, in and out of service"
    )
    parser.add_argument("--hand-on", action="store_true", help="with --rolling: do not wait for the jobs on a host")
    waits = power.Waits()
    for name, default, meaning in (
        ("job", waits.jobs, "with --rolling: wait S seconds for the jobs on a host"),
        ("boot", waits.boot, "wait S seconds for a host to come back"),
        ("health", waits.health, "with --rolling: wait S seconds for its health then"),
    ):
        text = f"{meaning} (default: {default:.0f})"
        parser.add_argument(f"--{name}-timeout", type=context.positive, default=default, metavar="S", help=text)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    context.add_connection_arguments(parser, forks=False, connect=QUICK_SECONDS)


def run(args: argparse.Namespace) -> int:
    """Reboot; the exit status."""
    if args.hand_on and not args.rolling:
        raise UsageError("--hand-on is for --rolling: without it, nobody waits for jobs")
    cluster = context.open_cluster(args)
    hosts = power.head_last(context.select(args, cluster))
    waits = power.Waits(args.boot_timeout, args.health_timeout, None if args.hand_on else args.job_timeout)
    with context.connect(args, cluster) as connections:
        jobs = Jobs(connections, cluster)
        if args.rolling:
            return _roll(args, connections, hosts, waits, lambda: running_on(jobs))
        if not args.yes and not power_view.confirmed(args, hosts, power_view.running(connections, cluster), "Reboot"):
            show.message("nothing was done")
            return 0
        return power_view.outcome(args, "reboot", power.at_once(connections, hosts, REBOOT, waits, power_view.say))


def _roll(
    args: argparse.Namespace,
    connections: Connections,
    hosts: Sequence[Host],
    waits: power.Waits,
    busy: Callable[[], Mapping[str, Sequence[str]]],
) -> int:
    turns = power.Turns()
    try:
        power.in_turns(connections, hosts, args.rolling, waits, busy, getpass.getuser(), power_view.say, turns)
    except KeyboardInterrupt:
        _show_rest(args, turns)
        raise
    for error in turns.errors.values():
        show.message(f"error: {next_step.complete(str(error), args)}")
    _show_rest(args, turns)
    if args.json:
        errors = {name: str(error) for name, error in turns.errors.items()}
        found = {"rebooted": turns.done, "failed": errors, "drained": turns.drained, "not_begun": turns.left}
        show.json_document("reboot", found)
    return max((error.exit_code for error in turns.errors.values()), default=0)


def _show_rest(args: argparse.Namespace, turns: power.Turns) -> None:
    """Say what is left to do."""
    if turns.drained:
        undrain = next_step.command(f"undrain {' '.join(turns.drained)}", args)
        show.message(f"left out of service: {', '.join(turns.drained)}; when all is well: {undrain}")
    if turns.left:
        show.message(f"not begun: {', '.join(turns.left)}")
