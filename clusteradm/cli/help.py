"""Show the help of a command, or of one of its verbs. Without a command, show the list of commands."""

from __future__ import annotations

import argparse

from clusteradm.cli import commands
from clusteradm.cli.parser import Parser

EXAMPLES = """\
examples:
  clusteradm help
  clusteradm help health
  clusteradm help lab up
"""


def add_arguments(parser: Parser) -> None:
    """The options of `clusteradm help`."""
    parser.add_argument("words", nargs="*", metavar="COMMAND", help="a command, and a verb of it")


def run(args: argparse.Namespace) -> int:
    """Find the command's parser and print its help."""
    parser = commands.parser(args.words)
    for word in args.words:
        parser = parser.child(word)
    parser.print_help()
    return 0
