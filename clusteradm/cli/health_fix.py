"""`clusteradm health --fix`: what is safe to mend is mended by those tasks of bootstrap that are about it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from clusteradm import shipped
from clusteradm.cli import context, show
from clusteradm.cli.playbook_view import View
from clusteradm.health import Finding, fixes
from clusteradm.inventory import Cluster
from clusteradm.playbook import PlaybookRun, Tags, Templates, load
from clusteradm.transport import Password


def mend(args: argparse.Namespace, cluster: Cluster, findings: Iterable[Finding], password: Password | None) -> bool:
    """Mend what can be mended without asking; False where there is nothing of the kind."""
    wanted = fixes(findings)
    if not wanted:
        show.message("nothing for --fix: it sets clocks, mounts the share, loads the driver, gives permissions")
        return False
    tags = Tags(frozenset().union(*wanted.values()))
    limit = ",".join(wanted)
    show.message(f"mending: clusteradm bootstrap --limit {limit} --tags {','.join(sorted(tags.only))}")
    templates = Templates()
    playbook = load(shipped.PLAYBOOKS / "bootstrap.yml", cluster, templates).only(tags)
    with context.connect(args, cluster, password) as connections:
        run = PlaybookRun(playbook, connections, limit=limit, templates=templates)
        with View(show.stderr, diff=False, check=False) as view:
            recap = run.execute(view.event)
        view.recap(recap)
    return True
