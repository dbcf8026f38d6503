"""What a .tflite file is, read from its bytes alone: no runtime, no TPU."""

from __future__ import annotations

import io
import zipfile
from collections import Counter

from clusteradm.errors import UsageError
from clusteradm.models.manifest import Model, Package, Tensor
from clusteradm.models.tflite.flatbuffer import Malformed, Table, flex_entry
from clusteradm.models.tflite.schema import CUSTOM, IDENTIFIER, OPERATORS, TENSOR_TYPES

TPU_OPERATION = "edgetpu-custom-op"  # kCustomOp of libedgetpu's edgetpu.h
_PACKAGE_ENTRY = "4"  # of the custom options (libedgetpu tflite/custom_op_data.cc): the serialised package
_PACKAGE_IDENTIFIER = b"DWN1"  # libedgetpu executable/executable.fbs
_PARAMETER_CACHING = 1  # ExecutableType: its parameters stay on the chip

# A label file of more than this is no label file; it also bounds what a zip inside a model may unfold to.
_MOST_LABEL_BYTES = 4 << 20


class NotAModel(UsageError):
    """The file is no TensorFlow Lite model, or a damaged one."""


def inspect(data: bytes, name: str) -> Model:
    """Read the model in `data`. `name` is what errors call it.

    Raises NotAModel for anything that is not a complete TensorFlow Lite model with one subgraph or more.
    """
    if len(data) < 8 or data[4:8] != IDENTIFIER:
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
    """A word on what the file is instead."""
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
    return f"bytes 4 to 8 are {data[4:8]!r}, not {IDENTIFIER!r}"


def _model(data: bytes) -> Model:
    root = Table.root(data)
    codes = [_operator(code) for code in root.tables(1)]
    subgraphs = root.tables(2)
    if not subgraphs:
        raise Malformed("it has no subgraph")
    graph = subgraphs[0]
    tensors = graph.tables(0)
    inputs = tuple(_tensor(tensors, number) for number in graph.numbers(1, "i"))
    outputs = tuple(_tensor(tensors, number) for number in graph.numbers(2, "i"))
    if not inputs or not outputs:
        raise Malformed("its graph has no input or no output")
    # The weights: nothing here reads them, but a file that was cut short lacks some.
    for buffer in root.tables(4):
        buffer.check_raw(0)
    packages: list[Package] = []
    on_cpu: Counter[str] = Counter()
    on_tpu = 0
    for operation in graph.tables(3):
        number = operation.number(0, "<I")
        if number >= len(codes):
            raise Malformed(f"an operation has kind {number} of {len(codes)}")
        if codes[number] != TPU_OPERATION:
            on_cpu[codes[number]] += 1
            continue
        on_tpu += 1
        package = _package(operation.raw(5))
        if package:
            packages.append(package)
    return Model(
        inputs=inputs,
        outputs=outputs,
        tpu_operations=on_tpu,
        cpu_operations=dict(sorted(on_cpu.items())),
        packages=tuple(packages),
        description=root.text(3),
    )


def _operator(code: Table) -> str:
    # Numbers above 127 did not fit the byte of old files: the larger of the two fields holds (schema.fbs).
    number = max(code.number(0, "<b"), code.number(3, "<i"))
    if number == CUSTOM:
        return code.text(1) or "CUSTOM"
    return OPERATORS[number] if 0 <= number < len(OPERATORS) else f"operator {number}"


def _tensor(tensors: list[Table], number: int) -> Tensor:
    if not 0 <= number < len(tensors):
        raise Malformed(f"the graph names tensor {number} of {len(tensors)}")
    tensor = tensors[number]
    kind = tensor.number(1, "<b")
    signature = tensor.numbers(7, "i")
    quantisation = tensor.table(4)
    scales = quantisation.floats(2) if quantisation else []
    zeros = quantisation.numbers(3, "q") if quantisation else []
    return Tensor(
        name=tensor.text(3),
        shape=tuple(tensor.numbers(0, "i")),
        dtype=TENSOR_TYPES[kind] if 0 <= kind < len(TENSOR_TYPES) else f"type {kind}",
        # An input or output is quantised as a whole: one scale. Per-channel scales are for weights.
        scale=scales[0] if len(scales) == 1 else None,
        zero_point=zeros[0] if len(scales) == 1 and zeros else 0,
        dynamic=any(size < 0 for size in signature),
    )


def _package(options: bytes) -> Package | None:
    """What the Edge TPU's compiler wrote into an operation; None where it is not of that compiler's form."""
    body = flex_entry(options, _PACKAGE_ENTRY)
    if body is None or body[4:8] != _PACKAGE_IDENTIFIER:
        return None
    package = Table.root(body)
    cached = streamed = 0
    for serialised in Table.root(package.raw(1)).nested(0):
        executable = Table.root(serialised)
        size = len(executable.raw(6))
        if executable.number(13, "<h") == _PARAMETER_CACHING:
            cached += size
        else:
            streamed += size
    return Package(
        min_runtime=package.number(0, "<i"), compiler=package.text(4), cached_bytes=cached, streamed_bytes=streamed
    )


def embedded_labels(data: bytes) -> str | None:
    """The label file that lies in the model as in a zip archive (TensorFlow Lite metadata), if there is one."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [info for info in archive.infolist() if info.filename.endswith(".txt")]
            named = [info for info in names if "label" in info.filename.lower()] or (names if len(names) == 1 else [])
            if not named or named[0].file_size > _MOST_LABEL_BYTES:
                return None
            return archive.read(named[0]).decode("utf-8", "replace")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, OSError):
        # Weights may hold the bytes of a zip's end by chance: then there are no labels, and that is all.
        return None
