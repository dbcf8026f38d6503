"""Show a template as rendered for a host, with the code that bootstrap uses."""

from __future__ import annotations

import argparse
from pathlib import Path

from clusteradm import shipped
from clusteradm.cli import context, show
from clusteradm.cli.parser import Parser
from clusteradm.errors import UsageError
from clusteradm.nearest import nearest
from clusteradm.playbook.preview import preview

EXAMPLES = """\
examples:
  clusteradm template show --host head /etc/ganesha/ganesha.conf
  clusteradm template show --host head head/etc/ganesha/ganesha.conf.j2
  clusteradm template show --host w1 node/etc/openmpi/openmpi-mca-params.conf.j2
"""


# The paths of the shipped templates are all alike to some degree.
_CUTOFF = 0.6


def add_arguments(parser: Parser) -> None:
    """The verbs of `clusteradm template`."""
    summary = "render a template for one host"
    verb = parser.add_commands("verb").add("show", summary, description=__doc__, examples=EXAMPLES)
    verb.add_argument(
        "path",
        metavar="PATH",
        help="path of the file on the host, or of a template",
    )
    verb.add_argument("--host", required=True, metavar="HOST", help="host of the inventory")
    verb.add_argument(
        "--playbook", metavar="FILE", help="playbook that uses the template (default: the shipped bootstrap.yml)"
    )
    context.add_inventory_argument(verb)


def run(args: argparse.Namespace) -> int:
    cluster = context.open_cluster(args)
    host = cluster.host(args.host)
    path = _template(args.path)
    playbook = Path(args.playbook) if args.playbook else shipped.PLAYBOOKS / "bootstrap.yml"
    show.data(preview(path, playbook, cluster, host))
    return 0


def _template(name: str) -> Path:
    """The file of a template: the shipped tree mirrors the hosts' paths, below head/ and node/. Raises UsageError."""
    inside = name.lstrip("/")
    shipped_ones = [shipped.TEMPLATES / inside, *(shipped.TEMPLATES / top / f"{inside}.j2" for top in ("head", "node"))]
    for path in (*shipped_ones, Path(name)):
        if path.is_file():
            return path
    known = [str(path.relative_to(shipped.TEMPLATES)) for path in sorted(shipped.TEMPLATES.rglob("*.j2"))]
    near = nearest(inside, known, _CUTOFF) or nearest(f"node/{inside}.j2", known, _CUTOFF)
    raise UsageError(f"there is no template for {name}{near}", next_step="" if near else f"shipped: {', '.join(known)}")
