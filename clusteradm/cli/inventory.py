"""Show the inventory as it was read: as JSON in Ansible's form, as a tree, or where each value was written. Or write a
new one.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from clusteradm.cli import context, inventory_init, show
from clusteradm.cli.parser import Parser
from clusteradm.errors import UsageError
from clusteradm.inventory import Cluster, Host

EXAMPLES = """\
examples:
  clusteradm inventory init              write a new inventory; asks
  clusteradm inventory --list            as `ansible-inventory --list`
  clusteradm inventory --host coral-0    variables of one host
  clusteradm inventory --graph           groups and hosts as a tree
  clusteradm inventory --origin coral-0  file and line of each of its values
  clusteradm inventory --origin          the same for every host
"""


# Ansible's: ansible_password, ansible_ssh_pass, ansible_become_password, ansible_sudo_pass ...
_PASSWORD = re.compile(r"ansible_(\w+_)?pass(word|phrase)?")


def add_arguments(parser: Parser) -> None:
    """The options of `clusteradm inventory`, and its verb."""
    verbs = parser.add_commands("verb", required=False)
    summary = "write a new inventory, with comments: asks, or takes options"
    init = verbs.add("init", summary, description=inventory_init.__doc__, examples=inventory_init.EXAMPLES)
    inventory_init.add_arguments(init)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="show all groups, hosts and variables as JSON")
    what.add_argument("--host", metavar="HOST", help="show the variables of one host as JSON")
    what.add_argument("--graph", action="store_true", help="show groups and hosts as a tree")
    what.add_argument(
        "--origin",
        metavar="HOST",
        nargs="?",
        const="",
        help="show where each value of a host (default: of every host) was written",
    )
    parser.add_argument(
        "--json", action="store_true", help="with --origin: write one JSON document (--list and --host always do)"
    )
    context.add_inventory_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Load and show; or write a new one."""
    if args.verb:
        return inventory_init.run(args)
    if not (args.list or args.host is not None or args.graph or args.origin is not None):
        raise UsageError("what is to be shown?", next_step="--list, --host HOST, --graph, or --origin")
    if args.json and args.graph:
        raise UsageError("--graph writes no JSON", next_step="use --list, which does")
    cluster = context.open_cluster(args)
    if args.list:
        _write(listing(cluster))
    elif args.host:
        _write(_values(cluster.host(args.host)))
    elif args.graph:
        for line in _tree(cluster, "all", 0):
            show.stdout.print(show.line(line))
    else:
        _show_origins([cluster.host(args.origin)] if args.origin else list(cluster.hosts.values()), args.json)
    return 0


def _show_origins(hosts: list[Host], as_json: bool) -> None:
    if as_json:
        found = {
            host.name: {
                name: {"value": _plain(value), **dataclasses.asdict(host.origins[name])}
                for name, value in sorted(_values(host).items())
            }
            for host in hosts
        }
        show.json_document("inventory", {"hosts": found})
        return
    rows: list[tuple[str, ...]] = []
    for host in hosts:
        for name, value in sorted(_values(host).items()):
            origin = host.origins[name]
            text = json.dumps(_plain(value), ensure_ascii=False)
            fields = (host.name, name, text, f"{origin.file}:{origin.line}", origin.scope)
            rows.append(tuple(show.line(field) for field in fields))
    # With one host only, its column is left out.
    rows = [row[len(hosts) == 1 :] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        show.stdout.print("  ".join(cells).rstrip())


def _values(host: Host) -> dict[str, Any]:
    """The host's variables, with passwords masked: they must not reach a screen or a log."""
    return {name: "********" if _PASSWORD.fullmatch(name) else value for name, value in host.vars.items()}


def _plain(value: Any) -> Any:
    """The value in JSON's types: YAML dates become strings, as in Ansible."""
    return json.loads(json.dumps(value, default=str))


def _write(document: Mapping[str, Any]) -> None:
    # Ansible's own format, so without schema_version: `ansible -i` reads --list as a dynamic inventory.
    show.data(show.json_text(document, indent=4, sort_keys=True, default=str))


def listing(cluster: Cluster) -> dict[str, Any]:
    """The document of `ansible-inventory --list`; empty keys are left out, as in Ansible."""
    document: dict[str, Any] = {
        "_meta": {
            "hostvars": {name: _values(host) for name, host in cluster.hosts.items() if host.vars},
            "profile": "inventory_legacy",
        },
        "all": {"children": ["ungrouped", *_top(cluster)]},
    }
    for group in cluster.groups.values():
        if group.name == "all":
            continue
        entry = {"children": list(group.children), "hosts": list(group.hosts)}
        filled = {key: value for key, value in entry.items() if value}
        if filled:
            document[group.name] = filled
    return document


def _top(cluster: Cluster) -> list[str]:
    """The children of "all": those written there, then the groups without a parent."""
    inner = {child for group in cluster.groups.values() for child in group.children}
    written = list(cluster.groups["all"].children) if "all" in cluster.groups else []
    return written + [name for name in cluster.groups if name not in inner and name not in ("all", "ungrouped")]


def _tree(cluster: Cluster, name: str, depth: int) -> Iterator[str]:
    yield "  |" * depth + ("--" if depth else "") + f"@{name}:"
    group = cluster.groups.get(name)
    children = ["ungrouped", *_top(cluster)] if name == "all" else list(group.children) if group else []
    for child in children:
        yield from _tree(cluster, child, depth + 1)
    for host in group.hosts if group else ():
        yield "  |" * (depth + 1) + f"--{host}"
