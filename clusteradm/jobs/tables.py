"""Results as a table: a row for each answer, and one for an input without any; columns by the task."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from clusteradm.jobs.similar import Query
from clusteradm.node.spec.wire.manifest import CLASSIFIER, DETECTOR, EMBEDDING, POSE, SEGMENTATION
from clusteradm.node.spec.wire.result import Result

TEXT, WHOLE, REAL, REALS = "text", "whole", "real", "reals"

_FIRST = {"input": TEXT, "index": WHOLE, "error": TEXT}
_LABELLED = {"class": WHOLE, "label": TEXT}
_BOX = ("xmin", "ymin", "xmax", "ymax")
_COLUMNS: dict[str, dict[str, str]] = {
    CLASSIFIER: {**_LABELLED, "score": REAL},
    DETECTOR: {**_LABELLED, "score": REAL, **dict.fromkeys(_BOX, WHOLE)},
    SEGMENTATION: {**_LABELLED, "share": REAL, "map": TEXT},
    POSE: {"pose": WHOLE, "pose_score": REAL, "keypoint": TEXT, "x": REAL, "y": REAL, "score": REAL},
    EMBEDDING: {"embedding": REALS},
}
_RAW = {"output": TEXT, "values": TEXT, "file": TEXT}


@dataclass(frozen=True)
class Table:
    """`columns`: name to TEXT, WHOLE, REAL or REALS; `rows`: each as long as there are columns, None for no value."""

    columns: dict[str, str]
    rows: Iterator[list[Any]]


def table(task: str | None, results: Iterable[Result], query: Query | None = None) -> Table:
    """The table of a job's results; `task`: that of its model, None and RAW for whole outputs; `query`: to which their
    similarity has a column."""
    own = _COLUMNS.get(task or "", _RAW)
    first = {**_FIRST, **({} if query is None else {"similarity": REAL})}
    return Table({**first, **own}, (row for result in results for row in _rows(result, list(own), query)))


def _rows(result: Result, names: list[str], query: Query | None) -> Iterator[list[Any]]:
    first = [result.input, result.index, result.error]
    if query is not None:
        first.append(query.of(result).similarity)
    found = False
    for answer in _answers(result):
        found = True
        yield first + [answer.get(name) for name in names]
    if not found:
        yield first + [None] * len(names)


def _answers(result: Result) -> Iterator[dict[str, Any]]:
    """The values of each answer, by column."""
    yield from result.top
    for one in result.objects:
        yield {**one, **dict(zip(_BOX, one["box"], strict=True))}
    for one in result.segments:
        yield {**one, "map": result.map.file if result.map else None}
    for number, pose in enumerate(result.poses):
        for point in pose["keypoints"]:
            yield {**point, "pose": number, "pose_score": pose["score"], "keypoint": point.get("name")}
    if result.embedding:
        yield {"embedding": list(result.embedding)}
    for tensor in result.outputs:
        values = None if tensor.file is not None else json.dumps(tensor.values)
        yield {"output": tensor.name, "values": values, "file": tensor.file}
