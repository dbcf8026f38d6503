"""Inspection of a .tflite file, from its bytes alone: no runtime, no TPU."""

from __future__ import annotations

import math
from collections import Counter

from clusteradm.errors import UsageError
from clusteradm.models.tflite import metadata, schema
from clusteradm.models.tflite.flatbuffer import Budget, Malformed, Table, flex_entry
from clusteradm.models.tflite.model import EIGHT_BITS, Model, Package
from clusteradm.node.spec import feeding
from clusteradm.node.spec.wire.job import InputForm
from clusteradm.node.spec.wire.manifest import Tensor

TPU_OPERATION = "edgetpu-custom-op"  # kCustomOp of libedgetpu's edgetpu.h
_PACKAGE_ENTRY = "4"  # of the custom options (libedgetpu tflite/custom_op_data.cc): the serialised package

# Bounds of what goes into a manifest and over the network; published models stay far below.
_MOST_ENDS = 256  # inputs, or outputs
_MOST_DIMENSIONS = 64
_MOST_NAME = 1024  # bytes of a tensor's or an operation's name
_MOST_DESCRIPTION = 4096
_CLOSE = 0.01  # how close to 0 and 1 the range of scores is


class NotAModel(UsageError):
    """The file is no TensorFlow Lite model, or a damaged one."""


def inspect(data: bytes, name: str) -> Model:
    """Read the model in `data`. `name`: of the file, for errors.

    Raises NotAModel for anything that is not a complete TensorFlow Lite model with one subgraph or more.
    """
    if len(data) < 8 or data[4:8] != schema.IDENTIFIER:
        raise NotAModel(
            f"not a TensorFlow Lite model ({_looks_like(data)})",
            where=name,
            next_step="clusteradm takes .tflite files; compile them for the Edge TPU with edgetpu_compiler first",
        )
    try:
        return _model(data)
    except Malformed as error:
        raise NotAModel(
            f"begins like a TensorFlow Lite model but is damaged or truncated: {error}",
            where=name,
            next_step=f"it has {len(data)} bytes; copy or convert it again",
        ) from error


def _looks_like(data: bytes) -> str:
    """The file's kind, by its first bytes."""
    if not data:
        return "it is empty"
    for start, kind in (
        (b"PK\3\4", "a zip archive"),
        (b"\x1f\x8b", "gzip data"),
        (b"\x89HDF", "an HDF5 file, as Keras writes"),
        (b"\x7fELF", "a program"),
    ):
        if data.startswith(start):
            return f"it is {kind}"
    if b"onnx" in data[:64].lower() or b"pytorch" in data[:64].lower():
        return "it looks like an ONNX model"
    return f"bytes 4 to 8 are {data[4:8]!r}, not {schema.IDENTIFIER!r}"


def _model(data: bytes) -> Model:
    budget = Budget(len(data))
    root = Table.root(memoryview(data), budget)
    codes = [operator_name(code) for code in root.tables(schema.Model.OPERATOR_CODES)]
    subgraphs = root.tables(schema.Model.SUBGRAPHS)
    if not subgraphs:
        raise Malformed("it has no subgraph")
    graph = subgraphs[0]
    tensors = graph.tables(schema.SubGraph.TENSORS)
    inputs = tuple(_tensor(tensors, number) for number in graph.numbers(schema.SubGraph.INPUTS, "i", _MOST_ENDS))
    outputs = tuple(_tensor(tensors, number) for number in graph.numbers(schema.SubGraph.OUTPUTS, "i", _MOST_ENDS))
    if not inputs or not outputs:
        raise Malformed("its graph has no input or no output")
    # The weights: nothing here reads them, but a file that was cut short lacks some.
    buffers = root.tables(schema.Model.BUFFERS)
    for buffer in buffers:
        buffer.check_raw(schema.Buffer.DATA)
    work = _Work(tensors, buffers)
    packages: list[Package] = []
    on_cpu: Counter[str] = Counter()
    on_tpu = 0
    for operation in graph.tables(schema.SubGraph.OPERATORS):
        number = operation.number(schema.Operator.OPCODE_INDEX, "<I")
        if number >= len(codes):
            raise Malformed(f"an operation has kind {number} of {len(codes)}")
        if codes[number] != TPU_OPERATION:
            on_cpu[codes[number]] += 1
            work.add(codes[number], operation)
            continue
        on_tpu += 1
        package = _package(operation.raw(schema.Operator.CUSTOM_OPTIONS), budget)
        if package:
            packages.append(package)
    return Model(
        inputs=inputs,
        outputs=outputs,
        tpu_operations=on_tpu,
        cpu_operations=dict(sorted(on_cpu.items())),
        packages=tuple(packages),
        subgraphs=len(subgraphs),
        description=_description(root),
        signatures=tuple(
            tuple(tensors[number].numbers(schema.Tensor.SHAPE_SIGNATURE, "i", _MOST_DIMENSIONS))
            for number in graph.numbers(schema.SubGraph.INPUTS, "i", _MOST_ENDS)
        ),
        mapped=work.mapped,
        work=dict(sorted(work.kinds.items())),
        hybrid=work.hybrid,
        operators=_operators(subgraphs, codes),
        scores=_are_scores(outputs[0]) or work.is_scores(graph.numbers(schema.SubGraph.OUTPUTS, "i", _MOST_ENDS)[0]),
        metadata=_metadata(root, buffers, budget),
    )


