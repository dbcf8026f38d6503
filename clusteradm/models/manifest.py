"""Manifest of a model that is to be stored: made of the model's file and its labels."""

from __future__ import annotations

import hashlib
import re

from clusteradm.errors import UsageError
from clusteradm.models.tflite.model import Model
from clusteradm.node.spec.wire.manifest import FORMAT, NAME, Feed, Manifest


def build(
    name: str,
    data: bytes,
    model: Model,
    labels: tuple[str, ...],
    label_file: bytes | None,
    feed: Feed | None,
    task: str | None = None,
    threshold: float | None = None,
) -> Manifest:
    """The manifest of the model in `data`. `label_file`: labels.txt as it is stored; `feed`: how pictures are fed;
    `task`, `threshold`: how its outputs are read."""
    return Manifest(
        manifest_version=FORMAT,
        name=name,
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        labels=len(labels) or None,
        labels_sha256=hashlib.sha256(label_file).hexdigest() if label_file is not None else None,
        inputs=model.inputs,
        outputs=model.outputs,
        tpu_operations=model.tpu_operations,
        cpu_operations=dict(model.cpu_operations),
        min_runtime=model.min_runtime,
        compiler=next((package.compiler for package in model.packages), None),
        cached_bytes=sum(package.cached_bytes for package in model.packages),
        streamed_bytes=sum(package.streamed_bytes for package in model.packages),
        description=model.description,
        feed=feed,
        task=task,
        threshold=threshold,
        tokens=tuple(f"{token:016x}" for token in model.tokens),
    )


def check_name(name: str) -> str:
    """The name. Raises UsageError where it may not be a model's: it becomes a folder on every node."""
    if re.fullmatch(NAME, name):
        return name
    raise UsageError(
        f"{name!r} cannot be a model's name: letters, digits, _ and - only",
        next_step="for instance: --name mobilenet_v2",
    )
