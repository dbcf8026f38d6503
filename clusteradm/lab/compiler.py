"""Compiler for the lab's simulated Edge TPU: `clusteradm lab compile-model`.

The part of the graph that an Edge TPU can compute becomes one `edgetpu-custom-op`, in the container format of the real
compiler (a FlexBuffer map); its package is the original model with that part alone, which the simulated device runs.
The rest stays on the CPU, as from the real compiler. A real Edge TPU refuses the result, and the lab's refuses what the
real compiler made. The model is read by `models`, which bounds its cost: the reader that is generated from the schema
believes every offset.
"""

from __future__ import annotations

import struct
from pathlib import Path

from flatbuffers import flexbuffers

from clusteradm import atomic, regular
from clusteradm.errors import UsageError
from clusteradm.lab.partition import Partition, partition
from clusteradm.lab.rewrite import Rewrite
from clusteradm.models import labels
from clusteradm.models.tflite.flatbuffer import Malformed
from clusteradm.models.tflite.inspect import TPU_OPERATION, inspect
from clusteradm.models.tflite.model import EIGHT_BITS, Model
from clusteradm.models.tflite.schema import LAB_PACKAGE

_MOST_BYTES = 256 << 20
_MOST_TENSORS = 32  # of an operation on the device: MAX_TENSORS of libedgetpu.c


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
    for tensor in model.inputs:
        if tensor.dynamic or not tensor.shape or min(tensor.shape) < 1:
            raise UsageError(
                f"input {tensor.name!r} has the shape {list(tensor.shape)}: an Edge TPU needs fixed sizes",
                where=where,
                next_step="convert the model with a static batch size, 1 for instance",
            )
    try:
        parts = partition(content)
        if not parts.outputs or not parts.inputs:
            raise _unmapped(model, where)
        if len(parts.inputs) + len(parts.outputs) > _MOST_TENSORS:
            raise UsageError(
                f"{len(parts.inputs) + len(parts.outputs)} tensors cross between the Edge TPU and the CPU; the lab's "
                f"device takes {_MOST_TENSORS}",
                where=where,
            )
        return _compiled(content, parts)
    except (Malformed, struct.error) as error:
        raise UsageError(f"the model cannot be compiled: {error}", where=where) from error


def _compiled(content: bytes, parts: Partition) -> bytes:
    """The model with one operation in the place of the Edge TPU's part; what the metadata names stays at its end."""
    part = Rewrite(content)
    part.set_operations([operation.place for operation in parts.tpu])
    part.set_ends(parts.inputs, parts.outputs)
    whole = Rewrite(content)
    code = whole.add_custom_code(TPU_OPERATION)
    mapped = whole.add_operation(code, parts.inputs, parts.outputs, _options(bytes(part.data)))
    before, after = ([operation.place for operation in side] for side in (parts.before, parts.after))
    whole.set_operations([*before, mapped, *after])
    return bytes(whole.data) + labels.archive(content)


def _unmapped(model: Model, where: str) -> UsageError:
    """Why nothing of the model can be mapped to the Edge TPU."""
    for end, tensors in (("input", model.inputs), ("output", model.outputs)):
        for tensor in tensors:
            if tensor.dtype not in EIGHT_BITS:
                return UsageError(
                    f"{end} {tensor.name!r} is {tensor.dtype.upper()}, and no operation between the ends works on int8 "
                    "or uint8, which an Edge TPU takes",
                    where=where,
                    next_step="quantise the model fully to 8 bits",
                )
    return UsageError("no operation of the model works on 8-bit numbers", where=where)


def _options(content: bytes) -> bytes:
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Key("1")
        builder.String("lab")
        builder.Key("4")
        builder.Blob(LAB_PACKAGE + struct.pack("<Q", len(content)) + content)
    return bytes(builder.Finish())
