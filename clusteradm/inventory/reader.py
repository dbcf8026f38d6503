"""Reads Ansible's YAML inventory. Every defect of a file is reported at once, each with its line."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from clusteradm.errors import InputErrors, Problem
from clusteradm.inventory import checks
from clusteradm.inventory.cluster import Cluster, Group, Host, Origin
from clusteradm.inventory.ranges import expand

_GROUP_KEYS = ("hosts", "vars", "children")


@dataclass
class _Written:
    """A variable as it stands in the file."""

    value: Any
    line: int


@dataclass
class _Group:
    """A group while the file is read: it may be written in several places."""

    name: str
    line: int
    hosts: dict[str, int] = field(default_factory=dict)
    children: dict[str, int] = field(default_factory=dict)
    vars: dict[str, _Written] = field(default_factory=dict)


def load(path: Path) -> Cluster:
    """The cluster that the file describes. Raises InputErrors with every Problem of it."""
    reader = _Reader(path)
    reader.read()
    cluster = reader.cluster()
    problems = reader.problems + checks.check(cluster)
    if problems:
        raise InputErrors(sorted(set(problems)))
    return cluster


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self.groups: dict[str, _Group] = {}
        self.hosts: dict[str, dict[str, _Written]] = {}

    def problem(self, line: int, message: str) -> None:
        self.problems.append(Problem(str(self.path), line, message))

    def read(self) -> None:
        try:
            root = yaml.compose(self.path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except OSError as error:
            raise InputErrors([Problem(str(self.path), 0, error.strerror or str(error))]) from None
        except UnicodeDecodeError:
            raise InputErrors([Problem(str(self.path), 0, "not a text file (UTF-8)")]) from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise InputErrors([Problem(str(self.path), mark.line + 1 if mark else 0, str(error.problem))]) from None
        except yaml.YAMLError as error:
            raise InputErrors([Problem(str(self.path), 0, str(error))]) from None
        if not isinstance(root, yaml.MappingNode):
            message = "an inventory is a mapping of groups; it begins with `all:`"
            raise InputErrors([Problem(str(self.path), 1, message)])
        for name, key, value in self._items(root):
            self._group(name, key, value)
        if self.problems:
            raise InputErrors(sorted(set(self.problems)))

    def _items(self, node: yaml.Node, what: str = "") -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
            return
        if not isinstance(node, yaml.MappingNode):
            self.problem(_line(node), f"{what or 'this'} must be a mapping")
            return
        seen: dict[str, int] = {}
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                self.problem(_line(key), f"{name} stands here twice (first in line {seen[name]})")
            seen.setdefault(name, _line(key))
            yield name, key, value

    def _group(self, name: str, key: yaml.Node, node: yaml.Node) -> None:
        group = self.groups.setdefault(name, _Group(name, _line(key)))
        for word, word_key, value in self._items(node, f"group {name}"):
            if word == "hosts":
                for pattern, host_key, host in self._items(value, f"hosts of {name}"):
                    self._hosts(group, pattern, host_key, host)
            elif word == "children":
                for child, child_key, child_node in self._items(value, f"children of {name}"):
                    group.children.setdefault(child, _line(child_key))
                    self._group(child, child_key, child_node)
            elif word == "vars":
                group.vars.update(self._vars(value, f"vars of {name}"))
            else:
                near = difflib.get_close_matches(word, _GROUP_KEYS, 1)
                hint = f"; did you mean {near[0]}?" if near else f"; a group has {', '.join(_GROUP_KEYS)}"
                self.problem(_line(word_key), f"unknown key {word} in group {name}{hint}")

    def _hosts(self, group: _Group, pattern: str, key: yaml.Node, node: yaml.Node) -> None:
        try:
            names = list(expand(pattern))
        except ValueError as error:
            self.problem(_line(key), str(error))
            return
        written = self._vars(node, f"variables of {pattern}")
        for name in names:
            group.hosts.setdefault(name, _line(key))
            self.hosts.setdefault(name, {}).update(written)

    def _vars(self, node: yaml.Node, what: str) -> dict[str, _Written]:
        return {name: _Written(_value(value), _line(key)) for name, key, value in self._items(node, what)}

    def cluster(self) -> Cluster:
        """What was read, merged. Raises InputErrors where groups contain each other."""
        parents: dict[str, set[str]] = {name: set() for name in self.groups}
        for group in self.groups.values():
            for child in group.children:
                parents[child].add(group.name)
        depth = {name: self._depth(name, parents, ()) for name in self.groups}
        hosts = {}
        for name in self._order():
            member = {group.name for group in self.groups.values() if name in group.hosts}
            todo = list(member)
            while todo:
                above = parents[todo.pop()] - member
                member |= above
                todo += above
            # Ansible's precedence: "all", then groups by depth, ansible_group_priority and name; the host itself last.
            order = sorted(member - {"all"}, key=lambda one: (depth[one], self._priority(one), one))
            merged: dict[str, Any] = {}
            origins: dict[str, Origin] = {}
            layers = [("all", self.groups["all"].vars)] if "all" in self.groups else []
            layers += [(f"group {one}", self.groups[one].vars) for one in order]
            layers.append((f"host {name}", self.hosts[name]))
            for scope, layer in layers:
                for variable, written in layer.items():
                    merged[variable] = written.value
                    origins[variable] = Origin(str(self.path), written.line, scope)
            hosts[name] = Host(name, tuple(sorted(member - {"all"})), merged, origins)
        groups = {
            group.name: Group(
                group.name,
                tuple(group.hosts),
                tuple(group.children),
                {name: written.value for name, written in group.vars.items()},
            )
            for group in self.groups.values()
        }
        return Cluster(self.path, groups, hosts)

    def _order(self) -> list[str]:
        return list(self.hosts)

    def _priority(self, group: str) -> int:
        written = self.groups[group].vars.get("ansible_group_priority")
        return int(written.value) if written and isinstance(written.value, int) else 1

    def _depth(self, name: str, parents: dict[str, set[str]], below: tuple[str, ...]) -> int:
        if name in below:
            circle = " -> ".join((*below[below.index(name) :], name))
            raise InputErrors([Problem(str(self.path), self.groups[name].line, f"groups contain each other: {circle}")])
        return 1 + max((self._depth(parent, parents, (*below, name)) for parent in parents[name]), default=0)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _value(node: yaml.Node) -> Any:
    """A plain value of a composed node."""
    return yaml.SafeLoader("").construct_document(node)
