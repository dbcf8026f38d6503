"""Compiler for the lab's simulated Edge TPU: `clusteradm lab compile-model`.

The whole graph becomes one `edgetpu-custom-op`, in the container format of the real compiler (a FlexBuffer map); its
package is the original model, which the simulated device runs. A real Edge TPU refuses the result, and the lab's
refuses what the real compiler made. The model is read by `models`, which bounds its cost: the reader that is generated
from the schema believes every offset.
"""

from __future__ import annotations

import struct
from pathlib import Path

import flatbuffers
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from clusteradm import atomic, regular
from clusteradm.errors import UsageError
from clusteradm.models.tflite.inspect import TPU_OPERATION, inspect
from clusteradm.node.spec.wire.manifest import Tensor

MAGIC = b"LABTPU1\0"
IDENTIFIER = b"TFL3"
_MOST_BYTES = 256 << 20
_TYPES = {"uint8": schema.TensorType.UINT8, "int8": schema.TensorType.INT8}


def compile_file(source: Path, target: Path) -> None:
    """Compile `source` to `target`, atomically. Raises UsageError for a model that cannot be compiled."""
    compiled = compile_model(regular.read(source, _MOST_BYTES), str(source))
    try:
        atomic.write(target, compiled)
    except OSError as error:
        raise UsageError(f"cannot write the compiled model: {error.strerror}", where=str(target)) from error


def compile_model(content: bytes, where: str) -> bytes:
    """The compiled form of a TFLite model; UsageError, naming `where`, for one that an Edge TPU could not run."""
    model = inspect(content, where)
    if not model.cpu_operations and not model.tpu_operations:
        raise UsageError("this TFLite model has no operators", where=where)
    if model.subgraphs > 1:
        raise UsageError("the model has control flow (several subgraphs), which an Edge TPU cannot run", where=where)
    if model.tpu_operations:
        raise UsageError(
            "the model is compiled for an Edge TPU already", where=where, next_step="compile the model it was made of"
        )
    for end, tensors in (("input", model.inputs), ("output", model.outputs)):
        for tensor in tensors:
            _check_tensor(tensor, end, where)
    ends = [*model.inputs, *model.outputs]
    operator = schema.OperatorT()
    operator.opcodeIndex = 0
    operator.inputs = list(range(len(model.inputs)))
    operator.outputs = list(range(len(model.inputs), len(ends)))
    operator.customOptions = list(_options(content))
    operator.customOptionsFormat = schema.CustomOptionsFormat.FLEXBUFFERS
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = TPU_OPERATION
    code.version = 1
    graph = schema.SubGraphT()
    graph.tensors = [_end(tensor) for tensor in ends]
    graph.inputs, graph.outputs = operator.inputs, operator.outputs
    graph.operators = [operator]
    result = schema.ModelT()
    result.version = 3
    result.operatorCodes = [code]
    result.subgraphs = [graph]
    result.buffers = [schema.BufferT()]
    result.description = "compiled for the SIMULATED Edge TPU of the clusteradm lab"
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(result.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _end(tensor: Tensor) -> schema.TensorT:
    """An input or output of the compiled model."""
    end = schema.TensorT()
    end.name, end.shape, end.type = tensor.name, list(tensor.shape), _TYPES[tensor.dtype]
    end.buffer = 0
    end.quantization = schema.QuantizationParametersT()
    if tensor.scale is not None:
        end.quantization.scale, end.quantization.zeroPoint = [tensor.scale], [tensor.zero_point]
    return end


def _check_tensor(tensor: Tensor, end: str, where: str) -> None:
    if tensor.dtype not in _TYPES:
        raise UsageError(
            f"{end} {tensor.name!r} is {tensor.dtype.upper()}: an Edge TPU takes int8 and uint8 only",
            where=where,
            next_step="quantise the model fully to 8 bits, its inputs and outputs included",
        )
    if tensor.dynamic or not tensor.shape or min(tensor.shape) < 1:
        raise UsageError(
            f"{end} {tensor.name!r} has the shape {list(tensor.shape)}: an Edge TPU needs fixed sizes",
            where=where,
            next_step="convert the model with a static batch size, 1 for instance",
        )


def _options(content: bytes) -> bytes:
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Key("1")
        builder.String("lab")
        builder.Key("4")
        builder.Blob(MAGIC + struct.pack("<Q", len(content)) + content)
    return bytes(builder.Finish())
