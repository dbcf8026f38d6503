"""Find boards on this machine's network: by what they announce by mDNS (Mendel's `_googlemdt._tcp`, `_ssh._tcp`), and
in ranges of addresses that are scanned for SSH. Each with its host key, what it says of itself, and whether the
inventory has it. Nothing is logged in to.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from clusteradm.cli import context, show
from clusteradm.cli.parser import checked
from clusteradm.errors import UsageError
from clusteradm.fleet import discovery
from clusteradm.fleet.discovery import Board
from clusteradm.inventory import Cluster

EXAMPLES = """\
examples:
  clusteradm discover
  clusteradm discover --scan 192.168.1.0/24
  clusteradm discover --seconds 0 --scan 10.0.0.0/28 --json
  clusteradm inventory init --discover      writes an inventory of what is found

Scan only networks that are yours.
"""
LISTEN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm discover`."""
    add_search_arguments(parser)
    context.add_json_argument(parser)
    group = parser.add_argument_group("connection")
    context.add_inventory_argument(group)
    group.add_argument("--known-hosts", metavar="FILE", help="host keys (default: known_hosts beside the inventory)")


def add_search_arguments(parser: argparse._ActionsContainer) -> None:
    """How to search."""
    parser.add_argument(
        "--scan",
        type=checked(discovery.network),
        action="append",
        default=[],
        metavar="RANGE",
        help="also try these addresses, as 192.168.1.0/24; may be repeated",
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=LISTEN,
        metavar="S",
        help="listen S seconds for announcements; 0: do not ask for any (default: %(default)s)",
    )


def _seconds(text: str) -> int:
    return 0 if text == "0" else min(context.positive(text), 3600)


def run(args: argparse.Namespace) -> int:
    """Search, and show what was found."""
    if not args.seconds and not args.scan:
        raise UsageError("nothing to search: --seconds 0 is for --scan RANGE")
    boards = search(args, _cluster(args))
    if args.json:
        show.json_document("discover", {"boards": [dataclasses.asdict(board) for board in boards]})
    elif boards:
        show_table(boards)
    elif args.scan:
        show.message(
            "nothing was found: no address of the range answers by SSH; see that this machine has a way: ip route"
        )
    else:
        show.message("nothing was found; boards that announce nothing: --scan RANGE, as 192.168.1.0/24")
    return 0


def search(args: argparse.Namespace, cluster: Cluster | None = None) -> list[Board]:
    """The boards, by the options of add_search_arguments."""
    known = getattr(args, "known_hosts", None)
    return discovery.discover(args.scan, args.seconds, cluster, Path(known) if known else None, show.message)


def show_table(boards: list[Board]) -> None:
    """A line for each."""
    table = show.Table("address", "found by", "name", "says", "host key", "inventory")
    for board in boards:
        says = ", ".join(filter(None, (board.model, board.banner)))
        inventory = ": ".join(filter(None, (board.host, board.note))) or "-"
        table.add_row(board.address, ", ".join(board.how), board.name or "-", says or "-", board.key or "-", inventory)
    show.stdout.print(table)


def _cluster(args: argparse.Namespace) -> Cluster | None:
    """The inventory, where there is one: none is needed."""
    if args.inventory is None:
        try:
            context.inventory_path(args)
        except UsageError:
            return None
    return context.open_cluster(args)
