"""Boards in, a working cluster out: runs the shipped playbook (or another) on every host. Running it again changes only
what is not as it should be."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from clusteradm import shipped
from clusteradm.cli import context, show
from clusteradm.cli.playbook_view import View, json_body
from clusteradm.errors import UsageError
from clusteradm.playbook import Recap, Run, Templates, read

EXAMPLES = """\
examples:
  clusteradm bootstrap inventory.yml                     make a cluster of the hosts in inventory.yml
  clusteradm bootstrap inventory.yml --check --diff      show what it would change; change nothing
  clusteradm bootstrap --limit 'compute:!w3'             only these hosts
  clusteradm bootstrap --playbook site.yml --json        another playbook, one JSON document

exit status: 0 ok, 2 bad playbook or inventory, 3 some hosts failed, 4 some hosts were unreachable, 5 changes pending
(--check --detailed-exit-code), 130 interrupted
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inventory_file", nargs="?", metavar="INVENTORY", help="inventory file; the same as -i")
    context.add_connection_arguments(parser)
    parser.add_argument("--check", action="store_true", help="change nothing; say what would change")
    parser.add_argument("--diff", action="store_true", help="show the changes of files, line by line")
    parser.add_argument("--detailed-exit-code", action="store_true", help="with --check: 5 where changes are pending")
    parser.add_argument("--playbook", metavar="FILE", help="playbook to run (default: the shipped bootstrap.yml)")


def run(args: argparse.Namespace) -> int:
    if args.inventory_file and args.inventory:
        raise UsageError("the inventory is named twice", next_step="name it once, as INVENTORY or with -i")
    if args.detailed_exit_code and not args.check:
        raise UsageError("--detailed-exit-code says whether changes are pending, which only --check finds out")
    args.inventory = args.inventory_file or args.inventory
    cluster = context.open_cluster(args)
    templates = Templates()
    path = Path(args.playbook) if args.playbook else shipped.PLAYBOOKS / "bootstrap.yml"
    playbook = read(path, cluster, templates)
    started = time.time()
    with context.open_fleet(args, cluster) as fleet:
        work = Run(playbook, fleet, check=args.check, diff=args.diff, limit=args.limit, templates=templates)
        console = show.stderr if args.json else show.stdout
        with View(console, diff=args.diff, check=args.check) as view:
            recap = work.execute(view.event)
    if args.json:
        show.json_document("bootstrap", json_body(path, recap, view.tasks, started, check=args.check))
    else:
        view.recap(recap)
    return _status(recap, detailed=args.detailed_exit_code)


def _status(recap: Recap, *, detailed: bool) -> int:
    if recap.interrupted:
        return 130
    if recap.failed:
        return 3
    if recap.unreachable:
        return 4
    return 5 if detailed and recap.pending else 0
