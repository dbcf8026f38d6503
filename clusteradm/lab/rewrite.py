"""Changes to a TFLite model in its own bytes: other operations, other inputs and outputs, another operator code.

A FlatBuffer's offsets lead forward, so that what is new is appended and found by a changed offset, and a list that
becomes no longer is changed in its place. Nothing is read but what changes: its cost does not depend on the rest.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from clusteradm.models.tflite import schema
from clusteradm.models.tflite.flatbuffer import Budget, Malformed, Table

_ALIGNMENT = 16


class Rewrite:
    """A model that is being changed; `data` is the result."""

    def __init__(self, content: bytes) -> None:
        self.data = bytearray(content)
        root = Table.root(memoryview(content), Budget(len(content)))
        self._root = root
        self._graph = root.tables(schema.Model.SUBGRAPHS)[0]

    def set_operations(self, tables: Sequence[int]) -> None:
        """Replace the graph's list of operations by the tables at these places, no more than there are now."""
        vector = self._vector(self._graph, schema.SubGraph.OPERATORS)
        if len(tables) > self._number(vector):
            raise Malformed("more operations than there is room for")
        struct.pack_into("<I", self.data, vector, len(tables))
        for number, table in enumerate(tables):
            entry = vector + 4 + 4 * number
            if table <= entry:
                raise Malformed("an operation lies before the list of operations")
            struct.pack_into("<I", self.data, entry, table - entry)

    def set_ends(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Replace the graph's inputs and outputs, and empty the signatures, which name the former ones."""
        for slot, numbers in ((schema.SubGraph.INPUTS, inputs), (schema.SubGraph.OUTPUTS, outputs)):
            self._point(
                self._graph.field(slot), self._append(struct.pack(f"<I{len(numbers)}i", len(numbers), *numbers))
            )
        if self._root.field(schema.Model.SIGNATURE_DEFS):
            struct.pack_into("<I", self.data, self._vector(self._root, schema.Model.SIGNATURE_DEFS), 0)

    def add_custom_code(self, name: str) -> int:
        """Add a custom operator code; its number. All codes are written anew behind the rest."""
        codes = [
            (
                code.number(schema.OperatorCode.DEPRECATED_BUILTIN_CODE, "<b"),
                bytes(code.raw(schema.OperatorCode.CUSTOM_CODE)),
                code.number(schema.OperatorCode.VERSION, "<i", 1),
                code.number(schema.OperatorCode.BUILTIN_CODE, "<i"),
            )
            for code in self._root.tables(schema.Model.OPERATOR_CODES)
        ]
        codes.append((schema.CUSTOM, name.encode(), 1, schema.CUSTOM))
        vector = self._append(struct.pack("<I", len(codes)) + bytes(4 * len(codes)))
        for number, (old, custom, version, builtin) in enumerate(codes):
            # Fields: deprecated_builtin_code, custom_code, version, builtin_code.
            layout = (4 + 12, 4 + 8 if custom else 0, 4 + 4, 4)
            table = self._table(layout, struct.pack("<iiIb3x", builtin, version, 0, old))
            if custom:
                self._point(table + 12, self._append(struct.pack("<I", len(custom)) + custom + b"\0"))
            self._point(vector + 4 + 4 * number, table)
        self._point(self._root.field(schema.Model.OPERATOR_CODES), vector)
        return len(codes) - 1

    def add_operation(self, code: int, inputs: Sequence[int], outputs: Sequence[int], options: bytes) -> int:
        """Write an operation with these custom options, in no list yet; the place of its table."""
        layout = (4, 8, 12, 0, 0, 16)
        table = self._table(layout, struct.pack("<IIII", code, 0, 0, 0))
        for place, numbers in ((8, inputs), (12, outputs)):
            self._point(table + place, self._append(struct.pack(f"<I{len(numbers)}i", len(numbers), *numbers)))
        self._point(table + 16, self._append(struct.pack("<I", len(options)) + options))
        return table

    def _table(self, layout: Sequence[int], body: bytes) -> int:
        """Append a table; `layout`: the place of each field in it, from its own beginning, 0 for none."""
        vtable = struct.pack(f"<HH{len(layout)}H", 4 + 2 * len(layout), 4 + len(body), *layout)
        at = self._append(vtable + bytes(-len(vtable) % 4))
        table = self._append(b"")
        self.data += struct.pack("<i", table - at) + body
        return table

    def _append(self, data: bytes) -> int:
        self.data += bytes(-len(self.data) % _ALIGNMENT)
        at = len(self.data)
        self.data += data
        return at

    def _point(self, place: int, target: int) -> None:
        """Make the offset at a place lead to what was appended."""
        if not place:
            raise Malformed("a list of the model is left out")
        struct.pack_into("<I", self.data, place, target - place)

    def _vector(self, table: Table, slot: int) -> int:
        place = table.field(slot)
        if not place:
            raise Malformed("a list of the model is left out")
        return place + self._number(place)

    def _number(self, place: int) -> int:
        return int(struct.unpack_from("<I", self.data, place)[0])
