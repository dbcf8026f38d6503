"""Merge of an inventory's files into a Cluster, by Ansible's precedence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clusteradm.errors import Problem
from clusteradm.inventory.cluster import Cluster, Group, Host, Origin, Place
from clusteradm.inventory.document import Written
from clusteradm.inventory.yaml_text import MOST_DEPTH

# Not kept as a variable, as in Ansible: it only orders groups of the same depth.
PRIORITY = "ansible_group_priority"


@dataclass
class GroupText:
    """A group as written, perhaps in several places. `folder`: its variables from group_vars/."""

    name: str
    place: Place
    hosts: dict[str, Place] = field(default_factory=dict)
    children: dict[str, Place] = field(default_factory=dict)
    vars: dict[str, Written] = field(default_factory=dict)
    folder: dict[str, Written] = field(default_factory=dict)


@dataclass
class HostText:
    """A host as written. `folder`: its variables from host_vars/."""

    place: Place
    vars: dict[str, Written] = field(default_factory=dict)
    folder: dict[str, Written] = field(default_factory=dict)


@dataclass
class Text:
    """A whole inventory as written, hosts and groups in the order of their first occurrence."""

    groups: dict[str, GroupText] = field(default_factory=dict)
    hosts: dict[str, HostText] = field(default_factory=dict)


class _TooDeep(Exception):
    """Groups that nest too deeply; the message is the name of the outermost."""


def merged(path: Path, text: Text, problems: list[Problem]) -> Cluster | None:
    """The cluster; None if groups contain each other, which is then added to `problems`."""
    parents: dict[str, list[str]] = {name: [] for name in text.groups}
    for group in text.groups.values():
        for child in group.children:
            parents[child].append(group.name)
    try:
        circle = _circle(text.groups)
    except _TooDeep as error:
        place = text.groups[str(error)].place
        problems.append(Problem(*place, f"groups within groups, more than {MOST_DEPTH} deep"))
        return None
    if circle:
        place = text.groups[circle[0]].children[circle[1]]
        problems.append(Problem(*place, f"groups contain each other: {' -> '.join(circle)}"))
        return None
    depth: dict[str, int] = {}
    for name in text.groups:
        _measure(name, parents, depth)
    priority = {name: _priority(group, problems) for name, group in text.groups.items()}
    hosts = {}
    direct: dict[str, set[str]] = {name: set() for name in text.hosts}
    for group in text.groups.values():
        for name in group.hosts:
            direct[name].add(group.name)
    for name, host in text.hosts.items():
        member = _with_parents(direct[name], parents)
        # Groups by depth, then priority, then name, as Ansible does.
        order = sorted(member - {"all"}, key=lambda one: (depth[one], priority[one], one))
        layers = [*_layers(text, order), (f"host {name}", host.vars), (f"host {name}", host.folder)]
        values, origins = _overlaid(layers)
        hosts[name] = Host(name, tuple(sorted(member - {"all"})), values, origins, host.place)
    groups = {}
    for group in text.groups.values():
        values, origins = _overlaid([(_scope(group.name), group.vars), (_scope(group.name), group.folder)])
        groups[group.name] = Group(
            group.name, tuple(group.hosts), tuple(group.children), values, origins, group.place, group.hosts
        )
    return Cluster(path, groups, hosts)


def _scope(group: str) -> str:
    return "all" if group == "all" else f"group {group}"


def _layers(text: Text, order: list[str]) -> Iterator[tuple[str, Mapping[str, Written]]]:
    """The variables of groups, weakest first: all of the inventory file before all of group_vars/."""
    names = [*(["all"] if "all" in text.groups else []), *order]
    yield from ((_scope(name), text.groups[name].vars) for name in names)
    yield from ((_scope(name), text.groups[name].folder) for name in names)


def _overlaid(layers: list[tuple[str, Mapping[str, Written]]]) -> tuple[dict[str, Any], dict[str, Origin]]:
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for scope, layer in layers:
        for name, written in layer.items():
            if name != PRIORITY or scope.startswith("host "):
                values[name] = written.value
                origins[name] = Origin(written.file, written.line, scope)
    return values, origins


def _with_parents(member: set[str], parents: Mapping[str, list[str]]) -> set[str]:
    """The groups and all groups that contain them."""
    todo = list(member)
    while todo:
        above = set(parents[todo.pop()]) - member
        member |= above
        todo += above
    return member


def _circle(groups: Mapping[str, GroupText]) -> tuple[str, ...]:
    """The names of a circle, the first one repeated at its end; empty if there is none. Raises _TooDeep."""
    heights: dict[str, int] = {}

    def search(name: str, path: tuple[str, ...]) -> tuple[str, ...]:
        if name in path:
            return (*path[path.index(name) :], name)
        if name in heights:
            return ()
        if len(path) > MOST_DEPTH:
            raise _TooDeep(path[0])
        for child in groups[name].children:
            found = search(child, (*path, name))
            if found:
                return found
        heights[name] = 1 + max((heights[child] for child in groups[name].children), default=0)
        if heights[name] > MOST_DEPTH:
            raise _TooDeep(name)
        return ()

    for name in groups:
        found = search(name, ())
        if found:
            return found
    return ()


def _measure(name: str, parents: Mapping[str, list[str]], depth: dict[str, int]) -> int:
    """Depth of a group by its longest path from a top-level group."""
    if name not in depth:
        depth[name] = 1 + max((_measure(parent, parents, depth) for parent in parents[name]), default=0)
    return depth[name]


def _priority(group: GroupText, problems: list[Problem]) -> int:
    written = group.folder.get(PRIORITY) or group.vars.get(PRIORITY)
    if written is None:
        return 1
    try:
        return int(written.value)
    except (TypeError, ValueError):
        message = f"{PRIORITY} must be a whole number, not {written.value!r}"
        problems.append(Problem(written.file, written.line, message))
        return 1
