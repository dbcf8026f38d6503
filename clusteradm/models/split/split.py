"""Split of a model: planned by its graph, written and proven in a child process."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusteradm import atomic, extras, regular
from clusteradm.errors import UsageError
from clusteradm.models import labels
from clusteradm.models.child import Child
from clusteradm.models.inspection.cost import operation_macs
from clusteradm.models.split import plan
from clusteradm.models.split.plan import Segment
from clusteradm.models.tflite import graph as graphs
from clusteradm.models.tflite.flatbuffer import Malformed
from clusteradm.models.tflite.graph import Graph
from clusteradm.models.tflite.inspect import NotAModel, inspect
from clusteradm.models.tflite.model import MOST_BYTES

_MOST_PREFIXES = 24  # that are timed
_MOST_SENT = 12  # to another host, each with its weights
_PER_NUMBER = 8  # multiply-accumulates that take as long as a number that is written, about


@dataclass(frozen=True)
class Piece:
    """One segment as written. `names`: of its first and last operation; `milliseconds`: on the CPU of the split."""

    path: Path
    segment: Segment
    names: tuple[str, str]
    bytes: int
    macs: int
    milliseconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The piece as JSON values."""
        one = self.segment
        return {
            "file": str(self.path),
            "operations": one.last - one.first + 1,
            "first": self.names[0],
            "last": self.names[1],
            "bytes": self.bytes,
            "weight_bytes": one.weights,
            "input_bytes": one.crossing,
            "macs": self.macs,
            "milliseconds": self.milliseconds,
        }


@dataclass(frozen=True)
class Split:
    """The result. `compared`: number of random inputs on which whole and segments were the same, bit by bit; 0 where
    this machine's runtime cannot run the model, and `problem` says why. `measured_on`: whose CPU gave the times."""

    pieces: tuple[Piece, ...]
    compared: int
    problem: str = ""
    measured_on: str = ""


@dataclass(frozen=True)
class Elsewhere:
    """Another host whose CPU is measured. `times`: from models to the milliseconds of one inference of each."""

    name: str
    times: Callable[[Sequence[bytes]], Sequence[float]]


def split(source: Path, count: int, balance: str, folder: Path, elsewhere: Elsewhere | None = None) -> Split:
    """Split a model into `count` segments in `folder`, named as Google's compiler names them.

    `elsewhere`: where the balance "latency" is measured, if not on this machine. Raises UsageError for a model that
    cannot be split, or whose segments do not give what it gives.
    """
    extras.require("convert", ("numpy", "flatbuffers", "ai_edge_litert"), "the splitting of a model")
    where = regular.readable(source)
    content = regular.read(source, MOST_BYTES)
    inspect(content, where)
    try:
        found = graphs.read(content)
        places = plan.check(found, count, where)
        graph = found[0]
        macs = [operation_macs(graph, one) for one in graph.operations]
    except Malformed as error:
        raise NotAModel(f"it is damaged: {error}", where=where) from error
    with tempfile.TemporaryDirectory(prefix="clusteradm-split-") as temporary:
        # What is inspected is what is split, whatever becomes of the file.
        copy = Path(temporary, "whole.tflite")
        copy.write_bytes(content)
        with Child("clusteradm.models.split.by_schema", str(copy)) as child:
            writer = _Writer(child, where)
            cost: Sequence[float] = plan.weights(graph) if balance == "size" else [1.0] * len(graph.operations)
            on = ""
            if balance == "latency":
                times, most = functools.partial(_here, writer), _MOST_PREFIXES
                on = "this machine"
                if elsewhere is not None:
                    times, most = functools.partial(_there, writer, elsewhere, Path(temporary)), _MOST_SENT
                    on = elsewhere.name
                cost = _latency(graph, places, macs, times, most)
            parts = plan.segments(graph, plan.balanced(graph, places, cost, count))
            made = [Path(temporary, f"{number}.tflite") for number in range(count)]
            writer.ask("written", write=[[_plan(one), str(path)] for one, path in zip(parts, made, strict=True)])
            compared, problem = _compare(writer, made, where)
        pieces = []
        for number, (one, path) in enumerate(zip(parts, made, strict=True)):
            data = path.read_bytes() + (labels.archive(content) if number == count - 1 else b"")
            target = folder / f"{source.stem}_segment_{number}_of_{count}.tflite"
            try:
                atomic.write(target, data)
            except OSError as error:
                raise UsageError(f"cannot write the segment: {error.strerror}", where=str(target)) from error
            names = graph.operations[one.first].name, graph.operations[one.last].name
            spent = sum(cost[one.first : one.last + 1]) if balance == "latency" else None
            pieces.append(Piece(target, one, names, len(data), sum(macs[one.first : one.last + 1]), spent))
    return Split(tuple(pieces), compared, problem, on)


