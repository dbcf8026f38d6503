"""Playbooks of `clusteradm serve`. Its other verbs do without this module: it loads the playbook engine."""

from __future__ import annotations

import argparse
import time

from clusteradm import shipped
from clusteradm.cli import next_step, show
from clusteradm.cli.playbook_view import View, exit_status, json_body
from clusteradm.inventory import Cluster
from clusteradm.playbook import PlaybookRun, Templates, load
from clusteradm.transport import Connections


def run_playbook(
    args: argparse.Namespace,
    connections: Connections,
    cluster: Cluster,
    name: str,
    *,
    check: bool = False,
    diff: bool = False,
) -> int:
    """Run a shipped playbook; the exit status. With --json its document is written."""
    templates, path, started = Templates(), shipped.PLAYBOOKS / name, time.time()
    playbook = load(path, cluster, templates)
    work = PlaybookRun(playbook, connections, check=check, diff=diff, limit=None, templates=templates)
    console = show.stderr if args.json else show.stdout
    with View(console, diff=diff, check=check, complete=lambda text: next_step.complete(text, args)) as view:
        recap = work.execute(view.event)
    if not args.json:
        view.recap(recap, next_step.again(args))
    else:
        show.json_document(f"serve {args.verb}", json_body(path, recap, view.tasks, started, check=check))
    return exit_status(recap)
