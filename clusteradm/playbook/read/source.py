"""YAML file whose keys and values keep their line numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from clusteradm.errors import Problem

try:
    from yaml import CSafeLoader as _SafeLoader
except ImportError:  # PyYAML built without libyaml: the same result, slower
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]


class _Loader(_SafeLoader):
    """PyYAML's safe loader (YAML 1.1, as Ansible), which refuses duplicate keys."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.value in seen and isinstance(key_node, ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, f'the key "{key_node.value}" is there twice', key_node.start_mark
                )
            if isinstance(key_node, ScalarNode):
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class Entry:
    """One `key: value` of a mapping. `line` is the key's, counted from 1."""

    key: str
    line: int
    value: Value


class Value:
    """One YAML value with its line. `plain()`: the value as PyYAML loads it."""

    def __init__(self, source: Source, node: Node) -> None:
        self._source = source
        self._node = node
        self.line: int = node.start_mark.line + 1

    @property
    def is_mapping(self) -> bool:
        return isinstance(self._node, MappingNode)

    @property
    def is_list(self) -> bool:
        return isinstance(self._node, SequenceNode)

    @property
    def is_null(self) -> bool:
        return bool(self._node.tag == "tag:yaml.org,2002:null")

    def items(self) -> Iterator[Value]:
        """The elements of a list."""
        return (Value(self._source, node) for node in self._node.value)

    def entries(self) -> Iterator[Entry]:
        """The entries of a mapping, merge keys (`<<`) resolved. A duplicate key is a problem."""
        self._source.loader.flatten_mapping(self._node)
        seen: set[str] = set()
        for key_node, value_node in self._node.value:
            key = str(self._source.construct(key_node))
            line = key_node.start_mark.line + 1
            if key in seen:
                self._source.problem(line, f'"{key}" is there twice')
                continue
            seen.add(key)
            yield Entry(key, line, Value(self._source, value_node))

    def plain(self) -> Any:
        """The value as Python data. Raises Unreadable."""
        return self._source.construct(self._node)


class Unreadable(Exception):
    """A value is not valid YAML; its problem has been added, and the rest of the file is not read."""


class Source:
    """One YAML file; every defect is added to `problems`."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self.path = path
        self.loader: Any = None
        self.problems = problems

    def problem(self, line: int, message: str) -> None:
        """Add a defect of this file; the same one at the same line only once."""
        found = Problem(str(self.path), line, message)
        if found not in self.problems:
            self.problems.append(found)

    def read(self) -> Value | None:
        """The file's one document; None if it is empty, or cannot be read (a problem is added)."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            self.problem(0, "no such file")
            return None
        except (OSError, UnicodeDecodeError) as error:
            self.problem(0, f"cannot be read: {error}")
            return None
        try:
            self.loader = _Loader(text)
            node = self.loader.get_single_node()
        except yaml.YAMLError as error:
            self._yaml_error(error)
            return None
        return Value(self, node) if node is not None else None

    def construct(self, node: Node) -> Any:
        """The node as Python data. Raises Unreadable."""
        try:
            return self.loader.construct_document(node)
        except yaml.YAMLError as error:
            self._yaml_error(error)
            raise Unreadable from None

    def _yaml_error(self, error: yaml.YAMLError) -> None:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        what = getattr(error, "problem", None) or str(error)
        if "could not determine a constructor" in what:
            what = what.replace("could not determine a constructor for the tag", "unknown tag")
        self.problem(mark.line + 1 if mark else 0, f"not valid YAML: {what}")
