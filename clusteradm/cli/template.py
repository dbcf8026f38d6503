"""Show a template as a host would get it, rendered by the same code as the run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from clusteradm import shipped
from clusteradm.cli import context
from clusteradm.errors import UsageError
from clusteradm.playbook.preview import preview

EXAMPLES = """\
examples:
  clusteradm template show --host head head/etc/ganesha/ganesha.conf.j2
  clusteradm template show --host w1 node/etc/openmpi/openmpi-mca-params.conf.j2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="template_command", metavar="COMMAND", required=True)
    show = commands.add_parser("show", help="render a template for one host", description=__doc__)
    context.add_inventory_argument(show)
    show.add_argument("--host", required=True, help="a host of the inventory")
    show.add_argument(
        "path", metavar="PATH", help="a file below templates/, as shipped, or any template of the playbook"
    )
    show.add_argument(
        "--playbook", metavar="FILE", help="where the template is used (default: the shipped bootstrap.yml)"
    )


def run(args: argparse.Namespace) -> int:
    cluster = context.open_cluster(args)
    host = cluster.hosts.get(args.host)
    if host is None:
        raise UsageError(f"there is no host {args.host!r}", next_step=f"hosts: {' '.join(cluster.hosts)}")
    shipped_path, own = shipped.TEMPLATES / args.path, Path(args.path)
    path = shipped_path if shipped_path.is_file() else own
    if not path.is_file():
        raise UsageError(f"there is neither a template {shipped_path} nor {own}")
    playbook = Path(args.playbook) if args.playbook else shipped.PLAYBOOKS / "bootstrap.yml"
    sys.stdout.write(preview(path, playbook, cluster, host))
    return 0
