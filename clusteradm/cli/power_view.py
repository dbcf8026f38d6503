"""What reboot and poweroff show and ask."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from clusteradm.cli import context, display, next_step, show
from clusteradm.errors import ClusteradmError, UsageError
from clusteradm.inventory import Cluster, Host
from clusteradm.inventory.ranges import fold
from clusteradm.jobs import Jobs
from clusteradm.jobs.places import running_on
from clusteradm.transport import Connections, Outcome


def say(host: str, text: str) -> None:
    """A line of progress, on standard error."""
    show.message(show.line(f"{host}: {text}"))


def running(connections: Connections, cluster: Cluster) -> Mapping[str, Sequence[str]]:
    """The running jobs by host; none, with a warning, where the head cannot say it."""
    try:
        connections.open([cluster.head])
        return running_on(Jobs(connections, cluster))
    except ClusteradmError as error:
        show.message(f"warning: it is not known whether jobs are running: {error}")
        return {}


def confirmed(args: argparse.Namespace, hosts: Sequence[Host], jobs: Mapping[str, Sequence[str]], verb: str) -> bool:
    """Show the hosts and the jobs on them, and ask."""
    if not display.can_ask():
        raise UsageError("not a terminal: nobody can be asked", next_step=f"{next_step.again(args)} --yes")
    head = any(host.is_head for host in hosts)
    hit = sorted({job for name, some in jobs.items() for job in some if head or name in {one.name for one in hosts}})
    lines = [",".join(fold([host.name for host in hosts]))]
    if hit:
        lines.append(f"running there: job {', '.join(hit)}")
    if head:
        lines.append("with the head: the shared directory is gone until it is back")
    return display.confirm(show.visible("\n".join(lines)), f"{verb} {show.counted(len(hosts), 'host')}?")


def outcome(args: argparse.Namespace, command: str, done: Outcome[float]) -> int:
    """Show what came of it; the exit status."""
    status = context.say_failed(args, done)
    if args.json:
        errors = {name: str(error) for name, error in done.failed.items()}
        seconds = {name: round(each, 1) for name, each in done.ok.items()}
        show.json_document(command, {"seconds": seconds, "failed": errors})
    return status
