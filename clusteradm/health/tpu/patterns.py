"""Patterns of messages about Edge TPUs, by driver, library and runtime (patterns.yml), matched against lines."""

from __future__ import annotations

import functools
import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

TABLE = Path(__file__).with_name("patterns.yml")
# Limit of a line's length; a longer one could make a regular expression hang.
_LONGEST = 2000


@dataclass(frozen=True)
class Pattern:
    """One row of the table; patterns.yml documents its columns."""

    name: str
    where: str
    regex: re.Pattern[str]
    state: str
    cause: str
    remedy: str
    source: str
    clears: bool = False


@dataclass(frozen=True)
class Match:
    """A line and the first pattern that it matches."""

    pattern: Pattern
    line: str

    @property
    def cause(self) -> str:
        """Cause of the pattern, with the named groups filled in from the line."""
        found = self.pattern.regex.search(self.line)
        words = {"0": found[0], **found.groupdict()} if found else {}
        return re.sub(r"\{(\w+)\}", lambda name: str(words.get(name[1], "")), self.pattern.cause)


@functools.cache
def patterns() -> tuple[Pattern, ...]:
    """Rows of the table, in its order."""
    return tuple(
        Pattern(
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


def match(where: str, line: str) -> Match | None:
    """Match of the first pattern for source `where` (kernel, dkms or stderr) that the line has; None if none does."""
    short = line[:_LONGEST]
    return next((Match(each, short) for each in patterns() if each.where == where and each.regex.search(short)), None)


def first(where: str, lines: Iterable[str]) -> Match | None:
    """Match of the first line whose pattern has a state other than OK."""
    matches = (match(where, line) for line in lines)
    return next((each for each in matches if each and each.pattern.state != "OK"), None)


def in_force(lines: Iterable[str], states: Container[str]) -> Match | None:
    """Match of the first line of the kernel's log with one of these states, after the last line that clears them."""
    found: Match | None = None
    for line in lines:
        each = match("kernel", line)
        if each is None:
            continue
        if each.pattern.clears:
            found = None
        elif each.pattern.state in states and found is None:
            found = each
    return found
