"""Compiler for the lab's simulated Edge TPU: `clusteradm lab compile-model`.

The whole graph becomes one `edgetpu-custom-op`, in the container format of the real compiler (a FlexBuffer map); its
package is the original model, which the simulated device runs. A real Edge TPU refuses the result, and the lab's
refuses what the real compiler made.
"""

from __future__ import annotations

import struct
from pathlib import Path

import flatbuffers
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from clusteradm import atomic
from clusteradm.errors import UsageError

CUSTOM_OP = "edgetpu-custom-op"
MAGIC = b"LABTPU1\0"
IDENTIFIER = b"TFL3"


def compile_file(source: Path, target: Path) -> None:
    """Compile `source` to `target`, atomically. Raises UsageError for a model that cannot be compiled."""
    try:
        content = source.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the model: {error.strerror}", where=str(source)) from error
    compiled = compile_model(content, str(source))
    try:
        atomic.write(target, compiled)
    except OSError as error:
        raise UsageError(f"cannot write the compiled model: {error.strerror}", where=str(target)) from error


def compile_model(content: bytes, where: str) -> bytes:
    """The compiled form of a TFLite model; UsageError, naming `where`, for one that an Edge TPU could not run."""
    model = _read(content, where)
    graph = model.subgraphs[0]
    for end, tensors in (("input", graph.inputs), ("output", graph.outputs)):
        for index in tensors:
            _check_tensor(graph.tensors[index], end, where)
    ends = [*graph.inputs, *graph.outputs]
    tensors = [graph.tensors[index] for index in ends]
    for tensor in tensors:
        tensor.buffer = 0
    operator = schema.OperatorT()
    operator.opcodeIndex = 0
    operator.inputs = list(range(len(graph.inputs)))
    operator.outputs = list(range(len(graph.inputs), len(ends)))
    operator.customOptions = list(_options(content))
    operator.customOptionsFormat = schema.CustomOptionsFormat.FLEXBUFFERS
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = CUSTOM_OP
    code.version = 1
    compiled_graph = schema.SubGraphT()
    compiled_graph.name = graph.name
    compiled_graph.tensors = tensors
    compiled_graph.inputs, compiled_graph.outputs = operator.inputs, operator.outputs
    compiled_graph.operators = [operator]
    result = schema.ModelT()
    result.version = 3
    result.operatorCodes = [code]
    result.subgraphs = [compiled_graph]
    result.buffers = [schema.BufferT()]
    result.description = "compiled for the SIMULATED Edge TPU of the clusteradm lab"
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(result.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _read(content: bytes, where: str) -> schema.ModelT:
    if content[4:8] != IDENTIFIER:
        raise UsageError("this is not a TFLite model (its identifier is missing)", where=where)
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    # The generated reader checks nothing: a broken file raises any of these.
    except (struct.error, IndexError, ValueError, TypeError, UnicodeDecodeError, AttributeError) as error:
        raise UsageError("this TFLite model is damaged or cut short", where=where) from error
    if not model.subgraphs or not model.subgraphs[0].operators:
        raise UsageError("this TFLite model has no operators", where=where)
    if len(model.subgraphs) > 1:
        raise UsageError("the model has control flow (several subgraphs), which an Edge TPU cannot run", where=where)
    if any(_custom(code) == CUSTOM_OP for code in model.operatorCodes):
        raise UsageError(
            "the model is compiled for an Edge TPU already", where=where, next_step="compile the model it was made of"
        )
    return model


def _custom(code: schema.OperatorCodeT) -> str:
    name = code.customCode or b""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _check_tensor(tensor: schema.TensorT, end: str, where: str) -> None:
    name = (tensor.name or b"?").decode("utf-8", "replace")
    if tensor.type not in (schema.TensorType.INT8, schema.TensorType.UINT8):
        kinds = {value: kind for kind, value in vars(schema.TensorType).items() if isinstance(value, int)}
        raise UsageError(
            f"{end} {name!r} is {kinds.get(tensor.type, tensor.type)}: an Edge TPU takes int8 and uint8 only",
            where=where,
            next_step="quantise the model fully to 8 bits, its inputs and outputs included",
        )
    signature = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
    if any(size < 1 for size in signature) or not len(signature):
        raise UsageError(
            f"{end} {name!r} has the shape {[int(size) for size in signature]}: an Edge TPU needs fixed sizes",
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
