"""Show or forget the packages from addresses and files that were accepted for the cluster (clusteradm.lock)."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from clusteradm.cli import context, next_step, show
from clusteradm.cli.parser import Parser
from clusteradm.fetch.lock import Lock

EXAMPLES = """\
examples:
  clusteradm packages list
  clusteradm packages list --json
  clusteradm packages forget https://example.com/gasket-dkms_1.0_all.deb

bootstrap fetches them, asks about new ones, and installs no others than those that were accepted.
"""
_LIST = """\
examples:
  clusteradm packages list
  clusteradm packages list --json | jq -r '.packages[].sha256'
"""
_FORGET = """\
examples:
  clusteradm packages forget https://example.com/gasket-dkms_1.0_all.deb

The next bootstrap that needs it shows what is there then, and asks about it. Hosts keep what they have.
"""


def add_arguments(parser: Parser) -> None:
    """The verbs of `clusteradm packages`."""
    verbs = parser.add_commands("verb")
    listing = verbs.add("list", "list the packages that were accepted", examples=_LIST)
    context.add_json_argument(listing)
    listing.set_defaults(run_packages=_list)
    forget = verbs.add("forget", "remove a package from the accepted ones", examples=_FORGET)
    forget.add_argument("address", metavar="ADDRESS", help="as `list` shows it")
    forget.set_defaults(run_packages=_forget)
    for verb in (listing, forget):
        context.add_inventory_argument(verb)


def run(args: argparse.Namespace) -> int:
    args.run_packages(args, Lock(context.open_cluster(args).package_lock))
    return 0


def _list(args: argparse.Namespace, lock: Lock) -> None:
    entries = lock.read()
    if args.json:
        packages = [{"address": address, **asdict(entry)} for address, entry in entries.items()]
        show.json_document("packages list", {"packages": packages, "file": str(lock.path)})
        return
    if not entries:
        show.message(f"no packages were accepted: {lock.path} has none")
        return
    table = show.Table("package", "version", "architecture", "bytes", "sha256", "address")
    for address, entry in entries.items():
        size = f"{entry.size:,}"
        table.add_row(entry.package, entry.version, entry.architecture, size, entry.sha256[:12], address)
    show.stdout.print(table)


def _forget(args: argparse.Namespace, lock: Lock) -> None:
    entry = lock.remove(args.address)
    show.message(f"{entry.deb} is no longer in {lock.path}; the next run asks about it:")
    show.message(f"  {next_step.command('bootstrap', args)}")