class _Work:
    """The types of numbers that the operations on the CPU work on."""

    def __init__(self, tensors: list[Table], buffers: list[Table]) -> None:
        self.mapped = 0
        self.kinds: Counter[str] = Counter()
        self.hybrid = False
        self._types = [type_of(tensor) for tensor in tensors]
        self._weights = [_has_data(tensor, buffers) for tensor in tensors]
        self._made: dict[int, tuple[str, int]] = {}  # tensor -> the operation that writes it, and its first input

    def add(self, name: str, operation: Table) -> None:
        """Count an operation. Raises Malformed."""
        takes, gives = (
            self._numbers(operation, schema.Operator.INPUTS),
            self._numbers(operation, schema.Operator.OUTPUTS),
        )
        inputs = [self._types[number] for number in takes if not self._weights[number]]
        outputs = [self._types[number] for number in gives]
        self.mapped += bool(inputs and outputs) and all(kind in EIGHT_BITS for kind in (*inputs, *outputs))
        self.kinds.update(outputs[:1])
        weights = {self._types[number] for number in takes if self._weights[number]}
        self.hybrid = self.hybrid or (
            "float32" in outputs and bool(inputs) and "int8" in weights and name != "DEQUANTIZE"
        )
        for number in gives:
            self._made[number] = name, takes[0] if takes else -1

    def is_scores(self, number: int) -> bool:
        """Whether a tensor is of scores: what a softmax or a sigmoid writes, but for its form."""
        for _ in range(8):
            name, before = self._made.get(number, ("", -1))
            if name not in ("RESHAPE", "SQUEEZE", "QUANTIZE", "DEQUANTIZE", "CAST"):
                return name in ("SOFTMAX", "LOGISTIC", "LOG_SOFTMAX")
            number = before
        return False

    def _numbers(self, operation: Table, slot: int) -> list[int]:
        """The tensors that an operation reads or writes; -1 is an input that is left out."""
        numbers = [number for number in operation.numbers(slot, "i") if number >= 0]
        if any(number >= len(self._types) for number in numbers):
            raise Malformed(f"an operation names a tensor of {len(self._types)} that is not there")
        return numbers


def _operators(subgraphs: list[Table], codes: list[str]) -> frozenset[str]:
    """The kinds of operations of all subgraphs."""
    found = {
        operation.number(schema.Operator.OPCODE_INDEX, "<I")
        for graph in subgraphs
        for operation in graph.tables(schema.SubGraph.OPERATORS)
    }
    return frozenset(code for number, code in enumerate(codes) if number in found)


def _are_scores(tensor: Tensor) -> bool:
    limits = feeding.bounds(InputForm(tensor.dtype, tensor.shape, tensor.scale, tensor.zero_point))
    return limits is not None and abs(limits[0]) < _CLOSE and abs(limits[1] - 1) < _CLOSE


def _has_data(tensor: Table, buffers: list[Table]) -> bool:
    number = tensor.number(schema.Tensor.BUFFER, "<I")
    return number < len(buffers) and len(buffers[number].raw(schema.Buffer.DATA)) > 0


def _metadata(root: Table, buffers: list[Table], budget: Budget) -> metadata.Metadata | None:
    """TensorFlow Lite's metadata; None where there is none, or where it is damaged: the model works without."""
    for entry in root.tables(schema.Model.METADATA):
        number = entry.number(schema.Metadata.BUFFER, "<I")
        if entry.raw(schema.Metadata.NAME) == metadata.BUFFER.encode() and number < len(buffers):
            try:
                return metadata.read(buffers[number].raw(schema.Buffer.DATA), budget)
            except Malformed:
                return None
    return None


