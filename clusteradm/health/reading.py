"""A part of a probe's document, read with a type in mind: whatever is missing or makes no sense is None, or empty.

Reading never raises: a document may come from another version, a hand-edited file, or a host that is half dead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# What a sane number of sysfs or of a clock fits into; anything larger is no number that may be computed with.
_LARGEST = 2**60


class Reading:
    """A JSON object, by its keys. False where it is empty, or is no object at all."""

    def __init__(self, value: object) -> None:
        self._value: Mapping[str, Any] = value if isinstance(value, Mapping) else {}

    def __bool__(self) -> bool:
        return bool(self._value)

    def has(self, key: str) -> bool:
        """Whether there is anything but null."""
        return self._value.get(key) is not None

    def text(self, key: str) -> str | None:
        """A string."""
        return _text(self._value.get(key))

    def truth(self, key: str) -> bool | None:
        """True or false."""
        value = self._value.get(key)
        return value if isinstance(value, bool) else None

    def whole(self, key: str) -> int | None:
        """A whole number, also where it is written as text, as the kernel's files have it."""
        return whole(self._value.get(key))

    def real(self, key: str) -> float | None:
        """A finite number, also where it is written as text."""
        return real(self._value.get(key))

    def values(self, key: str) -> list[Any] | None:
        """A list of anything."""
        value = self._value.get(key)
        return value if isinstance(value, list) else None

    def texts(self, key: str) -> tuple[str, ...] | None:
        """The strings of a list."""
        values = self.values(key)
        return None if values is None else tuple(text for each in values if (text := _text(each)) is not None)

    def part(self, key: str) -> Reading:
        """An object within it."""
        return Reading(self._value.get(key))

    def parts(self, key: str) -> list[Reading]:
        """The objects of a list."""
        return [Reading(each) for each in self.values(key) or () if isinstance(each, Mapping)]

    def named(self, key: str) -> dict[str, Reading]:
        """The objects of an object, each by its name."""
        return {_text(name) or "": Reading(each) for name, each in self.part(key)._value.items()}

    def words(self, key: str) -> dict[str, str]:
        """The strings of an object, each by its name."""
        named = {_text(name) or "": _text(each) for name, each in self.part(key)._value.items()}
        return {name: text for name, text in named.items() if text is not None}

    def only(self, key: str) -> bool:
        """Whether there is nothing else in it."""
        return set(self._value) == {key}


def _text(value: object) -> str | None:
    """A string that can be written; JSON can hold some (lone surrogates) that no terminal and no file takes."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else None


def whole(value: object) -> int | None:
    """A whole number, also where it is written as text."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    try:
        number = int(value)
    except ValueError:
        return None
    return number if abs(number) < _LARGEST else None


def real(value: object) -> float | None:
    """A finite number, also where it is written as text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) < _LARGEST else None
