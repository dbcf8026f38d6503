"""Partition of a TFLite model's graph for the lab's compiler: what the Edge TPU computes, and what stays on the CPU.

As Google's compiler does it: operations on 8-bit numbers go to the Edge TPU until a path meets another one, from which
on all stays on the CPU; before them, the CPU may bring the inputs into 8 bits. Source:
coral.ai/docs/edgetpu/models-intro, "Compiling".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from clusteradm.models.tflite import schema
from clusteradm.models.tflite.flatbuffer import Budget, Malformed, Table
from clusteradm.models.tflite.inspect import operator_name, type_of
from clusteradm.models.tflite.model import EIGHT_BITS

# Operations that bring an input into 8 bits, before the Edge TPU's part.
_AHEAD = ("QUANTIZE", "CAST", "RESHAPE", "TRANSPOSE", "EXPAND_DIMS", "SQUEEZE", "ADD", "SUB", "MUL", "DIV")


@dataclass(frozen=True)
class Operation:
    """An operation: the place of its table in the file, its kind, its tensors; `data`: those that are computed."""

    place: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    data: tuple[int, ...]


@dataclass
class Partition:
    """Three parts, each in the graph's order; `inputs` and `outputs`: the tensors of the Edge TPU's."""

    before: list[Operation] = field(default_factory=list)
    tpu: list[Operation] = field(default_factory=list)
    after: list[Operation] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)


def partition(content: bytes) -> Partition:
    """The partition of the first subgraph. Raises Malformed."""
    budget = Budget(len(content))
    root = Table.root(memoryview(content), budget)
    graph = root.tables(schema.Model.SUBGRAPHS)[0]
    tensors = graph.tables(schema.SubGraph.TENSORS)
    types = [type_of(tensor) for tensor in tensors]
    parts = Partition()
    late: set[int] = set()  # tensors that the CPU writes after the Edge TPU
    made: set[int] = set()  # tensors that the Edge TPU writes
    for operation in _operations(root, graph, tensors):
        kinds = [types[number] for number in (*operation.data, *operation.outputs)]
        fits = bool(operation.data and operation.outputs) and all(kind in EIGHT_BITS for kind in kinds)
        if late.intersection(operation.data) or operation.name not in schema.OPERATORS:
            fits = False
        elif not fits and operation.name in _AHEAD and not made.intersection(operation.data):
            parts.before.append(operation)
            continue
        if fits:
            parts.tpu.append(operation)
            made.update(operation.outputs)
        else:
            parts.after.append(operation)
            late.update(operation.outputs)
    needed = {number for operation in parts.after for number in operation.data}
    needed.update(graph.numbers(schema.SubGraph.OUTPUTS, "i"))
    parts.inputs = _distinct(number for one in parts.tpu for number in one.data if number not in made)
    parts.outputs = _distinct(number for one in parts.tpu for number in one.outputs if number in needed)
    return parts


def _operations(root: Table, graph: Table, tensors: list[Table]) -> Iterator[Operation]:
    names = [operator_name(code) for code in root.tables(schema.Model.OPERATOR_CODES)]
    buffers = root.tables(schema.Model.BUFFERS)
    fixed = [_is_fixed(tensor, buffers) for tensor in tensors]
    for table in graph.tables(schema.SubGraph.OPERATORS):
        number = table.number(schema.Operator.OPCODE_INDEX, "<I")
        inputs = tuple(table.numbers(schema.Operator.INPUTS, "i"))
        outputs = tuple(table.numbers(schema.Operator.OUTPUTS, "i"))
        if number >= len(names) or not all(-1 <= one < len(tensors) for one in (*inputs, *outputs)):
            raise Malformed("an operation names what is not there")
        data = tuple(one for one in inputs if one >= 0 and not fixed[one])
        yield Operation(table.place, names[number], inputs, outputs, data)


def _is_fixed(tensor: Table, buffers: list[Table]) -> bool:
    """Whether a tensor is of weights, or a variable of its operation: computed by no other."""
    number = tensor.number(schema.Tensor.BUFFER, "<I")
    weights = number < len(buffers) and len(buffers[number].raw(schema.Buffer.DATA)) > 0
    return weights or bool(tensor.number(schema.Tensor.IS_VARIABLE, "<B"))


def _distinct(numbers: Iterator[int]) -> list[int]:
    return list(dict.fromkeys(numbers))
