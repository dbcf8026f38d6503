"""Inventory and connections of a command: their options, and what they stand for."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clusteradm import transport
from clusteradm.cli import display, next_step, show
from clusteradm.errors import UsageError
from clusteradm.inventory import Cluster, Host, load
from clusteradm.transport import DEFAULT_FORKS, FirstContact, Limits, Password

if TYPE_CHECKING:
    from clusteradm.fleet.packages import Packages

# Connection timeout of the commands that go on without a host that does not answer.
QUICK_SECONDS = 5.0
LAB_INVENTORY = Path("/var/lib/clusteradm/lab/lab/inventory.yml")


def add_inventory_argument(parser: argparse._ActionsContainer) -> None:
    """`-i`, for every command that reads an inventory."""
    parser.add_argument(
        "-i",
        "--inventory",
        metavar="FILE",
        help="inventory file (default: $CLUSTERADM_INVENTORY, ./inventory.yml, or the running lab's)",
    )


def add_json_argument(parser: argparse._ActionsContainer) -> None:
    """`--json`, for every command that writes data."""
    parser.add_argument("--json", action="store_true", help="write one JSON document to standard output")


def add_connection_arguments(
    parser: argparse.ArgumentParser,
    *,
    limit: bool = True,
    json: bool = True,
    forks: bool = True,
    playbook: bool = False,
    connect: float = Limits.connect,
) -> None:
    """Options of every command that connects, in a group of their own.

    `limit`: the command is about many hosts; `json`: it writes data; `forks`: it works on several hosts at a time;
    `playbook`: it runs a playbook; `connect`: default of --connect-timeout, in seconds. What is not offered has its
    default.
    """
    if json:
        add_json_argument(parser)
    group = parser.add_argument_group("connection")
    add_inventory_argument(group)
    if limit:
        group.add_argument("--limit", metavar="PATTERN", help="only these hosts: names, groups, ranges, as in Ansible")
    if forks:
        group.add_argument(
            "--forks",
            type=positive,
            default=DEFAULT_FORKS,
            metavar="N",
            help="work on N hosts at a time (default: %(default)s)",
        )
    group.add_argument("--known-hosts", metavar="FILE", help="host keys (default: known_hosts beside the inventory)")
    accepts = "the keys of hosts" + (" and the packages" if playbook else "")
    group.add_argument("--accept-new", action="store_true", help=f"accept {accepts} that are not known yet")
    group.add_argument("-K", "--ask-become-pass", action="store_true", help="ask for the sudo password, once")
    parser.set_defaults(limit=None, forks=DEFAULT_FORKS, away_timeout=Limits.away, task_timeout=Limits.silent)
    _add_timeout(group, "connect", connect, "fail a host after S seconds without an answer")
    if playbook:
        _add_timeout(group, "away", Limits.away, "wait S seconds for a host whose connection broke during a task")
        _add_timeout(group, "task", Limits.silent, "fail a task after S seconds without output")


def _add_timeout(group: argparse._ActionsContainer, name: str, default: float, meaning: str) -> None:
    group.add_argument(
        f"--{name}-timeout", type=positive, default=default, metavar="S", help=f"{meaning} (default: {default:.0f})"
    )


def positive(text: str) -> int:
    """A number of the command line, from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def inventory_path(args: argparse.Namespace) -> Path:
    """Path of the inventory: the one named, or the first default that exists. Raises UsageError where there is none."""
    named = args.inventory or os.environ.get("CLUSTERADM_INVENTORY")
    if named:
        return Path(named)
    for path in (Path("inventory.yml"), LAB_INVENTORY):
        if path.exists():
            return path
    raise UsageError(
        "no inventory found",
        next_step="name one with -i FILE, write one with: clusteradm inventory init,\n"
        "  or start a virtual cluster with: clusteradm lab up --nodes 4",
    )


def open_cluster(args: argparse.Namespace) -> Cluster:
    """Load the inventory, and say once which cluster this run is about. Raises InputErrors with all its defects."""
    cluster = load(inventory_path(args))
    if not hasattr(args, "cluster"):
        args.cluster = cluster
        say_cluster(args, cluster, str(cluster.path))
    return cluster


