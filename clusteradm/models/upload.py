"""Model ready to be stored: read from its file, checked, with its labels and the warnings for its owner."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clusteradm import regular
from clusteradm.errors import UsageError
from clusteradm.models import advice, reading, segments
from clusteradm.models import labels as label_files
from clusteradm.models.inspection.task import Task
from clusteradm.models.inspection.task import task as task_of
from clusteradm.models.manifest import build, check_name
from clusteradm.models.tflite import graph
from clusteradm.models.tflite.flatbuffer import Malformed
from clusteradm.models.tflite.inspect import NotAModel, inspect
from clusteradm.models.tflite.model import MOST_BYTES, Model
from clusteradm.node.spec.wire.manifest import LABELS, MODEL, TASKS, Manifest

# The head lists no larger one (64 KiB).
MOST_MANIFEST = 60 << 10


@dataclass(frozen=True)
class Upload:
    """A model ready to be stored: its manifest, its files, and warnings for its owner. `task`: what it is made for, and
    what says so. Both are None for another kind of servable."""

    manifest: Manifest
    model: Model | None
    task: Task | None
    files: dict[str, bytes]
    warnings: tuple[str, ...]

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """The sha256 of each file."""
        return {name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()}


def prepare(
    path: Path,
    name: str,
    labels: Path | None = None,
    *,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    layout: str | None = None,
    fit: str | None = None,
    rate: int | None = None,
    task: str | None = None,
    threshold: float | None = None,
    called: str = "",
    sha256: str = "",
    parts: Sequence[Path] = (),
) -> Upload:
    """Read and check a model file; no connection is made.

    Raises UsageError for what is no model (NotAModel), no name, cannot be read, or cannot be run by any node. The
    labels are those of `labels`, else those inside the model itself; they are stored one per class. `mean`, `std`,
    `layout`, `fit`, `rate`: how pictures and sound are fed, where nothing in the model says it, or wrongly. `task`:
    what it is made for, if not what it seems; `threshold`: the least score of an answer. `called`: the file's name
    where it comes from, if not that of its path; `sha256`: which the bytes that are stored must have; `parts`: files
    of its segments, for a pipeline.
    """
    check_name(name)
    data = regular.read(path, MOST_BYTES)
    where = called or regular.readable(path)
    digest = hashlib.sha256(data).hexdigest() if sha256 else ""
    if digest != sha256:
        raise UsageError(f"it has sha256 {digest}, not {sha256}", where=where, next_step="is it the right file?")
    model = inspect(data, where)
    advice.check(model, where)
    seen = _task(data, model, where)
    made_for = seen if task is None else Task(task, "as --task says")
    problems = list(reading.task_problems(model, made_for, seen))
    reading.check_threshold(model, made_for.kind, threshold)
    found = label_file(labels, model.classes) if labels is not None else None
    if found is None:
        found = labels_inside(data, model, problems)
    files = {MODEL: data}
    if found:
        files[LABELS] = label_files.render(found)
    kept = made_for.kind if made_for.kind in TASKS else None
    feed = advice.feed(model, mean, std, layout, fit, rate)
    problems += reading.reading_problems(model, kept, feed)
    manifest = build(name, data, model, found, files.get(LABELS), feed, kept, threshold)
    if parts:
        cut, more, runtime = segments.read(parts, model)
        files.update(more)
        manifest = replace(
            manifest, segments=cut, min_runtime=max(filter(None, (runtime, model.min_runtime)), default=None)
        )
    size = len(json.dumps(manifest.to_json(), indent=2))
    if size > MOST_MANIFEST:
        raise NotAModel(
            f"its inputs, outputs and operations take {size:,} bytes to describe, more than {MOST_MANIFEST:,}",
            where=where,
            next_step="no usual model has so many of them: is it the right file?",
        )
    return Upload(manifest, model, made_for, files, (*advice.warnings(manifest, model, called or path.name), *problems))


def _task(data: bytes, model: Model, where: str) -> Task:
    """What a model seems made for. Raises NotAModel for one that is damaged where only this looks."""
    try:
        return task_of(model, graph.read(data))
    except Malformed as error:
        raise NotAModel(
            f"begins like a TensorFlow Lite model but is damaged or truncated: {error}",
            where=where,
            next_step=f"it has {len(data)} bytes; copy or convert it again",
        ) from error


def label_file(path: Path, classes: int | None) -> tuple[str, ...]:
    """The labels of a file that the user names. Raises UsageError."""
    where = regular.readable(path)
    try:
        text = regular.read(path, label_files.MOST_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError("no text in UTF-8", where=where, next_step="one label per line") from error
    found = label_files.parse(text, classes, where)
    if not found:
        raise UsageError("no label in it", where=where, next_step="one label per line")
    return found


def labels_inside(data: bytes, model: Model, problems: list[str]) -> tuple[str, ...]:
    """The labels inside a model; () where it has none, or none that can be its own: then `problems` says so."""
    text = label_files.embedded(data, model.metadata.labels if model.metadata else None)
    if text is None:
        return ()
    try:
        return label_files.parse(text, model.classes)
    except UsageError as error:
        problems.append(f"the labels inside it are left out: {error.what}; give others by --labels")
        return ()
