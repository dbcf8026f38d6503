"""`clusteradm health --fix`: runs the tasks of bootstrap that repair the findings, on the hosts that have them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from clusteradm import shipped
from clusteradm.cli import context, next_step, show
from clusteradm.cli.playbook_view import View
from clusteradm.health import Finding, fixes
from clusteradm.inventory import Cluster
from clusteradm.playbook import PlaybookRun, Tags, Templates, load
from clusteradm.transport import Password


def repair(args: argparse.Namespace, cluster: Cluster, findings: Iterable[Finding], password: Password | None) -> bool:
    """Run the tasks; False if there is no finding that they repair."""
    wanted = fixes(findings)
    if not wanted:
        show.message(
            "nothing for --fix to repair: it sets clocks, mounts the share, loads the driver, sets permissions"
        )
        return False
    tags = Tags(frozenset().union(*wanted.values()))
    limit = ",".join(wanted)
    words = next_step.command(f"bootstrap --limit {limit} --tags {','.join(sorted(tags.only))}", args)
    show.message(f"repairing: {words}")
    templates = Templates()
    playbook = load(shipped.PLAYBOOKS / "bootstrap.yml", cluster, templates).only(tags)
    with context.connect(args, cluster, password) as connections:
        files = context.packages(args, cluster)
        run = PlaybookRun(playbook, connections, limit=limit, templates=templates, files=files)
        with View(show.stderr, diff=False, check=False, complete=lambda text: next_step.complete(text, args)) as view:
            recap = run.execute(view.event)
        view.recap(recap, next_step.again(args))
    return True
