"""Make a cluster of the hosts in the inventory: run the shipped playbook, or another, on every host. A second run
changes only what is not as the playbook says.
"""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path

from clusteradm import shipped
from clusteradm.cli import context, next_step, show
from clusteradm.cli.playbook_view import View, exit_status, json_body
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
  clusteradm bootstrap --playbook slurm.yml  Slurm, for the jobs of many people

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
    parser.add_argument(
        "--playbook", metavar="FILE", help="playbook to run, or the name of a shipped one (default: bootstrap.yml)"
    )
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
    path = _playbook(args.playbook)
    playbook = load(path, cluster, templates).only(_tags(args))
    retry = RetryFile(cluster, path)
    limit = ",".join(retry.hosts()) if args.retry_failed else args.limit
    started = time.time()
    with context.connect(args, cluster) as connections:
        work = PlaybookRun(
            playbook,
            connections,
            check=args.check,
            diff=args.diff,
            limit=limit,
            templates=templates,
            files=context.packages(args, cluster, check=args.check),
        )
        console = show.stderr if args.json else show.stdout
        with View(
            console, diff=args.diff, check=args.check, complete=lambda text: next_step.complete(text, args)
        ) as view:
            try:
                recap = work.execute(view.event)
            except BrokenPipeError:  # nobody reads on: the run has ended as after Ctrl-C
                if not args.check:
                    _keep(retry, work.recap)
                raise
    if args.json:
        show.json_document("bootstrap", json_body(path, recap, view.tasks, started, check=args.check))
    else:
        view.recap(recap, next_step.again(args))
    if not args.check:
        _say_next(args, _keep(retry, recap))
    return exit_status(recap, detailed=args.detailed_exit_code)


def _playbook(name: str | None) -> Path:
    """The playbook's file. A name without a folder that is no file here is that of a shipped one."""
    if name is None:
        return shipped.PLAYBOOKS / "bootstrap.yml"
    path = Path(name)
    known = shipped.PLAYBOOKS / name
    return known if "/" not in name and not path.exists() and known.is_file() else path


def _tags(args: argparse.Namespace) -> Tags:
    chosen = []
    for option, text in (("--tags", args.tags), ("--skip-tags", args.skip_tags)):
        chosen.append(tags_of(text or ""))
        if text is not None and not chosen[-1]:
            raise UsageError(f"{option} names no tag")
    return Tags(chosen[0] or ALL, chosen[1])


def _keep(retry: RetryFile, recap: Recap) -> tuple[str, ...]:
    """Write the retry file; the hosts in it."""
    try:
        return retry.keep(recap)
    except OSError as error:
        show.message(f"{retry.path} cannot be written ({error.strerror}): --retry-failed will not include this run")
        return ()


def _say_next(args: argparse.Namespace, failed: tuple[str, ...]) -> None:
    """Say what to run next: on the hosts that failed; or on all, where these were corrected, to know each other."""
    selection = (("--playbook", args.playbook), ("--tags", args.tags), ("--skip-tags", args.skip_tags))
    options = "".join(f" {option} {shlex.quote(value)}" for option, value in selection if value)
    if failed:
        words = next_step.command(f"bootstrap --retry-failed{options}", args)
        show.message(f"once corrected, for {', '.join(failed)}:\n  {words}")
    elif args.retry_failed:
        words = next_step.command(f"bootstrap{options}", args)
        show.message(f"all hosts are completed; so that each knows all others, run it once more on all:\n  {words}")
