"""Host ranges: `coral-[0:7]`, `coral-[01:08:2]`, `[a:c]`, and ClusterShell's dash, `coral-[0-7]`."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator

_RANGE = re.compile(r"\[(\w+)[:-](\w+)(?::(\d+))?\]")


def expand(pattern: str) -> Iterator[str]:
    """The names that a pattern stands for, in order. Raises ValueError for a range that is none."""
    found = _RANGE.search(pattern)
    if not found:
        if "[" in pattern or "]" in pattern:
            raise ValueError(f"bad host range: {pattern}")
        yield pattern
        return
    first, last, step = found[1], found[2], int(found[3] or 1)
    for value in _values(first, last, step, pattern):
        yield from expand(pattern[: found.start()] + value + pattern[found.end() :])


def _values(first: str, last: str, step: int, pattern: str) -> Iterator[str]:
    if step < 1:
        raise ValueError(f"bad step in host range: {pattern}")
    if first.isdigit() and last.isdigit():
        width = len(first) if first.startswith("0") and len(first) > 1 else 0
        numbers = range(int(first), int(last) + 1, step)
        if not numbers:
            raise ValueError(f"host range runs backwards: {pattern}")
        for number in numbers:
            yield str(number).zfill(width)
        return
    letters = string.ascii_letters
    if len(first) == len(last) == 1 and first in letters and last in letters:
        chosen = letters[letters.index(first) : letters.index(last) + 1 : step]
        if not chosen:
            raise ValueError(f"host range runs backwards: {pattern}")
        yield from chosen
        return
    raise ValueError(f"bad host range: {pattern}")
