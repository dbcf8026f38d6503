"""Show where the shipped playbooks are, to read them or to run them with Ansible."""

from __future__ import annotations

import argparse

from clusteradm import shipped
from clusteradm.cli import show
from clusteradm.cli.parser import Parser
from clusteradm.errors import UsageError
from clusteradm.nearest import nearest

EXAMPLES = """\
examples:
  clusteradm playbook path            the folder of the playbooks
  clusteradm playbook path bootstrap  the file of one of them
  ansible-playbook -i inventory.yml "$(clusteradm playbook path bootstrap)"
"""


def add_arguments(parser: Parser) -> None:
    """The verbs of `clusteradm playbook`."""
    summary = "print the path of the shipped playbooks, or of one of them"
    verb = parser.add_commands("verb").add("path", summary, examples=EXAMPLES)
    verb.add_argument("name", nargs="?", metavar="NAME", help="name of a playbook, such as bootstrap")


def run(args: argparse.Namespace) -> int:
    """Print the path."""
    names = sorted(path.stem for path in shipped.PLAYBOOKS.glob("*.yml"))
    if args.name is None:
        show.data(f"{shipped.PLAYBOOKS}\n")
        return 0
    name = args.name.removesuffix(".yml")
    if name not in names:
        raise UsageError(f"there is no playbook {name}{nearest(name, names)}", next_step=f"shipped: {', '.join(names)}")
    show.data(f"{shipped.PLAYBOOKS / f'{name}.yml'}\n")
    return 0
