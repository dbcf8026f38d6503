"""Typed access to a probe's document: a value that is missing or of another type reads as None, or as empty.

Reading never raises: a document may come from another version, an edited file, or a host in the middle of a failure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# Limit of the numbers that are believed: no value of sysfs, no size and no time is larger.
_LARGEST = 2**60
# Characters of a text that is believed, and of a number as text.
_MOST_TEXT, _MOST_DIGITS = 1 << 16, 100


class Reading:
    """A JSON object, read by its keys. False if it is empty, or is no object."""

    def __init__(self, value: object) -> None:
        self._value: Mapping[str, Any] = value if isinstance(value, Mapping) else {}

    def __bool__(self) -> bool:
        return bool(self._value)

    def has(self, key: str) -> bool:
        """Whether the value is there and not null."""
        return self._value.get(key) is not None

    def has_only(self, key: str) -> bool:
        """Whether the object has this key and no other."""
        return set(self._value) == {key}

    def text(self, key: str) -> str | None:
        """A string."""
        return _as_text(self._value.get(key))

    def boolean(self, key: str) -> bool | None:
        """True or false."""
        value = self._value.get(key)
        return value if isinstance(value, bool) else None

    def integer(self, key: str) -> int | None:
        """An integer, or a string of one, as in the kernel's files."""
        return as_integer(self._value.get(key))

    def number(self, key: str) -> float | None:
        """A finite number, or a string of one."""
        return as_number(self._value.get(key))

    def values(self, key: str) -> list[Any] | None:
        """A list of anything."""
        value = self._value.get(key)
        return value if isinstance(value, list) else None

    def texts(self, key: str) -> tuple[str, ...] | None:
        """The strings of a list."""
        values = self.values(key)
        return None if values is None else tuple(text for each in values if (text := _as_text(each)) is not None)

    def part(self, key: str) -> Reading:
        """An object."""
        return Reading(self._value.get(key))

    def parts(self, key: str) -> list[Reading]:
        """The objects of a list."""
        return [Reading(each) for each in self.values(key) or () if isinstance(each, Mapping)]

    def parts_by_name(self, key: str) -> dict[str, Reading]:
        """The objects of an object, by key."""
        return {_as_text(name) or "": Reading(each) for name, each in self.part(key)._value.items()}

    def texts_by_name(self, key: str) -> dict[str, str]:
        """The strings of an object, by key."""
        named = {_as_text(name) or "": _as_text(each) for name, each in self.part(key)._value.items()}
        return {name: text for name, text in named.items() if text is not None}


def _as_text(value: object) -> str | None:
    """A string that is not too long and can be encoded; JSON can hold lone surrogates, which no terminal takes."""
    if not isinstance(value, str) or len(value) > _MOST_TEXT:
        return None
    return value.encode("utf-8", "replace").decode("utf-8")


def as_integer(value: object) -> int | None:
    """An integer, or a string of one; else None."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    if isinstance(value, str) and len(value) > _MOST_DIGITS:
        return None
    try:
        found = int(value)
    except ValueError:
        return None
    return found if abs(found) < _LARGEST else None


def as_number(value: object) -> float | None:
    """A finite number, or a string of one; else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and abs(found) < _LARGEST else None
