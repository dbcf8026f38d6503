"""Graphs of a .tflite file: tensors and operations in their order, with the options that the inspection needs.

Read from the bytes, within the file's Budget; nothing is computed, and weights stay where they are.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from clusteradm.models.tflite import schema
from clusteradm.models.tflite.flatbuffer import Budget, Malformed, Table
from clusteradm.models.tflite.inspect import operator_name, type_of

_MOST_DIMENSIONS = 64
_MOST_NAME = 1024
_MOST_SCALES = 1 << 16
_MOST_GRAPHS = 1024
_MOST_SMALL = 64  # numbers of a constant that is looked at: axes, strides, paddings


@dataclass(frozen=True)
class Tensor:
    """A tensor. `weights`: its constant numbers as they lie in the file, empty for one that is computed.

    `opened`: a dimension that the file leaves open; `scales`: their number, more than one for one per channel.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    buffer: int
    weights: memoryview
    variable: bool
    opened: bool
    scales: int

    @property
    def fixed(self) -> bool:
        """Whether no operation computes it: weights, or a variable of its operation."""
        return len(self.weights) > 0 or self.variable

    @property
    def size(self) -> int:
        """Number of its elements; 0 where a dimension is left open or nonsense."""
        return prod(self.shape) if all(0 < side < 1 << 31 for side in self.shape) else 0

    def numbers(self) -> tuple[int, ...]:
        """The numbers of a small constant of whole numbers, such as axes; () for any other."""
        letter = {"int32": "i", "int64": "q"}.get(self.dtype)
        size = struct.calcsize(f"<{letter}") if letter else 0
        if not letter or not 0 < len(self.weights) <= _MOST_SMALL * size or len(self.weights) % size:
            return ()
        return struct.unpack(f"<{len(self.weights) // size}{letter}", self.weights)


@dataclass(frozen=True)
class Operation:
    """An operation: the place of its table in the file, its kind, its tensors; `data`: those that are computed.

    `options`: the table of its builtin options, None where there is none.
    """

    place: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    data: tuple[int, ...]
    options: Table | None = None

    def option(self, slot: int, layout: str, default: int = 0) -> int:
        """A number of its options. Raises Malformed."""
        return self.options.number(slot, layout, default) if self.options else default


@dataclass(frozen=True)
class Graph:
    """A subgraph; the first is what runs, others are bodies of its control flow."""

    tensors: tuple[Tensor, ...]
    operations: tuple[Operation, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read(content: bytes, budget: Budget | None = None) -> tuple[Graph, ...]:
    """All graphs of a model that `inspect` has accepted. Raises Malformed."""
    budget = budget or Budget(len(content))
    root = Table.root(memoryview(content), budget)
    names = [operator_name(code) for code in root.tables(schema.Model.OPERATOR_CODES)]
    buffers = [buffer.raw(schema.Buffer.DATA) for buffer in root.tables(schema.Model.BUFFERS)]
    graphs = root.tables(schema.Model.SUBGRAPHS)
    if not 0 < len(graphs) <= _MOST_GRAPHS:
        raise Malformed(f"it has {len(graphs)} subgraphs")
    return tuple(_graph(graph, names, buffers) for graph in graphs)


def _graph(graph: Table, names: Sequence[str], buffers: Sequence[memoryview]) -> Graph:
    tensors = tuple(_tensor(tensor, buffers) for tensor in graph.tables(schema.SubGraph.TENSORS))
    operations = []
    for table in graph.tables(schema.SubGraph.OPERATORS):
        code = table.number(schema.Operator.OPCODE_INDEX, "<I")
        if code >= len(names):
            raise Malformed("an operation names what is not there")
        inputs = _numbers(table, schema.Operator.INPUTS, len(tensors))
        data = tuple(number for number in inputs if number >= 0 and not tensors[number].fixed)
        options = table.table(schema.Operator.BUILTIN_OPTIONS)
        outputs = _numbers(table, schema.Operator.OUTPUTS, len(tensors))
        operations.append(Operation(table.place, names[code], inputs, outputs, data, options))
    ends = [_numbers(graph, slot, len(tensors)) for slot in (schema.SubGraph.INPUTS, schema.SubGraph.OUTPUTS)]
    return Graph(tensors, tuple(operations), *ends)


def _numbers(table: Table, slot: int, count: int) -> tuple[int, ...]:
    """Numbers of tensors; -1 is one that is left out. Raises Malformed."""
    numbers = tuple(table.numbers(slot, "i"))
    if not all(-1 <= number < count for number in numbers):
        raise Malformed("a list names a tensor that is not there")
    return numbers


def _tensor(tensor: Table, buffers: Sequence[memoryview]) -> Tensor:
    number = tensor.number(schema.Tensor.BUFFER, "<I")
    quantisation = tensor.table(schema.Tensor.QUANTIZATION)
    signature = tensor.numbers(schema.Tensor.SHAPE_SIGNATURE, "i", _MOST_DIMENSIONS)
    return Tensor(
        name=tensor.text(schema.Tensor.NAME, _MOST_NAME),
        shape=tuple(tensor.numbers(schema.Tensor.SHAPE, "i", _MOST_DIMENSIONS)),
        dtype=type_of(tensor),
        buffer=number,
        weights=buffers[number] if number < len(buffers) else memoryview(b""),
        variable=bool(tensor.number(schema.Tensor.IS_VARIABLE, "<B")),
        opened=any(size < 0 for size in signature),
        scales=len(quantisation.floats(schema.Quantization.SCALE, _MOST_SCALES)) if quantisation else 0,
    )
