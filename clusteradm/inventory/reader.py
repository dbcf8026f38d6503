"""Reader of Ansible's YAML inventory; reports every defect of its files at once, each with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from clusteradm.errors import InputErrors, Problem
from clusteradm.inventory import checks, folders, sources
from clusteradm.inventory.cluster import Cluster, Place
from clusteradm.inventory.document import Document, Written, line_of
from clusteradm.inventory.merge import GroupText, HostText, Text, merged
from clusteradm.inventory.ranges import expand
from clusteradm.nearest import nearest

_GROUP_KEYS = ("hosts", "vars", "children")
# `name:2222` and `name[0:7]:2222`, which set the port.
_PORT = re.compile(r"([^:\[\]]*(?:\[[^\]]*\][^:\[\]]*)*):([0-9]+)")


def load(path: Path) -> Cluster:
    """The cluster of an inventory file and of group_vars/ and host_vars/ beside it; or of a folder, with these in it.

    Raises InputErrors with every Problem of them.
    """
    problems: list[Problem] = []
    text = Text()
    for file in sources.files(path, problems):
        of_file: list[Problem] = []
        _Reader(Document(file, of_file), text).read()
        other = sources.other_format(file) if of_file else None
        problems += [other] if other else of_file
    # After an error in reading, nothing is reported as missing: it may be in a line that could not be read.
    whole = not problems
    folders.read(path if path.is_dir() else path.parent, text, problems)
    cluster = merged(path, text, problems)
    if cluster is not None:
        problems += checks.check(cluster, whole=whole)
    if cluster is None or problems:
        raise InputErrors(sorted(set(problems)))
    return cluster


class _Reader:
    """Adds what one file says to the text of the whole inventory; a later file overrides an earlier one."""

    def __init__(self, document: Document, text: Text) -> None:
        self._document = document
        self._text = text

    def read(self) -> None:
        document, root = self._document, self._document.root
        if isinstance(root, yaml.MappingNode):
            if any(key.value == "plugin" for key, _ in root.value):
                document.problem(root, "this configures an inventory plugin, which only Ansible can run")
                return
            for name, key, value in document.items(root, "the inventory"):
                self._group(name, key, value)
        elif root is not None:
            document.problem(root, "an inventory is a mapping of groups; it begins with `all:`")

    def _place(self, node: yaml.Node) -> Place:
        return Place(self._document.file, line_of(node))

    def _group(self, name: str, key: yaml.Node, node: yaml.Node) -> None:
        document = self._document
        group = self._text.groups.setdefault(name, GroupText(name, self._place(key)))
        for word, word_key, value in document.items(node, f"group {name}"):
            if word == "hosts":
                for pattern, host_key, host in self._members(value, f"hosts of {name}"):
                    self._hosts(group, pattern, host_key, host)
            elif word == "children":
                for child, child_key, child_node in self._members(value, f"children of {name}"):
                    group.children.setdefault(child, self._place(child_key))
                    self._group(child, child_key, child_node)
            elif word == "vars":
                group.vars.update(document.variables(value, f"vars of {name}"))
            else:
                hint = nearest(word, _GROUP_KEYS) or f"; a group has {', '.join(_GROUP_KEYS)}"
                document.problem(word_key, f"unknown key {word} in group {name}{hint}")

    def _members(self, node: yaml.Node, what: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """The items of a mapping, or a single name (`hosts: coral-0`), which Ansible allows too."""
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str":
            yield node.value, node, yaml.ScalarNode("tag:yaml.org,2002:null", "", node.start_mark, node.end_mark)
        else:
            yield from self._document.items(node, what)

    def _hosts(self, group: GroupText, pattern: str, key: yaml.Node, node: yaml.Node) -> None:
        found = _PORT.fullmatch(pattern)
        try:
            names = list(expand(found[1] if found else pattern))
        except ValueError as error:
            self._document.problem(key, str(error))
            return
        variables = self._document.variables(node, f"variables of {pattern}")
        for name in names:
            group.hosts.setdefault(name, self._place(key))
            if name not in self._text.hosts:
                self._text.hosts[name] = HostText(self._place(key))
                if found:
                    port = Written(int(found[2]), self._document.file, line_of(key))
                    self._text.hosts[name].vars["ansible_port"] = port
            self._text.hosts[name].vars.update(variables)
