"""Report on a .tflite file: all that its bytes say, as one document. Nothing is run."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from clusteradm import regular
from clusteradm.errors import UsageError
from clusteradm.models import advice, edgetpu_compiler, labels, zoo
from clusteradm.models.inspection import cost, edge_tpu
from clusteradm.models.inspection.edge_tpu import Forecast, Obstacle
from clusteradm.models.inspection.task import SEGMENT, UNKNOWN, Task, task
from clusteradm.models.tflite import graph
from clusteradm.models.tflite.flatbuffer import Malformed
from clusteradm.models.tflite.inspect import NotAModel, inspect
from clusteradm.models.tflite.model import MOST_BYTES, Model
from clusteradm.models.zoo import Latency
from clusteradm.node.spec import feeding
from clusteradm.node.spec.wire.manifest import Feed

_SEGMENT = re.compile(r"_segment_(\d+)_of_(\d+)")  # how edgetpu_compiler names the files of a pipeline


@dataclass(frozen=True)
class Labels:
    """Labels inside a model: their number, the first few, and why they are not used, where they do not fit."""

    count: int
    first: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class Report:
    """What a file is. `operations`: kinds of all subgraphs, with their numbers; `feed`: how pictures are fed, in words.

    `macs` and `parameters` are of the operations that the file shows: a compiled part has neither. `shares`: files of
    the same run that were compiled together with this one.
    """

    path: str
    bytes: int
    sha256: str
    model: Model
    operations: dict[str, int]
    parameters: int
    macs: int
    task: Task
    feed: str
    labels: Labels | None
    obstacles: tuple[Obstacle, ...]
    forecast: Forecast | None
    latency: Latency | None
    shares: tuple[str, ...] = ()

    @property
    def compiled(self) -> bool:
        """Whether a part of it runs on an Edge TPU."""
        return self.model.tpu_operations > 0

    @property
    def tokens(self) -> tuple[int, ...]:
        """Tokens of co-compilation, each once."""
        return self.model.tokens

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values. A token is in hexadecimal digits: JSON's numbers are too short for it."""
        model, about = self.model, self.model.metadata
        document: dict[str, Any] = {
            "file": self.path,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "description": model.description,
            "inputs": [asdict(tensor) for tensor in model.inputs],
            "outputs": [asdict(tensor) for tensor in model.outputs],
            "normalisation": {"mean": list(about.mean), "std": list(about.std)} if about and about.std else None,
            "feed": self.feed,
            "labels": asdict(self.labels) if self.labels else None,
            "task": asdict(self.task),
            "operations": self.operations,
            "subgraphs": model.subgraphs,
            "parameters": self.parameters,
            "macs": self.macs,
            "compiled": None,
            "forecast": asdict(self.forecast) if self.forecast else None,
            "obstacles": [{**asdict(one), "operations": dict(one.operations)} for one in self.obstacles],
            "published": asdict(self.latency) if self.latency else None,
        }
        if self.compiled:
            document["compiled"] = {
                "operations": model.tpu_operations,
                "cpu_operations": dict(model.cpu_operations),
                "compilers": list(dict.fromkeys(one.compiler for one in model.packages)),
                "min_runtime": model.min_runtime,
                "cached_bytes": sum(one.cached_bytes for one in model.packages),
                "streamed_bytes": sum(one.streamed_bytes for one in model.packages),
                "tokens": [f"{token:016x}" for token in self.tokens],
                "shares_with": list(self.shares),
            }
        return document


def reports(paths: Sequence[Path]) -> list[Report]:
    """A report on each file. Raises UsageError for one that cannot be read or is no model."""
    found = [report(regular.read(path, MOST_BYTES), regular.readable(path)) for path in paths]
    return [_with_shares(one, found) for one in found]


def _with_shares(one: Report, all_of_them: Sequence[Report]) -> Report:
    tokens = set(one.tokens)
    shares = tuple(other.path for other in all_of_them if other is not one and tokens.intersection(other.tokens))
    return replace(one, shares=shares)


def report(data: bytes, path: str) -> Report:
    """The report on a model in memory. `path`: its file's. Raises NotAModel."""
    model = inspect(data, path)
    try:
        graphs = graph.read(data)
        obstacles = tuple(replace(one, mend=_mend(one.mend, path)) for one in edge_tpu.obstacles(model, graphs))
        compiled = bool(model.tpu_operations)
        return Report(
            path=path,
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            model=model,
            operations=dict(Counter(one.name for each in graphs for one in each.operations).most_common()),
            parameters=cost.parameters(graphs),
            macs=cost.macs(graphs[0]),
            task=_task(model, graphs, path),
            feed=_feed(model),
            labels=_labels(data, model),
            obstacles=obstacles,
            forecast=None if compiled else edge_tpu.forecast(graphs[0]),
            latency=zoo.latency(Path(path).name, model.inputs[0].shape),
        )
    except Malformed as error:
        raise NotAModel(
            f"begins like a TensorFlow Lite model but is damaged or truncated: {error}",
            where=path,
            next_step=f"it has {len(data)} bytes; copy or convert it again",
        ) from error


def _mend(text: str, path: str) -> str:
    """A remedy with the file that is inspected."""
    if text == edge_tpu.COMPILE:
        return edgetpu_compiler.command(Path(path))
    return text.replace(edge_tpu.FILE, shlex.quote(path))


def _task(model: Model, graphs: tuple[graph.Graph, ...], path: str) -> Task:
    found = task(model, graphs)
    segment = _SEGMENT.search(path)
    if segment and found.kind == UNKNOWN:
        return Task(SEGMENT, f"segment {segment[1]} of {segment[2]} of a pipeline, by the file's name")
    return found


def _feed(model: Model) -> str:
    """How pictures are fed to its first input, in words."""
    try:
        rule = feeding.rule(advice.form(model.inputs[0], advice.feed(model, (), (), None) or Feed()))
    except feeding.NoRule as error:
        return str(error)
    except UsageError as error:
        return error.what
    channels = ", channels first" if rule.picture.layout == feeding.NCHW else ""
    warning = f" ({rule.warning})" if rule.warning else ""
    return f"pictures of {rule.picture}, {rule.text}{channels}{warning}"


def _labels(data: bytes, model: Model) -> Labels | None:
    text = labels.embedded(data, model.metadata.labels if model.metadata else None)
    if text is None:
        return None
    try:
        found = labels.parse(text, model.classes)
    except UsageError as error:
        return Labels(0, (), error.what)
    return Labels(len(found), found[:3])
