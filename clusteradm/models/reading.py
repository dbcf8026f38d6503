"""How a model's outputs are read: what the user says of it, compared with what the model is."""

from __future__ import annotations

import math
from collections.abc import Iterator

from clusteradm.errors import UsageError
from clusteradm.models.inspection.task import Task
from clusteradm.models.tflite.model import Model
from clusteradm.node.spec import reading
from clusteradm.node.spec.wire.manifest import CLASSIFIER, EMBEDDING, SEGMENTATION, TASKS, Feed


def task_problems(model: Model, task: Task, seen: Task) -> Iterator[str]:
    """What speaks against a task that the user has named. Raises UsageError where it cannot be the model's."""
    if task.kind == CLASSIFIER and model.classes is None:
        outputs = " and ".join(str(tensor) for tensor in model.outputs[:4])
        raise UsageError(
            f"--task {CLASSIFIER}: its output is no row of one score for each class ({outputs})",
            next_step=f"leave --task out, or name another one: {', '.join(TASKS)}",
        )
    if task.kind != seen.kind and seen.kind in TASKS:
        yield f"--task {task.kind}: it looks like a {seen.kind}, as {seen.why}"


def reading_problems(model: Model, task: str | None, feed: Feed | None) -> Iterator[str]:
    """Why the outputs cannot be read as the task says."""
    outputs = [reading.Output(tensor.name, tensor.shape, tensor.dtype) for tensor in model.outputs]
    if len(model.inputs) == 1 and all(tensor.shape for tensor in model.outputs):
        try:
            reading.find(task, model.inputs[0].shape, outputs, feed)
        except reading.NoReading as error:
            yield f"infer gives its whole outputs: {error}"


def check_threshold(model: Model, task: str, threshold: float | None) -> None:
    """Raise UsageError for a threshold that no score can have, or that nothing of the model's can have."""
    if threshold is None:
        return
    if not math.isfinite(threshold):
        raise UsageError("--threshold is a number: the least score of an answer, for instance 0.4")
    if task in (SEGMENTATION, EMBEDDING):
        raise UsageError(f"--threshold: a model for {task} has no scores of answers")
    if task == CLASSIFIER and model.scores and not 0 <= threshold <= 1:
        raise UsageError(f"--threshold {threshold:g}: the scores of this model are from 0 to 1")
