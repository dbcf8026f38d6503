"""Models of one or two operations, built by the schema: with state, and without."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_FLOAT = schema.TensorType.FLOAT32


def variable() -> bytes:
    """A sum of all inputs so far, in a resource variable (VAR_HANDLE): output = variable += input, float32 1x4."""
    handle = schema.VarHandleOptionsT()
    handle.container, handle.sharedName = "", "sum"
    once = schema.CallOnceOptionsT()
    once.initSubgraphIndex = 1
    options, resource = schema.BuiltinOptions, schema.TensorType.RESOURCE
    assign = schema.AssignVariableOptionsT()
    body = _graph(
        [_tensor("x"), _tensor("v", [], resource), _tensor("r"), _tensor("y")],
        [
            _node(4, [], [], options.CallOnceOptions, once),
            _node(0, [], [1], options.VarHandleOptions, handle),
            _node(1, [1], [2], options.ReadVariableOptions, schema.ReadVariableOptionsT()),
            _node(2, [0, 2], [3], options.AddOptions, schema.AddOptionsT()),
            _node(3, [1, 3], [], options.AssignVariableOptions, assign),
        ],
        [0],
        [3],
    )
    begin = _graph(
        [_tensor("v", [], resource), _tensor("zeros", buffer=1)],
        [
            _node(0, [], [0], options.VarHandleOptions, handle),
            _node(3, [0, 1], [], options.AssignVariableOptions, assign),
        ],
        [],
        [],
    )
    # VAR_HANDLE, READ_VARIABLE, ADD, ASSIGN_VARIABLE, CALL_ONCE
    return _packed([142, 143, 0, 144, 129], [body, begin], bytes(16))


def recurrent() -> bytes:
    """A layer that keeps its output in a variable tensor (RNN): output = hidden = input + hidden, float32 1x4."""
    weights = np.eye(4, dtype="<f4")
    hidden = _tensor("hidden")
    hidden.isVariable = True
    tensors = [
        _tensor("x"),
        _tensor("weights", [4, 4], buffer=1),
        _tensor("recurrent", [4, 4], buffer=1),
        _tensor("bias", [4], buffer=2),
        hidden,
        _tensor("y"),
    ]
    node = _node(0, [0, 1, 2, 3, 4], [5], schema.BuiltinOptions.RNNOptions, schema.RNNOptionsT())
    return _packed([24], [_graph(tensors, [node], [0], [5])], weights.tobytes(), bytes(16))


def random() -> bytes:
    """Random numbers that go on from one inference to the next (RANDOM_UNIFORM, with a seed): float32 4."""
    options = schema.RandomOptionsT()
    options.seed, options.seed2 = 1, 2
    tensors = [_tensor("shape", [1], schema.TensorType.INT32), _tensor("y", [4])]
    node = _node(0, [0], [1], schema.BuiltinOptions.RandomOptions, options)
    return _packed([148], [_graph(tensors, [node], [0], [1])])


def _tensor(name: str, shape: list[int] | None = None, kind: int = _FLOAT, buffer: int = 0) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, [1, 4] if shape is None else shape, kind, buffer
    return tensor


def _node(code: int, inputs: list[int], outputs: list[int], kind: int, options: Any) -> Any:
    node = schema.OperatorT()
    node.opcodeIndex, node.inputs, node.outputs = code, inputs, outputs
    node.builtinOptionsType, node.builtinOptions = kind, options
    return node


def _graph(tensors: list[Any], nodes: list[Any], inputs: list[int], outputs: list[int]) -> Any:
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = tensors, nodes, inputs, outputs
    return graph


def _packed(codes: list[int], graphs: list[Any], *buffers: bytes) -> bytes:
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [], graphs, [schema.BufferT()]
    for number in codes:
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
        model.operatorCodes.append(code)
    for data in buffers:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(data, np.uint8)
        model.buffers.append(buffer)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


KINDS = {"float32": 0, "int32": 2, "uint8": 3, "int64": 4, "int16": 7, "int8": 9}


class Made:
    """A model of one graph, made tensor by tensor and operation by operation."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version, self.model.operatorCodes, self.model.buffers = 3, [], [schema.BufferT()]
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators, self.graph.inputs, self.graph.outputs = [], [], [], []
        self.model.subgraphs = [self.graph]

    def tensor(
        self, shape: tuple[int, ...], dtype: str = "int8", data: Any = None, signature: tuple[int, ...] = ()
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = f"t{len(self.graph.tensors)}", list(shape), KINDS[dtype]
        if signature:
            tensor.shapeSignature = list(signature)
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def weights(self, *shape: int, dtype: str = "int8") -> int:
        return self.tensor(shape, dtype, np.ones(shape, dtype))

    def add(self, name: str, inputs: list[int], outputs: list[int], kind: int = 0, options: Any = None) -> None:
        number = getattr(schema.BuiltinOperator, name, None)
        code = schema.OperatorCodeT()
        code.version = 1
        code.builtinCode = schema.BuiltinOperator.CUSTOM if number is None else number
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        if number is None:
            code.customCode = name
        self.model.operatorCodes.append(code)
        operation = schema.OperatorT()
        operation.opcodeIndex, operation.inputs, operation.outputs = len(self.model.operatorCodes) - 1, inputs, outputs
        operation.builtinOptionsType, operation.builtinOptions = kind, options
        self.graph.operators.append(operation)

    def content(self, inputs: list[int], outputs: list[int]) -> bytes:
        self.graph.inputs, self.graph.outputs = inputs, outputs
        builder = flatbuffers.Builder(0)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def colours(side: int = 32) -> bytes:
    """A detector of colours, in the form of TFLite_Detection_PostProcess: of red, green and blue, in this order, a box
    that is always the same, and as its score the mean of the channel."""
    made = Made()
    picture = made.tensor((1, side, side, 3), "uint8")
    quantization = schema.QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = [1 / 255], [0]
    made.graph.tensors[picture].quantization = quantization
    real = made.tensor((1, side, side, 3), "float32")
    made.add("DEQUANTIZE", [picture], [real])
    scores = made.tensor((1, 3), "float32")
    options = schema.ReducerOptionsT()
    options.keepDims = False
    axes = made.tensor((2,), "int32", np.array([1, 2], np.int32))
    made.add("MEAN", [real, axes], [scores], schema.BuiltinOptions.ReducerOptions, options)
    boxes = np.array([[[0, 0, 0.5, 0.5], [0.25, 0.5, 0.75, 1], [0.5, 0, 1, 0.25]]], np.float32)
    found = [
        made.tensor((1, 3, 4), "float32", boxes),
        made.tensor((1, 3), "float32", np.array([[0, 1, 2]], np.float32)),
    ]
    return made.content([picture], [*found, scores, made.tensor((1,), "float32", np.array([3], np.float32))])
