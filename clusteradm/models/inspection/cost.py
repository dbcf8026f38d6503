"""Cost of a model by its graph: parameters, and multiply-accumulate operations of one inference.

Operations are counted as in the definition of each layer; element-wise ones and poolings have none. Source of the
tensors' order and shapes: tensorflow/lite/kernels, the file of each operation.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from clusteradm.models.tflite.graph import Graph, Operation, Tensor

# Constants of whole numbers are biases here, but for a first input, and shapes, axes or indices everywhere else.
_WEIGHTED = (
    *("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D", "CONV_3D_TRANSPOSE", "FULLY_CONNECTED"),
    *("LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "SVDF", "RNN"),
    *("UNIDIRECTIONAL_SEQUENCE_RNN", "BIDIRECTIONAL_SEQUENCE_RNN"),
)
# The sequence's length is the second dimension of the first input, or the first where time comes first.
_SEQUENCES = tuple(name for name in _WEIGHTED if "SEQUENCE" in name)
_RECURRENT = (*_SEQUENCES, "LSTM", "RNN", "SVDF")
_MOST = 1 << 62  # beyond which a shape is nonsense


def parameters(graphs: Iterable[Graph]) -> int:
    """Number of the weights and biases; those that several operations share count once."""
    found: dict[int, int] = {}
    for graph in graphs:
        for operation in graph.operations:
            for place, number in enumerate(operation.inputs):
                if number < 0:
                    continue
                tensor = graph.tensors[number]
                whole = tensor.dtype in ("int32", "int64", "bool", "string")
                if len(tensor.weights) and (not whole or (place and operation.name in _WEIGHTED)):
                    found[tensor.buffer] = max(found.get(tensor.buffer, 0), _stored(tensor))
    return sum(found.values())


def _stored(tensor: Tensor) -> int:
    """Elements of a constant: by its shape, but no more than its bytes can hold (a sparse one holds fewer)."""
    return min(tensor.size, 4 * len(tensor.weights))


def macs(graph: Graph) -> int:
    """Multiply-accumulates of one inference, of the operations that the graph shows; loops' bodies have their own."""
    return sum(min(_MOST, operation_macs(graph, operation)) for operation in graph.operations)


def operation_macs(graph: Graph, operation: Operation) -> int:
    """Multiply-accumulates of one operation; 0 for one that has none, or whose shapes are left open."""
    inputs = [graph.tensors[number] if number >= 0 else None for number in operation.inputs]
    outputs = [graph.tensors[number] for number in operation.outputs if number >= 0]
    if not inputs or not outputs:
        return 0
    out, name = outputs[0], operation.name
    second = inputs[1] if len(inputs) > 1 else None
    if name in _RECURRENT:
        return _recurrent(name, inputs)
    if second is None or not second.size:
        return 0
    if name == "CONV_2D":  # weights: output channels, height, width, input channels
        return out.size * prod(second.shape[1:])
    if name == "DEPTHWISE_CONV_2D":  # weights: 1, height, width, output channels
        return out.size * prod(second.shape[1:3])
    if name == "CONV_3D":  # weights: depth, height, width, input channels, output channels
        return out.size * prod(second.shape[:4])
    if name == "TRANSPOSE_CONV":  # output shape, weights (as CONV_2D), input
        fed = inputs[2] if len(inputs) > 2 else None
        return fed.size * prod(second.shape[:3]) if fed else 0
    if name == "FULLY_CONNECTED":  # weights: units, inputs
        return out.size * second.shape[-1] if second.shape else 0
    if name == "BATCH_MATMUL":
        first = inputs[0]
        inner = first.shape[-1] if first and first.shape else 0
        return out.size * inner
    return 0


def _recurrent(name: str, inputs: list[Tensor | None]) -> int:
    """Each weight matrix is used once for each step of each sequence."""
    fed = inputs[0]
    if fed is None or not fed.shape or not fed.size:  # a scalar has no steps, but a size of 1
        return 0
    steps = prod(fed.shape[:-1]) if name in _SEQUENCES else fed.shape[0]
    weights = sum(
        tensor.size for tensor in inputs[1:] if tensor is not None and len(tensor.weights) and len(tensor.shape) == 2
    )
    return steps * weights
