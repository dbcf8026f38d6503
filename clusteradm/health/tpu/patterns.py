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
_MOST_QUOTED = 240
# Time of a line of the kernel's log, and the address that the kernel puts before what a device's driver says.
_TIME = re.compile(r"^\[\s*\d+\.\d+\]\s*")
_OWN = re.compile(r"^(apex|pci) [0-9a-f]+:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]:\s*")


@dataclass(frozen=True)
class Pattern:
    """One row of the table; patterns.yml documents its columns. `clears`: states, or None for all of them."""

    name: str
    where: str
    regex: re.Pattern[str]
    state: str
    cause: str
    remedy: str
    source: str
    clears: frozenset[str] | None = frozenset()
    place: int = 0


@dataclass(frozen=True)
class Match:
    """A line and the first pattern that it matches."""

    pattern: Pattern
    line: str

    @property
    def cause(self) -> str:
        """Cause of the pattern, with the named groups and the line filled in."""
        found = self.pattern.regex.search(self.line)
        words = {"0": found[0], **found.groupdict(), "line": quoted(self.line)} if found else {}
        return re.sub(r"\{(\w+)\}", lambda name: str(words.get(name[1], "")), self.pattern.cause)


def quoted(line: str) -> str:
    """A line of a log as the cause of one TPU quotes it: without its time and the TPU's own address, not too long."""
    return _OWN.sub("", named(line))


def named(line: str) -> str:
    """A line of a log without its time, not too long."""
    text = _TIME.sub("", line[:_LONGEST]).strip()
    return text if len(text) <= _MOST_QUOTED else text[:_MOST_QUOTED] + "..."


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
            None if row.get("clears") == "all" else frozenset(row.get("clears", ())),
            place,
        )
        for place, row in enumerate(yaml.safe_load(TABLE.read_text(encoding="utf-8"))["patterns"])
    )


@functools.lru_cache(maxsize=4096)
def match(where: str, line: str) -> Match | None:
    """Match of the first pattern for source `where` (kernel, dkms or stderr) that the line has; None if none does."""
    short = line[:_LONGEST]
    return next((Match(each, short) for each in patterns() if each.where == where and each.regex.search(short)), None)


def first(where: str, lines: Iterable[str]) -> Match | None:
    """Match of the first line whose pattern has a state other than OK."""
    matches = (match(where, line) for line in lines)
    return next((each for each in matches if each and each.pattern.state != "OK"), None)


def in_force(lines: Iterable[str], states: Container[str]) -> Match | None:
    """Match that explains the kernel's log about a TPU: with one of these states, and not disproved by a later line.

    Of several, the one whose row comes first in the table; of one row, its first line.
    """
    found: list[Match] = []
    for line in lines:
        each = match("kernel", line)
        if each is None:
            continue
        clears = each.pattern.clears
        found = [] if clears is None else [one for one in found if one.pattern.state not in clears]
        if each.pattern.state in states:
            found.append(each)
    return foremost(found)


def foremost(matches: Iterable[Match]) -> Match | None:
    """The match whose row comes first in the table; of one row, the first match."""
    return min(matches, key=lambda one: one.pattern.place, default=None)


def unexplained(lines: Iterable[str]) -> str | None:
    """The last line of the kernel's log about a TPU that no pattern knows, since the TPU was found or taken anew."""
    last: str | None = None
    for line in lines:
        each = match("kernel", line)
        if each is None:
            last = line
        elif each.pattern.clears is None:
            last = None
    return last
