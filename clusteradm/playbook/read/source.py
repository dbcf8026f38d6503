"""YAML file whose keys and values keep their line numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from clusteradm.errors import Problem
from clusteradm.inventory.yaml_text import Refused, check_nodes, check_text, read_text

try:
    from yaml import CSafeLoader as _SafeLoader
except ImportError:  # PyYAML built without libyaml: the same result, slower
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]


# Files that import files multiply.
MOST_IMPORTS = 500


class _Loader(_SafeLoader):
    """PyYAML's safe loader (YAML 1.1, as Ansible), which refuses duplicate keys."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if isinstance(key_node, ScalarNode) and key_node.value in seen:
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
        try:
            self._source.loader.flatten_mapping(self._node)
        except yaml.YAMLError as error:
            self._source.refuse(error)
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

    def __init__(self, path: Path, problems: list[Problem], imported: list[Path] | None = None) -> None:
        """`imported`: the files that a playbook has imported so far, each time that it did."""
        self.path = path
        self.loader: Any = None
        self.problems = problems
        self.imported: list[Path] = [] if imported is None else imported

    def may_import(self, line: int) -> bool:
        """Whether this file may import one more, which is then counted; else a problem is added."""
        self.imported.append(self.path)
        if len(self.imported) > MOST_IMPORTS:
            self.problem(line, f"more than {MOST_IMPORTS} imports in one playbook, those of imported files included")
            return False
        return True

    def problem(self, line: int, message: str) -> None:
        """Add a defect of this file; the same one at the same line only once."""
        found = Problem(str(self.path), line, message)
        if found not in self.problems:
            self.problems.append(found)

    def read(self) -> Value | None:
        """The file's one document; None if it is empty, or cannot be read (a problem is added)."""
        try:
            text = read_text(self.path)
        except FileNotFoundError:
            self.problem(0, "no such file")
            return None
        except (OSError, UnicodeDecodeError) as error:
            self.problem(0, f"cannot be read: {getattr(error, 'strerror', None) or error}")
            return None
        try:
            check_text(text)
            self.loader = _Loader(text)
            node = self.loader.get_single_node()
            if node is not None:
                check_nodes(node)
        except yaml.YAMLError as error:
            self._yaml_error(error)
            return None
        except Refused as refused:
            self.problem(refused.line, str(refused))
            return None
        except RecursionError:  # PyYAML built without libyaml
            self.problem(0, "nested too deeply")
            return None
        return Value(self, node) if node is not None else None

    def construct(self, node: Node) -> Any:
        """The node as Python data. Raises Unreadable."""
        try:
            return self.loader.construct_document(node)
        except yaml.YAMLError as error:
            self._yaml_error(error)
        except (ValueError, OverflowError, TypeError) as error:  # 2001-99-99; a number of thousands of digits
            self.problem(node.start_mark.line + 1, f"not valid YAML: {error}")
        raise Unreadable

    def refuse(self, error: yaml.YAMLError) -> NoReturn:
        """Add the problem of a value that is not valid YAML. Raises Unreadable."""
        self._yaml_error(error)
        raise Unreadable from None

    def _yaml_error(self, error: yaml.YAMLError) -> None:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        what = getattr(error, "problem", None) or str(error)
        if "could not determine a constructor" in what:
            what = what.replace("could not determine a constructor for the tag", "unknown tag")
        self.problem(mark.line + 1 if mark else 0, f"not valid YAML: {what}")
