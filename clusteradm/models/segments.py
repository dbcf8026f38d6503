"""Segments of a model that is to be stored, for a pipeline of Edge TPUs: read, checked against the whole model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from clusteradm import regular
from clusteradm.errors import UsageError
from clusteradm.models import advice
from clusteradm.models.tflite.inspect import inspect
from clusteradm.models.tflite.model import MOST_BYTES, Model
from clusteradm.node.spec import feeding
from clusteradm.node.spec.wire.manifest import MOST_SEGMENTS, SEGMENT, Segment, Tensor

_NAMED = re.compile(r"_segment_(\d+)_of_(\d+)")  # as edgetpu_compiler and `model split` call them


def read(paths: Sequence[Path], whole: Model) -> tuple[tuple[Segment, ...], dict[str, bytes], int | None]:
    """The segments of `whole` in these files; the files as a version holds them; the runtime that they need at least.

    In the order of the numbers in their names, if all have one, else as they are given. Raises UsageError for what is
    no model, or not a segment of this one.
    """
    bodies = [(regular.readable(path), regular.read(path, MOST_BYTES)) for path in ordered(paths)]
    models = [(where, inspect(data, where)) for where, data in bodies]
    for where, model in models:
        advice.check(model, where)
    check(whole, models)
    segments = tuple(
        Segment(
            sha256=hashlib.sha256(data).hexdigest(),
            bytes=len(data),
            inputs=model.inputs,
            outputs=model.outputs,
            tpu_operations=model.tpu_operations,
            cached_bytes=sum(package.cached_bytes for package in model.packages),
            streamed_bytes=sum(package.streamed_bytes for package in model.packages),
        )
        for (_, data), (_, model) in zip(bodies, models, strict=True)
    )
    files = {SEGMENT % (number, len(bodies)): data for number, (_, data) in enumerate(bodies)}
    runtimes = [model.min_runtime for _, model in models if model.min_runtime is not None]
    return segments, files, max(runtimes, default=None)


def ordered(paths: Sequence[Path]) -> list[Path]:
    """The files in the order in which they run. Raises UsageError where their names say that they are not all, or not
    of one split."""
    if not 2 <= len(paths) <= MOST_SEGMENTS:
        raise UsageError(f"--segments takes 2 to {MOST_SEGMENTS} files, and not {len(paths)}")
    found = [_NAMED.search(path.name) for path in paths]
    numbers = [(int(one[1]), int(one[2])) for one in found if one]
    if len(numbers) < len(paths):
        return list(paths)
    if sorted(numbers) != [(number, len(paths)) for number in range(len(paths))]:
        names = ", ".join(path.name for path in paths)
        raise UsageError(
            f"--segments takes all the segments of one split, each once, and not {names}",
            next_step=f"segments 0 to {numbers[0][1] - 1} of {numbers[0][1]}",
        )
    return [path for _, path in sorted(zip(numbers, paths, strict=True), key=lambda one: one[0])]


def check(whole: Model, segments: Sequence[tuple[str, Model]]) -> None:
    """Raise UsageError where these do not give in turn what the whole model gives, as far as their ends show."""
    first, model = segments[0]
    if _types(model.inputs) != _types(whole.inputs):
        raise UsageError(
            f"the first segment takes {_text(model.inputs)}, and the model {_text(whole.inputs)}",
            where=first,
            next_step="is it a segment of this model?",
        )
    known: dict[str, Tensor] = {}
    for where, model in segments:
        for tensor in model.inputs if where != first else ():
            if tensor.name not in known:
                what = f"it takes {tensor.name!r}, which no segment before it gives"
                raise UsageError(what, where=where, next_step="are all segments there, in their order?")
            _same(tensor, known[tensor.name], where, "an earlier segment gives")
        for tensor in model.outputs:
            if tensor.name in known:
                raise UsageError(f"it gives {tensor.name!r}, as an earlier segment does", where=where)
            if tensor.dtype not in feeding.TYPES or tensor.dynamic or not tensor.shape or min(tensor.shape) < 1:
                what = f"it gives {tensor.name!r}, {tensor}, which cannot be handed on"
                raise UsageError(what, where=where, next_step="split the model elsewhere, or run it as a whole")
            known[tensor.name] = tensor
    where = segments[-1][0]
    for tensor in whole.outputs:
        if tensor.name not in known:
            what = f"no segment gives the model's output {tensor.name!r}"
            raise UsageError(what, where=where, next_step="are they segments of this model?")
        _same(known[tensor.name], tensor, where, "the model gives")


def _same(one: Tensor, other: Tensor, where: str, who: str) -> None:
    if _types([one]) != _types([other]):
        raise UsageError(
            f"{one.name!r} is {one}, and {who} {other}", where=where, next_step="are they of one and the same split?"
        )


def _types(tensors: Sequence[Tensor]) -> list[tuple[object, ...]]:
    return [(one.name, one.shape, one.dtype, one.scale, one.zero_point) for one in tensors]


def _text(tensors: Sequence[Tensor]) -> str:
    return " and ".join(f"{one.name!r} ({one})" for one in tensors)
