"""Make a cluster of the hosts in the inventory: run the shipped playbook, or another, on every host. A second run
changes only what is not as the playbook says.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from clusteradm import shipped
from clusteradm.cli import context, show
from clusteradm.cli.playbook_view import View, json_body
from clusteradm.errors import UsageError
from clusteradm.playbook import PlaybookRun, Recap, RetryFile, Tags, Templates, load
from clusteradm.playbook.read.keywords import tags_of
from clusteradm.playbook.tags import ALL

EXAMPLES = """\
examples:
  clusteradm bootstrap inventory.yml
  clusteradm bootstrap inventory.yml --check --diff   show what would change
  clusteradm bootstrap --limit 'compute:!w3'          only these hosts
  clusteradm bootstrap --retry-failed                 the hosts that failed
  clusteradm bootstrap --playbook site.yml --json     another playbook

exit status:
  0    success
  2    wrong usage, or a bad playbook or inventory
  3    some hosts failed
  4    some hosts are unreachable
  5    changes are pending (--check --detailed-exit-code)
  130  interrupted
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm bootstrap`."""
    parser.add_argument("inventory_file", nargs="?", metavar="INVENTORY", help="inventory file, as -i")
    parser.add_argument("--check", action="store_true", help="show what would change; change nothing")
    parser.add_argument("--diff", action="store_true", help="show how files change, line by line")
    parser.add_argument("--detailed-exit-code", action="store_true", help="with --check: exit 5 if changes are pending")
    parser.add_argument("--tags", metavar="TAGS", help="run only tasks with one of these tags, separated by commas")
    parser.add_argument("--skip-tags", metavar="TAGS", help="skip tasks with one of these tags")
    parser.add_argument(
        "--retry-failed", action="store_true", help="run on the hosts that the last run did not complete"
    )
    parser.add_argument("--playbook", metavar="FILE", help="playbook to run (default: the shipped bootstrap.yml)")
    context.add_connection_arguments(parser, playbook=True)


def run(args: argparse.Namespace) -> int:
    if args.inventory_file and args.inventory:
        raise UsageError("the inventory is given twice", next_step="give it once, as INVENTORY or with -i")
    if args.detailed_exit_code and not args.check:
        raise UsageError("--detailed-exit-code needs --check")
    args.inventory = args.inventory_file or args.inventory
    if args.retry_failed and args.limit:
        raise UsageError("--retry-failed and --limit both select hosts", next_step="give one of them")
    cluster = context.open_cluster(args)
    templates = Templates()
    path = Path(args.playbook) if args.playbook else shipped.PLAYBOOKS / "bootstrap.yml"
    playbook = load(path, cluster, templates).only(_tags(args))
    retry = RetryFile(cluster, path)
    limit = ",".join(retry.hosts()) if args.retry_failed else args.limit
    started = time.time()
    with context.connect(args, cluster) as connections:
        work = PlaybookRun(playbook, connections, check=args.check, diff=args.diff, limit=limit, templates=templates)
        console = show.stderr if args.json else show.stdout
        with View(console, diff=args.diff, check=args.check) as view:
            recap = work.execute(view.event)
    if args.json:
        show.json_document("bootstrap", json_body(path, recap, view.tasks, started, check=args.check))
    else:
        view.recap(recap)
    if not args.check:
        _keep(retry, recap, retried=args.retry_failed)
    return _status(recap, detailed=args.detailed_exit_code)


def _tags(args: argparse.Namespace) -> Tags:
    return Tags(tags_of(args.tags) if args.tags else ALL, tags_of(args.skip_tags or ""))


def _keep(retry: RetryFile, recap: Recap, *, retried: bool) -> None:
    """Write the retry file, and say what to run next."""
    try:
        failed = retry.keep(recap)
    except OSError as error:
        show.message(f"{retry.path} cannot be written ({error.strerror}): --retry-failed will not include this run")
        return
    if failed:
        show.message(f"once corrected: clusteradm bootstrap --retry-failed   ({', '.join(failed)})")
    elif retried:
        show.message("all hosts are completed; run bootstrap on all of them once more, so that each knows all others")


def _status(recap: Recap, *, detailed: bool) -> int:
    if recap.interrupted:
        return 130
    if recap.failed:
        return 3
    if recap.unreachable:
        return 4
    return 5 if detailed and recap.pending else 0
