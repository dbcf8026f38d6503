"""Show a template as a host would get it, rendered by the same code as the run."""

from __future__ import annotations

import argparse
import difflib
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
        "path",
        metavar="PATH",
        help="the file's path on the host, a file below templates/, or any of the playbook's own",
    )
    show.add_argument(
        "--playbook", metavar="FILE", help="where the template is used (default: the shipped bootstrap.yml)"
    )


def run(args: argparse.Namespace) -> int:
    cluster = context.open_cluster(args)
    host = cluster.hosts.get(args.host)
    if host is None:
        raise UsageError(f"there is no host {args.host!r}", next_step=f"hosts: {' '.join(cluster.hosts)}")
    path = _template(args.path)
    playbook = Path(args.playbook) if args.playbook else shipped.PLAYBOOKS / "bootstrap.yml"
    sys.stdout.write(preview(path, playbook, cluster, host))
    return 0


def _template(name: str) -> Path:
    """The template that is meant: the shipped tree mirrors the hosts' paths, below head/ and node/."""
    inside = name.lstrip("/")
    shipped_ones = [shipped.TEMPLATES / inside, *(shipped.TEMPLATES / top / f"{inside}.j2" for top in ("head", "node"))]
    for path in (*shipped_ones, Path(name)):
        if path.is_file():
            return path
    files = (path for path in sorted(shipped.TEMPLATES.rglob("*.j2")))
    known = [str(path.relative_to(shipped.TEMPLATES)) for path in files]
    near = difflib.get_close_matches(f"node/{inside}.j2", known, 1)
    raise UsageError(
        f"there is no template for {name}",
        next_step=f"did you mean {near[0]}?" if near else f"shipped: {', '.join(known)}",
    )
