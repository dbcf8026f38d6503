"""Show the inventory as it was understood: as JSON that Ansible reads, as a tree, or where each value came from."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from clusteradm.cli import context, show
from clusteradm.errors import UsageError
from clusteradm.inventory import Cluster, Host

EXAMPLES = """\
examples:
  clusteradm inventory --list                    as `ansible-inventory --list` prints it
  clusteradm inventory --host coral-0            one host's variables
  clusteradm inventory --graph                   groups and hosts as a tree
  clusteradm inventory --origin coral-0          each of its values, with file and line
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm inventory`."""
    context.add_inventory_argument(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="all groups, hosts and variables (JSON)")
    what.add_argument("--host", metavar="HOST", help="the variables of one host (JSON)")
    what.add_argument("--graph", action="store_true", help="groups and hosts as a tree")
    what.add_argument("--origin", metavar="HOST", help="where each value of a host was written")


def run(args: argparse.Namespace) -> int:
    """Load and show."""
    cluster = context.open_cluster(args)
    if args.list:
        _write(listing(cluster))
    elif args.host:
        _write(dict(_host(cluster, args.host).vars))
    elif args.graph:
        for line in _tree(cluster, "all", 0):
            show.stdout.print(line)
    else:
        host = _host(cluster, args.origin)
        rows = [
            (name, json.dumps(value), f"{host.origins[name].file}:{host.origins[name].line}", host.origins[name].scope)
            for name, value in sorted(host.vars.items())
        ]
        widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
        for row in rows:
            cells = [text.ljust(width) for text, width in zip(row, [*widths, 0], strict=True)]
            show.stdout.print("  ".join(cells).rstrip())
    return 0


def _write(document: Mapping[str, Any]) -> None:
    # Ansible's own shape, so no schema_version: `ansible -i` reads the output of --list as a dynamic inventory's.
    sys.stdout.write(json.dumps(document, indent=4, sort_keys=True) + "\n")


def _host(cluster: Cluster, name: str) -> Host:
    if name not in cluster.hosts:
        raise UsageError(f"there is no host {name}", next_step=f"hosts: {' '.join(cluster.hosts)}")
    return cluster.hosts[name]


def listing(cluster: Cluster) -> dict[str, Any]:
    """The document of `ansible-inventory --list`: empty keys are left out, as there."""
    document: dict[str, Any] = {
        "_meta": {"hostvars": {name: dict(host.vars) for name, host in cluster.hosts.items() if host.vars}},
        "all": {"children": ["ungrouped", *_top(cluster)]},
    }
    for group in cluster.groups.values():
        if group.name == "all":
            continue
        entry = {"children": sorted(group.children), "hosts": list(group.hosts)}
        filled = {key: value for key, value in entry.items() if value}
        if filled:
            document[group.name] = filled
    return document


def _top(cluster: Cluster) -> list[str]:
    """Groups that no group but "all" contains, in the order in which they were written."""
    inner = {child for group in cluster.groups.values() if group.name != "all" for child in group.children}
    return [name for name in cluster.groups if name not in inner and name not in ("all", "ungrouped")]


def _tree(cluster: Cluster, name: str, depth: int) -> Iterator[str]:
    yield "  |" * depth + ("--" if depth else "") + f"@{name}:"
    group = cluster.groups.get(name)
    children = ["ungrouped", *_top(cluster)] if name == "all" else list(group.children) if group else []
    for child in children:
        yield from _tree(cluster, child, depth + 1)
    for host in group.hosts if group else ():
        yield "  |" * (depth + 1) + f"--{host}"
