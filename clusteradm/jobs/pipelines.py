"""Pipelines of a job, from the admin side: the segments of its model, and the slots that no pipeline has."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Sequence

from clusteradm.errors import UsageError
from clusteradm.models import advice
from clusteradm.models.repository import Stored
from clusteradm.node.spec import pipelines
from clusteradm.node.spec.wire.job import Slot
from clusteradm.node.spec.wire.manifest import MODEL, MOST_SEGMENTS, SEGMENT, Manifest
from clusteradm.node.spec.wire.pipeline import Pipeline, SegmentFile


def find(stored: Stored, manifest: Manifest, count: int, *, cpu: bool, head: str) -> Pipeline:
    """The segments of a version, for pipelines of `count` stages. Raises UsageError where it has none, or they cannot
    run on TPUs, or with `cpu` on CPUs."""
    if not 2 <= count <= MOST_SEGMENTS:
        raise UsageError(
            f"--pipeline {count}: a pipeline has 2 to {MOST_SEGMENTS} stages",
            next_step="leave --pipeline out to run the whole model on each TPU",
        )
    version, segments = f"{stored.name} version {stored.version}", manifest.segments
    if len(segments) != count:
        have = f"is split into {len(segments)} segments" if segments else "holds no segments"
        path, compiled = f"{stored.path}/{MODEL}", manifest.tpu_operations > 0
        command = split_command(stored.name, path, count, head, compiled=compiled)
        also = f"--pipeline {len(segments)} runs those; " if segments else ""
        raise UsageError(
            f"--pipeline {count}: {version} {have}",
            next_step=f"{also}to split it into {count}:\n{command}",
        )
    if advice.batch(manifest) > 1:
        raise UsageError(f"--pipeline: {version} takes {advice.batch(manifest)} inputs at once, and a pipeline one")
    on_tpu = [one.tpu_operations > 0 for one in segments]
    if not any(on_tpu) and not cpu:
        raise UsageError(
            f"nothing in the segments of {version} runs on the Edge TPU: they were not compiled",
            next_step="compile each with edgetpu_compiler and deploy those, or use the CPUs: --cpu",
        )
    if any(on_tpu) and cpu:
        raise UsageError(
            f"the segments of {version} are compiled for the Edge TPU, which a CPU cannot run",
            next_step="deploy the segments before they were compiled, under another name",
        )
    stages = (
        SegmentFile(f"{stored.path}/{SEGMENT % (number, count)}", one.sha256, one.inputs, one.outputs)
        for number, one in enumerate(segments)
    )
    return Pipeline(tuple(stages), manifest.outputs, manifest.tpu_operations > 0)


def split_command(
    name: str, path: str, count: int, head: str, *, compiled: bool = False, host: str | None = None
) -> str:
    """The commands that make other segments of the model at `path` on the head. `compiled`: that it is, and that its
    owner has what it was made of; `host`: whose CPU is to balance them."""
    balance = f" --balance latency --host {host}" if host else ""
    if compiled:
        split = f"  clusteradm model split {name}.tflite --segments {count}{balance}"
        return f"{split}\n  ({name}.tflite: what edgetpu_compiler was given)"
    fetch = f"  clusteradm pull --limit {head} {shlex.quote(path)} ."
    split = f"  clusteradm model split {head}/{posixpath.basename(path)} --segments {count}{balance}"
    return f"{fetch}\n{split}\n  and what that prints, with --name {name}"


def check(slots: Sequence[Slot], count: int, most: int | None, *, cpu: bool) -> None:
    """Raise UsageError where there are too few slots for a pipeline."""
    what = "host" if cpu else "TPU"
    if most is not None and most < count:
        raise UsageError(f"--ranks {most}: a pipeline of {count} stages takes {count} {what}s")
    free = sum(len(slot.tpus) for slot in slots)
    if free < count:
        have = "is" if free == 1 else "are"
        raise UsageError(
            f"--pipeline {count}: only {free} {what}{'' if free == 1 else 's'} {have} healthy and free",
            next_step="clusteradm health says what is wrong, clusteradm job list what other jobs have",
        )


def left_over(slots: Sequence[Slot], count: int, most: int | None) -> tuple[str, ...]:
    """The slots that no pipeline has, as their number is no multiple of a pipeline's stages."""
    if most is not None:
        return ()
    rest = pipelines.left_over(slots, pipelines.place(slots, count))
    return tuple(f"{host} {address or 'CPU'}" for host, address in rest)
