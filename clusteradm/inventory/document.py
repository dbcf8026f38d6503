"""YAML file of an inventory, as nodes with line numbers. Its defects are collected, not raised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clusteradm.errors import Problem
from clusteradm.inventory.yaml_text import Refused, check_depth, check_nodes, check_text, read_text

_STR = "tag:yaml.org,2002:str"
_NULL = "tag:yaml.org,2002:null"
_START = yaml.Mark("", 0, 0, 0, None, 0)
_EMPTY = yaml.ScalarNode(_NULL, "", _START, _START)


@dataclass(frozen=True)
class Written:
    """A variable as written in a file; `line` counts from 1."""

    value: Any
    file: str
    line: int


class UnsafeText(str):
    """Text with Ansible's tag !unsafe: it is no template."""

    __slots__ = ()


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with Ansible's tag !unsafe."""

    def unsafe(self, node: yaml.ScalarNode) -> str:
        return UnsafeText(self.construct_scalar(node))


_Loader.add_constructor("!unsafe", _Loader.unsafe)


class Document:
    """A parsed file. `root`: its top node; None if it cannot be parsed, which is then in `problems`."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        """`problems`: every defect of the file is added to it."""
        self.file = str(path)
        self._problems = problems
        self._loader = _Loader("")
        self._own: dict[int, set[int]] = {}
        self.root = self._compose(path)

    def problem(self, where: yaml.Node | int, message: str) -> None:
        """Add a defect at a node or a line."""
        line = where if isinstance(where, int) else line_of(where)
        self._problems.append(Problem(self.file, line, message))

    def _compose(self, path: Path) -> yaml.Node | None:
        try:
            text = read_text(path)
            if text.startswith("$ANSIBLE_VAULT"):
                self.problem(1, "encrypted by ansible-vault, which clusteradm cannot read")
                return None
            check_text(text)
            root = self._composed(text)
        except OSError as error:
            self.problem(0, error.strerror or str(error))
        except UnicodeDecodeError:
            self.problem(0, "not a text file (UTF-8)")
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            reason = ", ".join(part for part in (error.context, error.problem) if part)
            self.problem(mark.line + 1 if mark else 0, f"not valid YAML: {reason}")
        except yaml.YAMLError as error:
            self.problem(0, f"not valid YAML: {' '.join(str(error).split())}")
        except Refused as refused:
            self.problem(refused.line, str(refused))
        else:
            return _EMPTY if root is None else root
        return None

    @staticmethod
    def _composed(text: str) -> yaml.Node | None:
        try:
            root = yaml.compose(text, Loader=_Loader)
        except RecursionError:
            check_depth(text)
            raise Refused("nested too deeply", 1) from None
        if root is not None:
            check_nodes(root)
        return root

    def items(self, node: yaml.Node, what: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """(key, its node, the value's node) of a mapping, merges (`<<`) included; nothing for an empty node."""
        if node.tag == _NULL:
            return
        if not isinstance(node, yaml.MappingNode):
            self.problem(node, f"{what} must be a mapping")
            return
        # A node with several aliases is flattened once; keys of its own, not merged ones, must not occur twice.
        own = self._own.setdefault(id(node), {id(key) for key, _ in node.value})
        try:
            self._loader.flatten_mapping(node)
        except yaml.MarkedYAMLError as error:
            self.problem(node, f"{what}: {error.problem}")
            return
        first: dict[str, int] = {}
        for key, value in node.value:
            if key.tag != _STR:
                self.problem(key, f"{what}: a name must be a string; put {getattr(key, 'value', '')!s:.40} in quotes")
                continue
            if id(key) in own:
                if key.value in first:
                    self.problem(key, f"duplicate key {key.value} (first in line {first[key.value]})")
                first.setdefault(key.value, line_of(key))
            yield key.value, key, value

    def variables(self, node: yaml.Node, what: str) -> dict[str, Written]:
        """The variables of a mapping, as Python data."""
        items = self.items(node, what)
        return {name: Written(self._plain(value), self.file, line_of(key)) for name, key, value in items}

    def _plain(self, node: yaml.Node) -> Any:
        try:
            return _Loader("").construct_document(node)
        except yaml.MarkedYAMLError as error:
            vault = "!vault" in str(error.problem)
            reason = "encrypted by ansible-vault, which clusteradm cannot read" if vault else str(error.problem)
            self.problem((error.problem_mark.line + 1) if error.problem_mark else line_of(node), reason)
        except (ValueError, OverflowError, TypeError) as error:
            self.problem(node, str(error))
        return None


def line_of(node: yaml.Node) -> int:
    """The line in which a node begins, counted from 1."""
    return int(node.start_mark.line) + 1
