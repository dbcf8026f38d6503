"""Partition of a TFLite model's graph for the lab's compiler: what the Edge TPU computes, and what stays on the CPU.

As Google's compiler does it: operations on 8-bit numbers go to the Edge TPU until a path meets another one, from which
on all stays on the CPU; before them, the CPU may bring the inputs into 8 bits. Source:
coral.ai/docs/edgetpu/models-intro, "Compiling".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from clusteradm.models.tflite import schema
from clusteradm.models.tflite.graph import Operation, read
from clusteradm.models.tflite.model import EIGHT_BITS

# Operations that bring an input into 8 bits, before the Edge TPU's part.
_AHEAD = ("QUANTIZE", "CAST", "RESHAPE", "TRANSPOSE", "EXPAND_DIMS", "SQUEEZE", "ADD", "SUB", "MUL", "DIV")


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
    graph = read(content)[0]
    parts = Partition()
    late: set[int] = set()  # tensors that the CPU writes after the Edge TPU
    made: set[int] = set()  # tensors that the Edge TPU writes
    for operation in graph.operations:
        kinds = [graph.tensors[number].dtype for number in (*operation.data, *operation.outputs)]
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
    needed.update(graph.outputs)
    parts.inputs = _distinct(number for one in parts.tpu for number in one.data if number not in made)
    parts.outputs = _distinct(number for one in parts.tpu for number in one.outputs if number in needed)
    return parts


def _distinct(numbers: Iterator[int]) -> list[int]:
    return list(dict.fromkeys(numbers))