def select(args: argparse.Namespace, cluster: Cluster) -> tuple[Host, ...]:
    """The hosts of --limit, all without it. Raises UsageError where there is none."""
    hosts = cluster.select(args.limit or "all")
    if not hosts:
        raise UsageError(f"no host matches {args.limit}", next_step="clusteradm inventory --list shows them")
    return hosts


def say_failed(args: argparse.Namespace, outcome: transport.Outcome[Any]) -> int:
    """Say what failed on which host; the exit status."""
    for name, error in outcome.failed.items():
        text = next_step.complete(str(error), args)
        show.message(f"error: {text}" if error.where else f"error: {name}: {text}")
    return max((error.exit_code for error in outcome.failed.values()), default=0)


def say_cluster(args: argparse.Namespace, cluster: Cluster, source: str) -> None:
    """Name the cluster and the file that it was read from, on standard error; not for Nagios, which wants one line."""
    if getattr(args, "format", "") != "nagios":
        about = f"{show.counted(len(cluster.hosts), 'host')}, {source}"
        show.message(show.line(f'cluster "{cluster.setting("cluster_name")}" ({about})'))


def connect(args: argparse.Namespace, cluster: Cluster, sudo_password: Password | None = None) -> transport.Connections:
    """Connections to the cluster's hosts, none opened yet. Unknown host keys are shown in one table, with one question.

    `sudo_password`: the answer to -K, where a command that connects several times has asked already.
    """
    if args.ask_become_pass and sudo_password is None:
        sudo_password = ask_password("sudo password: ")
    known_hosts = Path(args.known_hosts) if args.known_hosts else cluster.known_hosts
    first_contact = FirstContact.ACCEPT if args.accept_new else FirstContact.ASK
    return transport.Connections(
        cluster,
        known_hosts,
        forks=args.forks,
        first_contact=first_contact,
        ask=lambda table: _ask(table, args, "Accept these keys?", "the keys of hosts never seen before"),
        limits=Limits(args.connect_timeout, args.away_timeout, args.task_timeout),
        sudo_password=sudo_password,
    )


@contextlib.contextmanager
def at_head(args: argparse.Namespace) -> Iterator[tuple[transport.Connections, Cluster]]:
    """The cluster of --inventory, and connections with the head's open: what a verb works with that asks the head."""
    cluster = open_cluster(args)
    with connect(args, cluster) as connections:
        connections.open([cluster.head])
        yield connections, cluster


def packages(args: argparse.Namespace, cluster: Cluster, *, check: bool = False) -> Packages:
    """Packages from addresses for the run of a playbook; new ones are shown in one table, with one question."""
    # Of use to few commands, and slow to import.
    from clusteradm.cli import fetch_view
    from clusteradm.fleet.packages import Packages

    return Packages(
        cluster,
        accept_new=args.accept_new,
        ask=lambda table: _ask(table, args, "Accept these packages?", "the packages"),
        showing=fetch_view.showing,
        check=check,
    )


def ask_password(question: str) -> Password:
    """Ask on the terminal, without echo. Passwords are taken in no other way: files and variables can be read."""
    require_terminal()
    text = display.password(question)
    if not text:
        raise UsageError("no password was typed")
    return Password(text)


def require_terminal() -> None:
    """Raises UsageError where nobody can be asked for a password."""
    try:
        Path("/dev/tty").open("rb").close()
    except OSError:
        raise UsageError(
            "there is no terminal to ask for a password on",
            next_step="run the command in a terminal (over ssh: ssh -t)",
        ) from None


def _ask(table: str, args: argparse.Namespace, question: str, things: str) -> bool:
    """Show all of them, ask once. Without a terminal the answer is no."""
    if not display.can_ask():
        show.message(table)
        show.message(f"not a terminal: nothing accepted. To accept {things}:")
        show.message(f"  {next_step.again(args)} --accept-new")
        return False
    return display.confirm(table, question)
