"""Reader of FlatBuffers and FlexBuffers in untrusted bytes, without a schema compiler.

Only the kinds of fields that a model's inspection needs. Every offset is checked before it is followed: a truncated or
damaged file raises Malformed and nothing else. Any number of offsets may lead to one place, so that a small file can
describe a large tree: what is read is charged to a Budget, and the bytes themselves are never copied.

Formats: the "FlatBuffers internals" and "FlexBuffers" pages of google/flatbuffers.
"""

from __future__ import annotations

import struct

# A vector of more tables than this is no model's: the largest published models have a few thousand tensors.
MOST_TABLES = 100_000

# What is charged for a table: it takes no fewer bytes in a file, with its entry in a list, if no other shares them.
_TABLE = 16
_ENTRY = 4
# The largest budget: four lists of MOST_TABLES tables, and as much again.
_MOST_BUDGET = 2 * 4 * MOST_TABLES * _TABLE

_FLEX_STRING = 5
_FLEX_MAP = 9
_FLEX_BLOB = 25


class Malformed(Exception):
    """The bytes are not a valid buffer."""


class Budget:
    """Bytes that may still be read from one file: twice its size at first, as a sound one is read once."""

    def __init__(self, size: int) -> None:
        self._left = min(2 * size + 4096, _MOST_BUDGET)

    def charge(self, amount: int) -> None:
        """Raise Malformed where the budget is used up."""
        self._left -= amount
        if self._left < 0:
            raise Malformed("its parts overlap: they would unfold to many times the file")


class Table:
    """One table of a FlatBuffer. `slot`: a field's id in the schema, as schema.py names it."""

    __slots__ = ("_budget", "_data", "_position", "_vtable", "_vtable_size")

    def __init__(self, data: memoryview, position: int, budget: Budget) -> None:
        budget.charge(_TABLE)
        self._data = data
        self._position = position
        self._budget = budget
        vtable = position - _read(data, "<i", position)
        size = _read(data, "<H", vtable)
        if size < 4 or size % 2 or vtable + size > len(data):
            raise Malformed("a table's field list lies outside the file")
        self._vtable, self._vtable_size = vtable, size

    @classmethod
    def root(cls, data: memoryview, budget: Budget) -> Table:
        """The buffer's root table."""
        return cls(data, _read(data, "<I", 0), budget)

    @property
    def place(self) -> int:
        """Its offset in the file."""
        return self._position

    def number(self, slot: int, layout: str, default: int = 0) -> int:
        """A scalar field; `layout` is struct's, as "<i"."""
        at = self.field(slot)
        return _read(self._data, layout, at) if at else default

    def table(self, slot: int) -> Table | None:
        """A table field, or None where it is absent."""
        at = self.field(slot)
        return Table(self._data, self._follow(at), self._budget) if at else None

    def tables(self, slot: int) -> list[Table]:
        """A vector of tables; empty where it is absent."""
        return [Table(self._data, self._follow(at), self._budget) for at in self._entries(slot)]

    def numbers(self, slot: int, kind: str, most: int = MOST_TABLES) -> list[int]:
        """A vector of at most `most` integers; `kind` is struct's letter for one."""
        return list(self._unpack(slot, kind, most))

    def floats(self, slot: int, most: int = MOST_TABLES) -> list[float]:
        """A vector of at most `most` 32-bit floats."""
        return list(self._unpack(slot, "f", most))

    def raw(self, slot: int) -> memoryview:
        """A string or a vector of bytes, in place; empty where it is absent."""
        start, count = self._vector(slot, 1)
        return self._data[start : start + count]

    def check_raw(self, slot: int) -> None:
        """Raise Malformed unless the whole string or vector of bytes lies within the file."""
        self._vector(slot, 1)

    def text(self, slot: int, most: int) -> str:
        """A string of at most `most` bytes; those that are not UTF-8 are replaced."""
        data = self.raw(slot)
        if len(data) > most:
            raise Malformed(f"a text of {len(data)} bytes, more than {most}")
        self._budget.charge(len(data))
        return str(data, "utf-8", "replace")

    def nested(self, slot: int) -> list[memoryview]:
        """A vector of strings, as bytes: each may be a FlatBuffer of its own."""
        found = []
        for at in self._entries(slot):
            text = self._follow(at)
            size = _read(self._data, "<I", text)
            if text + 4 + size > len(self._data):
                raise Malformed("a string runs past the end of the file")
            found.append(self._data[text + 4 : text + 4 + size])
        return found

    def _entries(self, slot: int) -> range:
        """The places of a list's offsets."""
        start, count = self._vector(slot, _ENTRY)
        if count > MOST_TABLES:
            raise Malformed(f"a list claims {count} entries")
        self._budget.charge(_ENTRY * count)
        return range(start, start + _ENTRY * count, _ENTRY)

    def field(self, slot: int) -> int:
        """The offset of a field in the file; 0 where it is absent."""
        entry = 4 + 2 * slot
        if entry >= self._vtable_size:
            return 0
        offset = _read(self._data, "<H", self._vtable + entry)
        return self._position + offset if offset else 0

    def _follow(self, at: int) -> int:
        return at + _read(self._data, "<I", at)

    def _vector(self, slot: int, item: int) -> tuple[int, int]:
        """Offset of the vector's first item, and the number of items."""
        at = self.field(slot)
        if not at:
            return 0, 0
        vector = self._follow(at)
        count = _read(self._data, "<I", vector)
        if vector + 4 + count * item > len(self._data):
            raise Malformed("a list runs past the end of the file")
        return vector + 4, count

    def _unpack(self, slot: int, kind: str, most: int) -> tuple[int, ...]:
        size = struct.calcsize("<" + kind)
        start, count = self._vector(slot, size)
        if count > most:
            raise Malformed(f"a list of {count} numbers, more than {most}")
        self._budget.charge(size * count)
        return struct.unpack_from(f"<{count}{kind}", self._data, start)


