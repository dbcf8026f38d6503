"""Playbooks of `clusteradm serve`. Its other verbs do without this module: it loads the playbook engine."""

from __future__ import annotations

import argparse
import time

from clusteradm import shipped
from clusteradm.cli import next_step, show
from clusteradm.cli.playbook_view import View, exit_status, json_body
from clusteradm.inventory import Cluster
from clusteradm.playbook import PlaybookRun, Tags, Templates, load
from clusteradm.playbook.tags import ALL
from clusteradm.transport import Connections


def run_playbook(
    args: argparse.Namespace,
    connections: Connections,
    cluster: Cluster,
    name: str,
    *,
    check: bool = False,
    diff: bool = False,
    tags: frozenset[str] = ALL,
) -> int:
    """Run a shipped playbook, or its tasks with these tags; the exit status. With --json its document is written, where
    the command has none of its own: serve deploy has, once the balancer is right."""
    templates, path, started = Templates(), shipped.PLAYBOOKS / name, time.time()
    playbook = load(path, cluster, templates).only(Tags(tags, frozenset()))
    work = PlaybookRun(playbook, connections, check=check, diff=diff, limit=None, templates=templates)
    console = show.stderr if args.json else show.stdout
    with View(console, diff=diff, check=check, complete=lambda text: next_step.complete(text, args)) as view:
        recap = work.execute(view.event)
    status = exit_status(recap)
    if not args.json:
        view.recap(recap, next_step.again(args))
    elif args.verb != "deploy" or status:
        body = json_body(path, recap, view.tasks, started, check=check)
        if args.verb == "deploy":
            body.update(revision=None, followed=False)
        show.json_document(f"serve {args.verb}", body)
    return status