class _Writer:
    """The child that writes."""

    def __init__(self, child: Child, where: str) -> None:
        self._child, self._where = child, where
        self._lines: Iterator[dict[str, Any]] = child.lines()
        next(self._lines, None)

    def ask(self, key: str, **question: Any) -> dict[str, Any]:
        """What it answers. Raises UsageError where the runtime cannot do it."""
        self._child.tell(question)
        said = next(self._lines, {})
        if key not in said:
            raise UsageError(f"this machine's runtime cannot run it: {said.get('error', '')}", where=self._where)
        return said


def _plan(segment: Segment) -> dict[str, Any]:
    return {"operations": [segment.first, segment.last + 1], "inputs": segment.inputs, "outputs": segment.outputs}


def _compare(writer: _Writer, paths: Sequence[Path], where: str) -> tuple[int, str]:
    try:
        said = writer.ask("differ", compare=[str(path) for path in paths])
    except UsageError as error:
        return 0, error.what
    if said["differ"]:
        raise UsageError(
            f"the segments in turn do not give what the model gives: {', '.join(map(str, said['differ'][:4]))}",
            where=where,
            next_step="split it by another --balance",
        )
    return int(said["samples"]), ""


_Times = Callable[[Sequence[Segment]], Sequence[float]]


def _here(writer: _Writer, parts: Sequence[Segment]) -> Sequence[float]:
    found: Sequence[float] = writer.ask("times", times=[_plan(one) for one in parts])["times"]
    return found


def _there(writer: _Writer, elsewhere: Elsewhere, folder: Path, parts: Sequence[Segment]) -> Sequence[float]:
    paths = [folder / f"part-{number}.tflite" for number in range(len(parts))]
    writer.ask("written", write=[[_plan(one), str(path)] for one, path in zip(parts, paths, strict=True)])
    return elsewhere.times([path.read_bytes() for path in paths])


def _latency(graph: Graph, places: Sequence[int], macs: Sequence[int], times: _Times, most: int) -> list[float]:
    """Milliseconds of each operation: by the times of parts that begin at the beginning, `most` of them."""
    # Between two that are timed: by multiply-accumulates, and by the numbers written, which resizing and the like take.
    guess = [
        1 + macs[place] + _PER_NUMBER * sum(plan.size_of(graph, number) for number in one.outputs if number >= 0)
        for place, one in enumerate(graph.operations)
    ]
    step, spent = sum(guess) / most, 0
    ends: list[int] = []
    possible = set(places)
    for place in range(1, len(graph.operations)):
        spent += guess[place - 1]
        if place in possible and spent >= step * (len(ends) + 1) and len(ends) < most - 1:
            ends.append(place)
    ends.append(len(graph.operations))
    prefixes = [plan.segments(graph, [end] if end < len(graph.operations) else [])[0] for end in ends]
    taken = [float(one) for one in times(prefixes)]
    # A longer part may seem to be faster, as chance only ever makes one slower: then the shorter one takes no longer.
    for place in reversed(range(len(taken) - 1)):
        taken[place] = min(taken[place], taken[place + 1])
    cost: list[float] = []
    before = 0.0
    for first, end, until in zip([0, *ends[:-1]], ends, taken, strict=True):
        share = guess[first:end]
        cost += [(until - before) * one / sum(share) for one in share]
        before = until
    return cost


def to_document(result: Split) -> dict[str, Any]:
    """The result as JSON values."""
    segments = [one.to_json() for one in result.pieces]
    return {
        "segments": segments,
        "measured_on": f"{result.measured_on}'s CPU" if result.measured_on else None,
        "compared_inputs": result.compared,
        "problem": result.problem or None,
    }