def flex_entry(data: memoryview, key: str, budget: Budget) -> memoryview | None:
    """The string or blob under `key` in a FlexBuffer whose root is a map; None where there is no such entry."""
    if len(data) < 3:
        raise Malformed("a FlexBuffer of fewer than three bytes")
    width, root_type = data[-1], data[-2]
    if root_type >> 2 != _FLEX_MAP:
        raise Malformed("a FlexBuffer that is no map")
    root = len(data) - 2 - width
    values = root - _unsigned(data, root, width)
    width = 1 << (root_type & 3)
    count = _unsigned(data, values - width, width)
    keys_at = values - 3 * width
    keys = keys_at - _unsigned(data, keys_at, width)
    keys_width = _unsigned(data, values - 2 * width, width)
    if values + count * (width + 1) > len(data):
        raise Malformed("a FlexBuffer map runs past its end")
    wanted = key.encode() + b"\0"
    budget.charge(_ENTRY * count)
    for number in range(count):
        at = keys + number * keys_width
        start = at - _unsigned(data, at, keys_width)
        if start < 0 or data[start : start + len(wanted)] != wanted:
            continue
        packed = data[values + count * width + number]
        if packed >> 2 not in (_FLEX_STRING, _FLEX_BLOB):
            raise Malformed(f"the FlexBuffer's entry {key} is no string")
        entry = values + number * width
        place = entry - _unsigned(data, entry, width)
        size_width = 1 << (packed & 3)
        size = _unsigned(data, place - size_width, size_width)
        if place + size > len(data):
            raise Malformed("a FlexBuffer's string runs past its end")
        return data[place : place + size]
    return None


def _unsigned(data: memoryview, at: int, width: int) -> int:
    layout = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}.get(width)
    if layout is None:
        raise Malformed(f"a FlexBuffer offset of {width} bytes")
    return _read(data, layout, at)


def _read(data: memoryview, layout: str, at: int) -> int:
    """One number. Checked here, as struct takes a negative offset as one from the end."""
    if at < 0 or at + struct.calcsize(layout) > len(data):
        raise Malformed(f"an offset leads to byte {at} of {len(data)}")
    return int(struct.unpack_from(layout, data, at)[0])
