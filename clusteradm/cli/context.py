"""What most commands need: the inventory to use, and connections to its hosts."""

from __future__ import annotations

import argparse
import getpass
import os
from pathlib import Path

from clusteradm.cli import show
from clusteradm.errors import UsageError
from clusteradm.inventory import Cluster, load
from clusteradm.transport import DEFAULT_FORKS, Connections, FirstContact, Limits, Password

# For what goes on without a host that does not answer: the others are waiting, and the host is told of.
QUICK_SECONDS = 5.0
LAB_INVENTORY = Path("/var/lib/clusteradm/lab/lab/inventory.yml")


def add_inventory_argument(parser: argparse.ArgumentParser) -> None:
    """`-i`, for every command that reads an inventory."""
    parser.add_argument(
        "-i",
        "--inventory",
        metavar="FILE",
        help="inventory file (default: $CLUSTERADM_INVENTORY, ./inventory.yml, or the running lab's)",
    )


def add_connection_arguments(
    parser: argparse.ArgumentParser, *, limit: bool = True, json: bool = True, connect: float = Limits.connect
) -> None:
    """Options of every command that connects.

    `limit`: whether it is about many hosts; `json`: whether it has data to show; `connect`: how long a host may take to
    answer, in seconds.
    """
    add_inventory_argument(parser)
    if limit:
        parser.add_argument("--limit", metavar="PATTERN", help="only these hosts: names, groups, ranges, as in Ansible")
    parser.add_argument(
        "--forks", type=_count, default=DEFAULT_FORKS, metavar="N", help="hosts at a time (%(default)s)"
    )
    parser.add_argument("--known-hosts", metavar="FILE", help="host keys (default: known_hosts beside the inventory)")
    parser.add_argument("--accept-new", action="store_true", help="accept the keys of hosts never seen before")
    parser.add_argument(
        "-K", "--ask-become-pass", action="store_true", help="ask once for sudo's password, where sudo wants one"
    )
    for name, default, meaning in (
        ("connect", connect, "for a host to answer"),
        ("away", Limits.away, "for a host to be back when its connection breaks in the middle of work"),
        ("task", Limits.silent, "for a task to say anything"),
    ):
        parser.add_argument(
            f"--{name}-timeout", type=_count, default=default, metavar="S", help=f"seconds {meaning} ({default:.0f})"
        )
    if json:
        parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def inventory_path(args: argparse.Namespace) -> Path:
    """The inventory file to use: the one named, or the first default that exists."""
    named = args.inventory or os.environ.get("CLUSTERADM_INVENTORY")
    if named:
        return Path(named)
    for path in (Path("inventory.yml"), LAB_INVENTORY):
        if path.exists():
            return path
    raise UsageError(
        "no inventory found",
        next_step="name one with -i FILE, or start a virtual cluster with: clusteradm lab up --nodes 4",
    )


def open_cluster(args: argparse.Namespace) -> Cluster:
    """Load the inventory; every defect of it is raised at once as InputErrors."""
    return load(inventory_path(args))


def connect(args: argparse.Namespace, cluster: Cluster, sudo_password: Password | None = None) -> Connections:
    """Connections to the cluster's hosts, none opened yet. Unknown host keys are shown in one table and asked once.

    `sudo_password`: what was typed for -K already, where a run connects several times.
    """
    if args.ask_become_pass and sudo_password is None:
        sudo_password = ask_password("sudo password: ")
    known_hosts = Path(args.known_hosts) if args.known_hosts else cluster.path.parent / "known_hosts"
    first_contact = FirstContact.ACCEPT if args.accept_new else FirstContact.ASK
    return Connections(
        cluster,
        known_hosts,
        forks=args.forks,
        first_contact=first_contact,
        ask=_ask,
        limits=Limits(args.connect_timeout, args.away_timeout, args.task_timeout),
        sudo_password=sudo_password,
    )


def ask_password(question: str) -> Password:
    """Ask on the terminal, without echo. There is no other way: what stands in a file or a variable is found there."""
    require_terminal()
    try:
        text = getpass.getpass(question)
    except EOFError:
        text = ""
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


def _ask(table: str) -> bool:
    """Show all fingerprints, ask once. Without a terminal the answer is no."""
    show.message(table)
    if not show.stderr.is_terminal:
        show.message("not a terminal: nothing accepted; --accept-new accepts the keys of hosts never seen before")
        return False
    return show.stderr.input("Accept these keys? [y/N] ").strip().lower() in ("y", "yes")
