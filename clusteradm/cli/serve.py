"""Serve models: one endpoint for the whole cluster, in the protocols of KServe, TensorFlow Serving and DeepStack.

A server on every board, HAProxy on the head before them. What is served is the desired state, which the head keeps and
the boards follow: a command answers when all have, and says which have not and why.
"""

from __future__ import annotations

import argparse

from clusteradm.cli import context, serve_change, serve_setup, serve_view
from clusteradm.cli.parser import Parser

EXAMPLES = """\
examples:
  clusteradm serve up                       set it up, on every board
  clusteradm serve deploy digits            the latest, and each that comes
  clusteradm serve deploy digits:2 --label stable
  clusteradm serve canary digits --version 3 --percent 5
  clusteradm serve status
  clusteradm serve drain coral-3            nothing new to this board
  curl http://HEAD:8000/v2/models/digits    ask the endpoint

A model is stored with clusteradm deploy-model before it is served.

exit status:
  0    done, and every board has followed
  2    wrong usage
  3    some boards have not followed, or a host failed
  4    some hosts are unreachable
  130  interrupted; the boards go on by themselves
"""


def add_arguments(parser: Parser) -> None:
    """The verbs of `clusteradm serve`."""
    verbs = parser.add_commands("verb")
    serve_setup.add_verbs(verbs)
    serve_change.add_verbs(verbs)
    serve_view.add_verbs(verbs)


def run(args: argparse.Namespace) -> int:
    """Run the verb."""
    if hasattr(args, "run_local"):
        return int(args.run_local(args))
    with context.at_head(args) as (connections, cluster):
        return int(args.run_serve(args, connections, cluster))
