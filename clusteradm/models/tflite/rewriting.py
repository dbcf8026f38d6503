"""Changes to a .tflite model by its schema: a static batch, 8-bit ends of the other sign, weights of 16-bit floats.

Imported by converters alone: it needs flatbuffers, NumPy and the schema that LiteRT is built with.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_SHIFT = 128  # between the zero points of int8 and uint8


def unpacked(content: bytes) -> Any:
    """The model as objects."""
    return schema.ModelT.InitFromPackedBuf(content, 0)


def packed(model: Any) -> bytes:
    """The model's bytes."""
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def fix_batch(model: Any) -> bool:
    """Make every open dimension the size that the file has for it, 1 for a batch; whether there was one.

    RESHAPE by a shape that is computed of the batch becomes one by constants, and what computed it is removed.
    """
    changed = False
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            signature = tensor.shapeSignature
            if signature is not None and any(int(size) < 0 for size in signature):
                changed = True
                tensor.shape = [max(1, int(size)) for size in tensor.shape]
            tensor.shapeSignature = None
        for operation in graph.operators:
            if _kind(model, operation) == schema.BuiltinOperator.RESHAPE and len(operation.inputs) > 1:
                shape = graph.tensors[operation.outputs[0]].shape
                if _is_computed(model, graph, operation.inputs[1]):
                    operation.inputs = [operation.inputs[0], _constant(model, graph, np.array(shape, "<i4"))]
        _drop_unused(graph)
    return changed


def drop_tensors(model: Any) -> None:
    """Remove the tensors that no operation names: a runtime gives them no memory, and the quantiser reads all."""
    for number, graph in enumerate(model.subgraphs):
        used = {int(one) for one in (*graph.inputs, *graph.outputs)}
        lists = [(operation, name) for operation in graph.operators for name in ("inputs", "outputs", "intermediates")]
        for operation, name in lists:
            values = getattr(operation, name)
            used.update(int(one) for one in (values if values is not None else ()))
        kept = [old for old in range(len(graph.tensors)) if old in used]
        new = {old: place for place, old in enumerate(kept)} | {-1: -1}
        graph.tensors = [graph.tensors[old] for old in kept]
        graph.inputs, graph.outputs = ([new[int(one)] for one in ends] for ends in (graph.inputs, graph.outputs))
        for operation, name in lists:
            values = getattr(operation, name)
            if values is not None:
                setattr(operation, name, [new[int(one)] for one in values])
        for signature in model.signatureDefs or ():
            if int(signature.subgraphIndex) == number:
                for one in (*(signature.inputs or ()), *(signature.outputs or ())):
                    one.tensorIndex = new[int(one.tensorIndex)]


def sign(model: Any) -> None:
    """Give a model without a signature one, which names its inputs and outputs by their place."""
    if model.signatureDefs:
        return
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    graph = model.subgraphs[0]
    signature.inputs, signature.outputs = (
        [_named(f"{what}_{place}", int(one)) for place, one in enumerate(ends)]
        for what, ends in (("input", graph.inputs), ("output", graph.outputs))
    )
    model.signatureDefs = [signature]


def _named(name: str, tensor: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, tensor
    return entry


def widen_weights(model: Any) -> bool:
    """Make weights of float16 those of float32, and remove what did so at run time; whether there were any."""
    changed = False
    for graph in model.subgraphs:
        kept = []
        for operation in graph.operators:
            source = graph.tensors[operation.inputs[0]] if len(operation.inputs) else None
            half = source is not None and source.type == schema.TensorType.FLOAT16
            data = model.buffers[source.buffer].data if half and source is not None else None
            if _kind(model, operation) != schema.BuiltinOperator.DEQUANTIZE or data is None or not len(data):
                kept.append(operation)
                continue
            wide = np.frombuffer(np.asarray(data, np.uint8).tobytes(), "<f2").astype("<f4")
            graph.tensors[operation.outputs[0]].buffer = _buffer(model, wide)
            changed = True
        graph.operators = kept
    return changed


def add_uint8_ends(model: Any) -> None:
    """Make int8 inputs and outputs uint8 ones: a QUANTIZE at each end, which adds or takes 128 and loses nothing."""
    graph = model.subgraphs[0]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.QUANTIZE
    code.version = 1
    model.operatorCodes.append(code)
    number = len(model.operatorCodes) - 1
    moved: dict[int, int] = {}
    before, after = [], []
    for inner in dict.fromkeys(int(one) for one in graph.inputs):
        if graph.tensors[inner].type == schema.TensorType.INT8:
            moved[inner] = _twin(graph, inner)
            before.append(_quantize(number, moved[inner], inner))
    inputs = [moved.get(int(one), int(one)) for one in graph.inputs]
    ends: dict[int, int] = {}
    for inner in dict.fromkeys(int(one) for one in graph.outputs):
        if graph.tensors[inner].type == schema.TensorType.INT8:
            ends[inner] = _twin(graph, inner)
            after.append(_quantize(number, inner, ends[inner]))
    graph.inputs, graph.outputs = inputs, [ends.get(int(one), int(one)) for one in graph.outputs]
    graph.operators = [*before, *graph.operators, *after]
    for signature in model.signatureDefs or ():
        for tensors, new in ((signature.inputs, moved), (signature.outputs, ends)):
            for one in tensors or ():
                one.tensorIndex = new.get(int(one.tensorIndex), int(one.tensorIndex))


def _twin(graph: Any, number: int) -> int:
    """Add the uint8 tensor that stands for an int8 one, and takes its name."""
    inner = graph.tensors[number]
    outer = schema.TensorT()
    outer.name, inner.name = inner.name, text(inner.name) + "_int8"
    outer.shape, outer.type, outer.buffer = inner.shape, schema.TensorType.UINT8, 0
    outer.quantization = schema.QuantizationParametersT()
    outer.quantization.scale = inner.quantization.scale
    outer.quantization.zeroPoint = [int(zero) + _SHIFT for zero in inner.quantization.zeroPoint]
    graph.tensors.append(outer)
    return len(graph.tensors) - 1


def text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name or "")


def _quantize(code: int, source: int, target: int) -> Any:
    operation = schema.OperatorT()
    operation.opcodeIndex, operation.inputs, operation.outputs = code, [source], [target]
    return operation


def _kind(model: Any, operation: Any) -> int:
    code = model.operatorCodes[operation.opcodeIndex]
    return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))


def _is_computed(model: Any, graph: Any, number: int) -> bool:
    data = model.buffers[graph.tensors[number].buffer].data if number >= 0 else None
    return number >= 0 and (data is None or not len(data))


def _constant(model: Any, graph: Any, values: Any) -> int:
    tensor = schema.TensorT()
    tensor.name, tensor.shape = f"shape_{len(graph.tensors)}", list(values.shape)
    tensor.type, tensor.buffer = schema.TensorType.INT32, _buffer(model, values)
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _buffer(model: Any, values: Any) -> int:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def _drop_unused(graph: Any) -> None:
    """Remove operations whose outputs nothing reads."""
    while True:
        read = {int(one) for operation in graph.operators for one in operation.inputs}
        read.update(int(one) for one in graph.outputs)
        kept = [
            one for one in graph.operators if not len(one.outputs) or any(int(output) in read for output in one.outputs)
        ]
        if len(kept) == len(graph.operators):
            return
        graph.operators = kept
