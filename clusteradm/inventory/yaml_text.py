"""Bounds of a YAML file of another person: kind and size of the file, its depth, and what its aliases stand for."""

from __future__ import annotations

import errno
from pathlib import Path

import yaml

from clusteradm import regular

MOST_BYTES = 1 << 20
MOST_NODES = 200_000
MOST_DEPTH = 100
_LONGEST_NUMBER = 100
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """The text of a file (UTF-8). Opens nothing but files. Raises OSError or UnicodeDecodeError."""
    with regular.opened(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {most:,} bytes: split the file")
    return content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


class Refused(ValueError):
    """A document that is out of bounds. `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def check_text(text: str) -> None:
    """Raise Refused if the text nests too deeply for a parser, which would overflow its stack."""
    brackets = text.count("[") + text.count("{")
    if brackets > 2000 or any(line.count("-") + line.count("?") > 200 for line in text.split("\n")):
        check_depth(text)


def check_depth(text: str) -> None:
    """Raise Refused at the first place that is nested too deeply; no other defect of the text is looked for."""
    depth = 0
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MOST_DEPTH:
                    mark = event.start_mark
                    raise Refused(f"nested more than {MOST_DEPTH} deep", mark.line + 1 if mark else 1)
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
    except yaml.YAMLError:
        return


def check_nodes(root: yaml.Node) -> None:
    """Raise Refused for an alias that contains itself, too many nodes (an alias counts as what it stands for), too many
    levels, and a number that is too long."""
    known: dict[int, tuple[int, int]] = {}
    above: set[int] = set()

    def extent(node: yaml.Node, depth: int) -> tuple[int, int]:
        """(nodes, depth) of what a node stands for."""
        if isinstance(node, yaml.ScalarNode):
            if len(node.value) > _LONGEST_NUMBER and node.tag in _NUMBERS:
                raise Refused(f"a number of {len(node.value)} characters", _line(node))
            return 1, 0
        if id(node) in above:
            raise Refused("an alias that contains itself", _line(node))
        if id(node) in known:
            return known[id(node)]
        if depth > MOST_DEPTH:
            raise Refused(f"nested more than {MOST_DEPTH} deep", _line(node))
        above.add(id(node))
        count, height = 1, 0
        for child in [one for pair in node.value for one in pair] if isinstance(node, yaml.MappingNode) else node.value:
            nodes, deep = extent(child, depth + 1)
            count, height = count + nodes, max(height, deep)
            if count > MOST_NODES:
                raise Refused(
                    f"this stands for more than {MOST_NODES:,} values, those of aliases included", _line(node)
                )
        if height >= MOST_DEPTH:
            raise Refused(f"nested more than {MOST_DEPTH} deep", _line(node))
        above.discard(id(node))
        known[id(node)] = count, height + 1
        return known[id(node)]

    extent(root, 0)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
