"""Plan of a split: where a graph can be cut, and the cuts that balance its segments best.

A cut at place N is before the operation N: those before it are in earlier segments. Operations stay in their order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from clusteradm.errors import UsageError
from clusteradm.models.tflite.graph import Graph
from clusteradm.models.tflite.inspect import TPU_OPERATION
from clusteradm.node.spec import feeding

BALANCES = ("size", "operations", "latency")
_MOST_PLACES = 400  # considered; of more, those that divide the weight most evenly
_SIZES = {"float64": 8, "int64": 8, "uint64": 8, "float32": 4, "int32": 4, "uint32": 4, "int16": 2, "uint16": 2}


@dataclass(frozen=True)
class Segment:
    """Operations `first` to `last` (included), the tensors that it takes and gives, and bytes of its weights.

    `crossing`: bytes that it takes for one inference.
    """

    first: int
    last: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    weights: int
    crossing: int


def obstacles(graph: Graph) -> dict[int, str]:
    """Each place where the graph cannot be cut, with the reason."""
    made: dict[int, int] = {}
    last_read: dict[int, int] = {}
    held: dict[int, tuple[int, int]] = {}  # a variable -> its first and its last operation
    for place, operation in enumerate(graph.operations):
        for number in operation.inputs:
            if number < 0:
                continue
            last_read[number] = place
            if graph.tensors[number].variable:
                held[number] = (held.get(number, (place, place))[0], place)
        for number in operation.outputs:
            made.setdefault(number, place)
    found: dict[int, str] = {}
    names = [operation.name for operation in graph.operations]
    for number, read in last_read.items():
        tensor = graph.tensors[number]
        if tensor.fixed:
            continue
        start = made.get(number, -1)
        if start < 0 and number in graph.inputs:
            why = f"{names[read]} reads the model's input {tensor.name!r}, which only the first segment gets"
        elif tensor.dtype not in feeding.TYPES:
            why = f"{names[read]} reads {tensor.name!r}, of the type {tensor.dtype}, which cannot be handed on"
        elif not tensor.size:
            why = f"{names[read]} reads {tensor.name!r}, whose shape is left open"
        else:
            continue
        for place in range(max(start, 0) + 1, read + 1):
            found.setdefault(place, why)
    for first, end in held.values():
        for place in range(first + 1, end + 1):
            found.setdefault(place, f"{names[first]} and {names[end]} share a variable")
    return found


def weights(graph: Graph) -> list[int]:
    """Bytes of constants that each operation is the first to read."""
    seen: set[int] = set()
    found = []
    for operation in graph.operations:
        size = 0
        for number in operation.inputs:
            tensor = graph.tensors[number] if number >= 0 else None
            if tensor is not None and len(tensor.weights) and tensor.buffer not in seen:
                seen.add(tensor.buffer)
                size += len(tensor.weights)
        found.append(size)
    return found


def check(graphs: Sequence[Graph], count: int, where: str) -> list[int]:
    """The places where the model can be cut. Raises UsageError where those are too few for so many segments."""
    graph = graphs[0]
    flow = [one.name for one in graph.operations if one.name in ("WHILE", "IF", "CALL_ONCE", "CALL")]
    if len(graphs) > 1 or flow:
        name = flow[0] if flow else f"{len(graphs)} subgraphs"
        raise UsageError(f"it cannot be split: it has control flow ({name})", where=where)
    if any(one.name == TPU_OPERATION for one in graph.operations):
        raise UsageError(
            f"it cannot be split: it is compiled ({TPU_OPERATION})",
            where=where,
            next_step="split the model that it was made of, and compile each segment",
        )
    computed = {number for one in graph.operations for number in one.outputs}
    idle = [graph.tensors[number].name for number in graph.outputs if number not in computed]
    if idle:
        raise UsageError(
            f"it cannot be split: no operation computes its output {idle[0]!r}, so that no segment gives it",
            where=where,
            next_step="convert the network without this output",
        )
    wrong = obstacles(graph)
    places = [place for place in range(1, len(graph.operations)) if place not in wrong]
    if len(places) < count - 1:
        kinds = Counter(one.name for one in graph.operations)
        reason = next(iter(wrong.values()), "") or f"its operations are {', '.join(list(kinds)[:8])}"
        raise UsageError(
            f"it cannot be split into {count} segments: of its {len(graph.operations)} operations, {len(places)} can "
            f"begin a new one; {reason}",
            where=where,
            next_step=f"--segments {len(places) + 1}" if places else "it runs on one Edge TPU as a whole",
        )
    return places


def balanced(graph: Graph, places: Sequence[int], cost: Sequence[float], count: int) -> list[int]:
    """The `count` - 1 cuts at which the dearest segment costs least; of these, those that hand on the fewest bytes."""
    sums = [0.0, *accumulate(cost)]
    places = _spread(places, sums, count)
    handed = crossing(graph, places)
    ends = [*places, len(cost)]
    # best[j]: for the segments so far, of which the last ends at ends[j]: worst cost, bytes handed on, cuts
    best: list[tuple[float, int, list[int]] | None] = [(sums[end], 0, []) for end in ends]
    for _ in range(count - 1):
        after: list[tuple[float, int, list[int]] | None] = [None] * len(ends)
        for j, end in enumerate(ends):
            for i in range(j):
                before = best[i]
                if before is None:
                    continue
                worst = max(before[0], sums[end] - sums[ends[i]])
                known = after[j]
                if known is not None and worst > known[0]:
                    continue
                step = (worst, before[1] + handed[ends[i]], [*before[2], ends[i]])
                if known is None or step[:2] < known[:2]:
                    after[j] = step
        best = after
    last = best[-1]
    if last is None:  # check() has seen to it
        raise UsageError(f"there are no {count} segments")
    return last[2]


def _spread(places: Sequence[int], sums: Sequence[float], count: int) -> list[int]:
    """No more places than can be compared: those nearest to even steps of the cost."""
    if len(places) <= _MOST_PLACES:
        return list(places)
    steps = [sums[-1] * number / _MOST_PLACES for number in range(1, _MOST_PLACES)]
    found = set(places[:: max(1, len(places) // count)])
    at = 0
    for step in steps:
        while at < len(places) - 1 and sums[places[at]] < step:
            at += 1
        found.add(places[at])
    return sorted(found)


def crossing(graph: Graph, places: Sequence[int]) -> dict[int, int]:
    """Bytes of the tensors that a cut at each place hands on."""
    made = {number: place for place, one in enumerate(graph.operations) for number in one.outputs}
    last = {number: place for place, one in enumerate(graph.operations) for number in one.data}
    change = [0] * (len(graph.operations) + 1)
    for number, start in made.items():
        end = last.get(number, -1)
        if number >= 0 and end > start:
            size = size_of(graph, number)
            change[start + 1] += size
            change[end + 1] -= size
    totals = list(accumulate(change))
    return {place: totals[place] for place in places}


def size_of(graph: Graph, number: int) -> int:
    """Bytes of a tensor."""
    tensor = graph.tensors[number]
    return tensor.size * _SIZES.get(tensor.dtype, 1)


def segments(graph: Graph, cuts: Sequence[int]) -> list[Segment]:
    """The segments between cuts."""
    found = []
    size = weights(graph)
    for first, end in zip([0, *cuts], [*cuts, len(graph.operations)], strict=True):
        inside = graph.operations[first:end]
        made = {number for one in inside for number in one.outputs if number >= 0}
        inputs = dict.fromkeys(number for one in inside for number in one.data if number not in made)
        later = {number for one in graph.operations[end:] for number in one.data}
        # The model's own inputs and outputs in their order.
        own = [number for number in graph.inputs if number in inputs or not first]
        taken = tuple(dict.fromkeys([*own, *inputs]))
        given = tuple(
            dict.fromkeys(
                [*(number for number in graph.outputs if number in made), *sorted(number for number in made & later)]
            )
        )
        crossing_bytes = sum(size_of(graph, number) for number in taken)
        found.append(Segment(first, end - 1, taken, given, sum(size[first:end]), crossing_bytes))
    return found
