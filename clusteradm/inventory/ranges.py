"""Host ranges: `coral-[0:7]`, `coral-[01:08:2]`, `[a:c]`, `[:3]`, and ClusterShell's `coral-[0-3,7]`."""

from __future__ import annotations

import itertools
import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator

_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_RANGE = re.compile(r"([0-9]*|[A-Za-z])[:-]([0-9]+|[A-Za-z])(?::([0-9]+))?|[0-9]+")
_NUMBER = re.compile(r"[0-9]+")
# More than any inventory needs; a typing error must not exhaust the memory.
MOST = 65536
_LONGEST = 253


def expand(pattern: str) -> Iterator[str]:
    """The names that a pattern stands for, in order. Raises ValueError for an invalid range, or for too many names."""
    pieces = _BRACKETS.split(pattern)  # text, range, text, ..., text
    if any("[" in text or "]" in text for text in pieces[::2]):
        raise ValueError(f"bad host range: {_short(pattern)}")
    if len(pieces) > 1 and sum(map(len, pieces[::2])) > _LONGEST:
        raise ValueError(f"longer than the name of a host: {_short(pattern)}")
    choices = []
    product = 1
    for place, piece in enumerate(pieces):
        if place % 2:
            values = list(itertools.islice(_choices(piece, pattern), MOST + 1))
            product *= len(values)
            if product > MOST:
                raise ValueError(f"more than {MOST} hosts in one range: {_short(pattern)}")
            choices.append(values)
        else:
            choices.append([piece])
    return map("".join, itertools.product(*choices))


def _choices(ranges: str, pattern: str) -> Iterator[str]:
    for part in ranges.split(","):
        yield from _values(part, pattern)


def _short(pattern: str) -> str:
    return pattern if len(pattern) <= 80 else f"{pattern[:80]}..."


def _values(part: str, pattern: str) -> Iterator[str]:
    match = _RANGE.fullmatch(part)
    if not match:
        raise ValueError(f"bad host range: {_short(pattern)}")
    if len(part) > _LONGEST:
        raise ValueError(f"a number that is too long in the host range: {_short(pattern)}")
    if match[2] is None:
        yield part
        return
    # As in Ansible, a range without a first number begins with 0.
    first, last, step = match[1] or "0", match[2], int(match[3] or 1)
    if step < 1:
        raise ValueError(f"bad step in host range: {pattern}")
    if first.isdecimal() != last.isdecimal():
        raise ValueError(f"bad host range: {pattern}")
    if not first.isdecimal():
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
    count = (int(last) - int(first)) // step + 1  # len() takes no number above 2**63
    if count > MOST:
        raise ValueError(f"{count} hosts in one range: {_short(pattern)}")
    for number in numbers:
        yield str(number).zfill(width)


def fold(names: Iterable[str]) -> list[str]:
    """The fewest patterns that `expand` turns back into these names: n1, n2, n3, n5 are `n[1-3,5]`.

    One number of a name is folded: that in which most names differ. Patterns are in the order of their first names.
    """
    chosen = list(dict.fromkeys(names))
    # Every name split at each of its numbers: (text before, text after), number.
    cuts = {
        name: [((name[: number.start()], name[number.end() :]), number[0]) for number in _NUMBER.finditer(name)]
        for name in chosen
    }
    shared = Counter(rest for each in cuts.values() for rest, _ in each)
    folded: dict[tuple[str, ...], list[str]] = {}
    for name in chosen:
        # If as many names differ in two numbers, the last one: rack before position in it.
        rest, number = max(reversed(cuts[name]), key=lambda cut: shared[cut[0]], default=((name,), ""))
        folded.setdefault(rest, []).append(number)
    return [pattern for rest, numbers in folded.items() for pattern in _patterns(rest, numbers)]


def _patterns(rest: tuple[str, ...], numbers: list[str]) -> Iterator[str]:
    if len(rest) == 1:
        yield rest[0]
        return
    # Leading zeros are part of a name: 08, 09, 10 have one width; 8, 9, 10 have none.
    padded = {len(number) for number in numbers if number[0] == "0" and len(number) > 1}
    rows: dict[int, list[int]] = {}
    for number in numbers:
        rows.setdefault(len(number) if len(number) in padded else 0, []).append(int(number))
    for width, row in rows.items():
        parts = ",".join(_runs(sorted(row), width))
        yield rest[0] + (parts if len(row) == 1 else f"[{parts}]") + rest[1]


def _runs(row: list[int], width: int) -> Iterator[str]:
    first = 0
    for place, number in enumerate(row):
        if place + 1 == len(row) or row[place + 1] != number + 1:
            ends = [row[first], number] if place > first else [number]
            yield "-".join(str(end).zfill(width) for end in ends)
            first = place + 1
