"""Host ranges: `coral-[0:7]`, `coral-[01:08:2]`, `[a:c]`, `[:3]`, and ClusterShell's `coral-[0-3,7]`."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator

_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_RANGE = re.compile(r"([0-9]*|[A-Za-z])[:-]([0-9]+|[A-Za-z])(?::([0-9]+))?|[0-9]+")
# More than any inventory means; a slip of the finger must not fill the memory.
MOST = 65536


def expand(pattern: str) -> Iterator[str]:
    """The names that a pattern stands for, in order. Raises ValueError for a range that is none."""
    found = _BRACKETS.search(pattern)
    if not found:
        if "[" in pattern or "]" in pattern:
            raise ValueError(f"bad host range: {pattern}")
        yield pattern
        return
    for part in found[1].split(","):
        for value in _values(part, pattern):
            yield from expand(pattern[: found.start()] + value + pattern[found.end() :])


def _values(part: str, pattern: str) -> Iterator[str]:
    match = _RANGE.fullmatch(part)
    if not match:
        raise ValueError(f"bad host range: {pattern}")
    if match[2] is None:
        yield part
        return
    # As in Ansible, a range that begins nowhere begins with 0.
    first, last, step = match[1] or "0", match[2], int(match[3] or 1)
    if step < 1:
        raise ValueError(f"bad step in host range: {pattern}")
    if first.isdigit() != last.isdigit():
        raise ValueError(f"bad host range: {pattern}")
    if not first.isdigit():
        letters = string.ascii_letters
        chosen = letters[letters.index(first) : letters.index(last) + 1 : step]
        if not chosen:
            raise ValueError(f"host range runs backwards: {pattern}")
        yield from chosen
        return
    width = len(first) if first.startswith("0") and len(first) > 1 else 0
    if width and width != len(last):
        raise ValueError(f"both ends of a range with leading zeros must be equally long: {pattern}")
    numbers = range(int(first), int(last) + 1, step)
    if not numbers:
        raise ValueError(f"host range runs backwards: {pattern}")
    if len(numbers) > MOST:
        raise ValueError(f"{len(numbers)} hosts in one range: {pattern}")
    for number in numbers:
        yield str(number).zfill(width)
