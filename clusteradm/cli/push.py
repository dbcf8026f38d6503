"""Copy files and folders of this machine to hosts, all at once. What a host has already is not sent; what was cut is
taken up where it was. Every file is checked by its sha256, and appears whole or not at all.

DEST is a folder, made where it is missing, if it ends with /, if there are several SRC, or if SRC is a folder, which
goes below it under its own name. Else it is the path of the file, or a folder that is there. A DEST that does not begin
with / is below the user's home.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from clusteradm.cli import context, copy_view, show
from clusteradm.cli.context import QUICK_SECONDS
from clusteradm.cli.job_view import transfer
from clusteradm.fleet import push

EXAMPLES = """\
examples:
  clusteradm push notes.txt photos/ data/
  clusteradm push --sudo motd /etc/motd
  clusteradm push --limit 'coral-[1-4]' firmware.bin /tmp/

Modes are kept, owners are not: files belong to the login's user, or to root with
--sudo. In a folder, links to files are followed, links to folders are left out.

exit status: 3 or 4 where a host failed or did not answer
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm push`."""
    parser.add_argument("sources", nargs="+", type=Path, metavar="SRC", help="files and folders of this machine")
    parser.add_argument("dest", metavar="DEST", help="where to, on every host")
    parser.add_argument("--sudo", action="store_true", help="write as root")
    context.add_connection_arguments(parser, connect=QUICK_SECONDS)


def run(args: argparse.Namespace) -> int:
    """Copy; the exit status."""
    load = push.load(args.sources, args.dest)
    for text in load.left_out:
        show.message(show.line(f"left out: {text}"))
    cluster = context.open_cluster(args)
    hosts = context.select(args, cluster)
    kept = copy_view.keeping("on the hosts for a week")
    with kept, context.connect(args, cluster) as connections, transfer("sending") as progress:
        outcome = push.push(connections, hosts, load, sudo=args.sudo, progress=progress)
    if args.json:
        found = {
            name: {"changed": list(reply.changed), "unchanged": reply.unchanged, "error": None}
            for name, reply in outcome.ok.items()
        }
        copy_view.document("push", found, outcome)
    else:
        said = {name: (len(reply.changed), reply.unchanged) for name, reply in outcome.ok.items()}
        copy_view.table(hosts, said)
    return context.say_failed(args, outcome)
