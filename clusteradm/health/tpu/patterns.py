"""The table of what drivers, library and runtime say of Edge TPUs (patterns.yml), and what it says of a line."""

from __future__ import annotations

import functools
import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

TABLE = Path(__file__).with_name("patterns.yml")
# No line of a log is longer; what is, was made to hang a regular expression.
_LONGEST = 2000


@dataclass(frozen=True)
class Row:
    """One row; the table itself says what its columns mean."""

    name: str
    where: str
    pattern: re.Pattern[str]
    state: str
    cause: str
    remedy: str
    source: str
    clears: bool = False


@dataclass(frozen=True)
class Told:
    """A line that a row of the table explains."""

    row: Row
    line: str

    @property
    def cause(self) -> str:
        """The row's cause, with what the line says in its place."""
        found = self.row.pattern.search(self.line)
        words = {"0": found[0], **found.groupdict()} if found else {}
        return re.sub(r"\{(\w+)\}", lambda name: str(words.get(name[1], "")), self.row.cause)


@functools.cache
def rows() -> tuple[Row, ...]:
    """The table, in its order."""
    return tuple(
        Row(
            row["name"],
            row["in"],
            re.compile(row["pattern"]),
            row["state"],
            row["cause"],
            row["remedy"],
            row["source"],
            row.get("clears", False),
        )
        for row in yaml.safe_load(TABLE.read_text(encoding="utf-8"))["patterns"]
    )


def explain(where: str, line: str) -> Told | None:
    """What the first row that fits says of the line."""
    short = line[:_LONGEST]
    return next((Told(row, short) for row in rows() if row.where == where and row.pattern.search(short)), None)


def first(where: str, lines: Iterable[str]) -> Told | None:
    """The first line that tells of an illness."""
    told = (explain(where, line) for line in lines)
    return next((one for one in told if one and one.row.state != "OK"), None)


def in_force(lines: Iterable[str], states: Container[str]) -> Told | None:
    """Of the kernel's log: the first illness of these states told of since something last went well."""
    found: Told | None = None
    for line in lines:
        told = explain("kernel", line)
        if told is None:
            continue
        if told.row.clears:
            found = None
        elif told.row.state in states and found is None:
            found = told
    return found