def _description(root: Table) -> str:
    """The model's own words about itself: shortened, as nothing depends on them."""
    data = bytes(root.raw(schema.Model.DESCRIPTION)[: _MOST_DESCRIPTION + 1])
    text = data[:_MOST_DESCRIPTION].decode("utf-8", "replace")
    return text if len(data) <= _MOST_DESCRIPTION else text + " ..."


def operator_name(code: Table) -> str:
    """The kind of operation that an operator code is of: the builtin's name, or the custom code."""
    # Numbers above 127 did not fit the byte of old files: the larger of the two fields holds (schema.fbs).
    old = code.number(schema.OperatorCode.DEPRECATED_BUILTIN_CODE, "<b")
    number = max(old, code.number(schema.OperatorCode.BUILTIN_CODE, "<i"))
    if number == schema.CUSTOM:
        return code.text(schema.OperatorCode.CUSTOM_CODE, _MOST_NAME) or "CUSTOM"
    return schema.OPERATORS[number] if 0 <= number < len(schema.OPERATORS) else f"operator {number}"


def _tensor(tensors: list[Table], number: int) -> Tensor:
    if not 0 <= number < len(tensors):
        raise Malformed(f"the graph names tensor {number} of {len(tensors)}")
    tensor = tensors[number]
    signature = tensor.numbers(schema.Tensor.SHAPE_SIGNATURE, "i", _MOST_DIMENSIONS)
    quantisation = tensor.table(schema.Tensor.QUANTIZATION)
    scales = quantisation.floats(schema.Quantization.SCALE) if quantisation else []
    zeros = quantisation.numbers(schema.Quantization.ZERO_POINT, "q") if quantisation else []
    # An input or output is quantised as a whole: one scale. Per-channel scales are for weights.
    whole = len(scales) == 1
    if whole and (not math.isfinite(scales[0]) or abs(next(iter(zeros), 0)) >> 31):
        raise Malformed("a tensor is quantised by a number without bounds")
    return Tensor(
        name=tensor.text(schema.Tensor.NAME, _MOST_NAME),
        shape=tuple(tensor.numbers(schema.Tensor.SHAPE, "i", _MOST_DIMENSIONS)),
        dtype=type_of(tensor),
        scale=scales[0] if whole else None,
        zero_point=zeros[0] if whole and zeros else 0,
        dynamic=any(size < 0 for size in signature),
    )


def type_of(tensor: Table) -> str:
    """A tensor's type, by NumPy's name."""
    kind = tensor.number(schema.Tensor.TYPE, "<b")
    return schema.TENSOR_TYPES[kind] if 0 <= kind < len(schema.TENSOR_TYPES) else f"type {kind}"


def _package(options: memoryview, budget: Budget) -> Package | None:
    """The package in an operation's custom options; None where they are not of the Edge TPU compiler's form."""
    body = flex_entry(options, _PACKAGE_ENTRY, budget)
    if body is not None and body[:8] == schema.LAB_PACKAGE:
        kept = min(len(body) - 16, schema.CHIP_BYTES)
        return Package(schema.LAB_RUNTIME, schema.LAB_COMPILER, kept, len(body) - 16 - kept)
    if body is None or body[4:8] != schema.PACKAGE_IDENTIFIER:
        return None
    package = Table.root(body, budget)
    cached = streamed = token = 0
    executables = Table.root(package.raw(schema.Package.SERIALIZED_MULTI_EXECUTABLE), budget)
    for serialised in executables.nested(schema.MultiExecutable.SERIALIZED_EXECUTABLES):
        executable = Table.root(serialised, budget)
        size = len(executable.raw(schema.Executable.PARAMETERS))
        if executable.number(schema.Executable.TYPE, "<h") == schema.PARAMETER_CACHING:
            cached += size
            token = token or executable.number(schema.Executable.PARAMETER_CACHING_TOKEN, "<Q")
        else:
            streamed += size
    return Package(
        min_runtime=package.number(schema.Package.MIN_RUNTIME_VERSION, "<i"),
        compiler=package.text(schema.Package.COMPILER_VERSION, _MOST_NAME),
        cached_bytes=cached,
        streamed_bytes=streamed,
        token=token or None,
    )
