"""Copy files and folders of hosts to DIR/HOST/ here, from all hosts at once. A file that is here with the same size and
time is not fetched again; what was cut is taken up where it was. Every file is checked by its sha256.

REMOTE may be a pattern, as '/var/log/*.log'; without / at its beginning it is below the user's home.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from clusteradm.cli import context, copy_view, show
from clusteradm.cli.context import QUICK_SECONDS
from clusteradm.cli.job_view import transfer
from clusteradm.cli.parser import checked
from clusteradm.fleet import pull

EXAMPLES = """\
examples:
  clusteradm pull /etc/hosts hosts/         to hosts/coral-1/hosts, ...
  clusteradm pull --sudo '/var/log/*.log' logs/
  clusteradm pull --limit coral-3 data/ .

Modes are kept, owners are not. In a folder, links are left out.

exit status: 3 or 4 where a host failed or did not answer
"""
_MOST = "4G"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm pull`."""
    parser.add_argument("paths", nargs="+", metavar="REMOTE", help="files and folders of every host, or patterns")
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder here, made where it is missing")
    parser.add_argument("--sudo", action="store_true", help="read as root")
    parser.add_argument(
        "--max-size",
        type=checked(pull.size_of),
        default=_MOST,
        metavar="SIZE",
        help="fail a host whose files take more (default: %(default)s)",
    )
    context.add_connection_arguments(parser, connect=QUICK_SECONDS)


def run(args: argparse.Namespace) -> int:
    """Copy; the exit status."""
    cluster = context.open_cluster(args)
    hosts = context.select(args, cluster)
    kept = copy_view.keeping("here")
    with kept, context.connect(args, cluster) as connections, transfer("fetching") as progress:
        outcome = pull.pull(
            connections,
            hosts,
            args.paths,
            args.folder,
            most=args.max_size,
            sudo=args.sudo,
            progress=lambda came: progress(came, came),
        )
    if args.json:
        found = {
            name: {
                "changed": [str(path) for path in pulled.changed],
                "unchanged": pulled.unchanged,
                "left_out": pulled.left_out,
                "error": None,
            }
            for name, pulled in outcome.ok.items()
        }
        copy_view.document("pull", found, outcome)
    else:
        copy_view.table(hosts, {name: (len(one.changed), one.unchanged) for name, one in outcome.ok.items()})
        for name, pulled in outcome.ok.items():
            for text in pulled.left_out:
                show.message(show.line(f"{name}: left out: {text}"))
    return context.say_failed(args, outcome)
