"""TFLite models of a few operations, built by the schema: types, shapes, scales and metadata as a test says."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


@dataclass
class End:
    """A tensor. `data`: where it is of weights; `signature`: its shape with -1 where it is open."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    scale: float | None = None
    zero: int = 0
    name: str = "t"
    data: Any = None
    signature: tuple[int, ...] = ()


@dataclass
class Step:
    """An operation. `code`: its name, or that of a custom one; tensors by their numbers."""

    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    version: int = 1
    options: tuple[str, Any] | None = None
    custom: bytes = b""  # options of a custom one


def build(
    tensors: list[End],
    steps: list[Step],
    inputs: tuple[int, ...] = (0,),
    outputs: tuple[int, ...] = (-1,),
    *,
    metadata: bytes | None = None,
    files: dict[str, str] | None = None,
    more_graphs: int = 0,
) -> bytes:
    """The model; `files` are in a zip at its end."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, model.operatorCodes, graph.tensors, graph.operators = (
        3,
        [schema.BufferT()],
        [],
        [],
        [],
    )
    for end in tensors:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = end.name, list(end.shape), 0
        tensor.type = getattr(schema.TensorType, end.dtype.upper())
        if end.signature:
            tensor.shapeSignature = list(end.signature)
        if end.scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [end.scale], [end.zero]
        if end.data is not None:
            tensor.buffer = _buffer(model, np.asarray(end.data).tobytes())
        graph.tensors.append(tensor)
    for step in steps:
        operation, code = schema.OperatorT(), schema.OperatorCodeT()
        number = getattr(schema.BuiltinOperator, step.code, schema.BuiltinOperator.CUSTOM)
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), step.version
        if number == schema.BuiltinOperator.CUSTOM:
            code.customCode = step.code
        operation.opcodeIndex = len(model.operatorCodes)
        operation.inputs, operation.outputs = list(step.inputs), [number % len(tensors) for number in step.outputs]
        if step.options:
            operation.builtinOptionsType = getattr(schema.BuiltinOptions, step.options[0])
            operation.builtinOptions = step.options[1]
        if step.custom:
            operation.customOptions = np.frombuffer(step.custom, np.uint8)
        model.operatorCodes.append(code)
        graph.operators.append(operation)
    graph.inputs, graph.outputs = list(inputs), [number % len(tensors) for number in outputs]
    model.subgraphs = [graph] * (1 + more_graphs)
    if metadata is not None:
        entry = schema.MetadataT()
        entry.name, entry.buffer = "TFLITE_METADATA", _buffer(model, metadata)
        model.metadata = [entry]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    file = io.BytesIO(bytes(builder.Output()))
    if files:
        with zipfile.ZipFile(file, "a") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
    return file.getvalue()


def _buffer(model: Any, data: bytes) -> int:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(data, np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def picture_model(
    dtype: str = "uint8",
    scale: float | None = 1 / 255,
    zero: int = 0,
    shape: tuple[int, ...] = (1, 2, 2, 3),
    **more: Any,
) -> bytes:
    """A model that hands out its input as it is, in one row: what it was fed can be seen."""
    row = (1, int(np.prod(shape)))
    options = schema.ReshapeOptionsT()
    options.newShape = list(row)
    step = Step("RESHAPE", (0,), (1,), options=("ReshapeOptions", options))
    return build([End(shape, dtype, scale, zero, "in"), End(row, dtype, scale, zero, "out")], [step], **more)


def metadata(
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    content: int = 2,
    files: tuple[tuple[str, int, str], ...] = (),
) -> bytes:
    """TensorFlow Lite's metadata: of an input with this normalisation, of an output with files (name, type, locale)."""
    builder = flatbuffers.Builder(256)
    units = [_table(builder, {0: ("b", 1), 1: ("o", _normalization(builder, mean, std))})] if std else []
    about = _table(builder, {0: ("b", content), 1: ("o", _table(builder, {}))}) if content else 0
    one = _table(builder, {3: ("o", about), 4: ("o", _vector(builder, units))})
    named = []
    for name, kind, locale in files:
        text, where = builder.CreateString(name), builder.CreateString(locale) if locale else 0
        named.append(_table(builder, {0: ("o", text), 2: ("b", kind), 3: ("o", where)}))
    other = _table(builder, {6: ("o", _vector(builder, named))})
    graph = _table(builder, {2: ("o", _vector(builder, [one])), 3: ("o", _vector(builder, [other]))})
    builder.Finish(_table(builder, {3: ("o", _vector(builder, [graph]))}), b"M001")
    return bytes(builder.Output())


def _normalization(builder: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> int:
    vectors = {slot: ("o", builder.CreateNumpyVector(np.array(one, "<f4"))) for slot, one in enumerate((mean, std))}
    return _table(builder, vectors)


def _vector(builder: Any, tables: list[int]) -> int:
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    return int(builder.EndVector())


def _table(builder: Any, fields: dict[int, tuple[str, int]]) -> int:
    builder.StartObject(8)
    for slot, (kind, value) in fields.items():
        if kind == "b":
            builder.PrependInt8Slot(slot, value, 0)
        elif value:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return int(builder.EndObject())
