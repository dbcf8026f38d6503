"""Plans of splits: where a graph can be cut, what crosses a cut, and balance; by hand and against all possibilities."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
from made_models import Made, variable

from clusteradm.errors import UsageError
from clusteradm.models.split import plan
from clusteradm.models.split.split import split
from clusteradm.models.tflite import graph
from clusteradm.models.tflite.graph import Graph


def chain(count: int, sizes: tuple[int, ...] = ()) -> tuple[Made, list[int]]:
    """FULLY_CONNECTED layers one after the other; to each, the bytes of its weights. The tensors between them."""
    made = Made()
    tensors = [made.tensor((1, 4), "float32")]
    for number in range(count):
        tensors.append(made.tensor((1, 4), "float32"))
        weights = made.tensor((4, 4), "float32", np.ones((4, 4 * (sizes[number] if sizes else 1)), "<f4"))
        made.add("FULLY_CONNECTED", [tensors[-2], weights, -1], [tensors[-1]])
    return made, tensors


def read(made: Made, inputs: list[int], outputs: list[int]) -> Graph:
    return graph.read(made.content(inputs, outputs))[0]


def test_a_chain_can_be_cut_everywhere() -> None:
    made, tensors = chain(5)
    found = read(made, tensors[:1], tensors[-1:])
    assert plan.obstacles(found) == {}
    assert plan.check([found], 5, "m") == [1, 2, 3, 4]
    parts = plan.segments(found, [2, 3])
    assert [(one.first, one.last, one.inputs, one.outputs) for one in parts] == [
        (0, 1, (tensors[0],), (tensors[2],)),
        (2, 2, (tensors[2],), (tensors[3],)),
        (3, 4, (tensors[3],), (tensors[5],)),
    ]
    assert [one.weights for one in parts] == [128, 64, 128]
    assert plan.crossing(found, [1, 4]) == {1: 16, 4: 16}


def test_what_is_needed_again_later_crosses_every_cut_between() -> None:
    made, tensors = chain(3)
    end = made.tensor((1, 4), "float32")
    made.add("ADD", [tensors[1], tensors[3]], [end])
    found = read(made, tensors[:1], [end, tensors[2]])
    parts = plan.segments(found, [1, 2, 3])
    assert [one.inputs for one in parts[1:]] == [(tensors[1],), (tensors[2],), (tensors[1], tensors[3])]
    # An output of the model is one of the segment that computes it.
    assert [one.outputs for one in parts] == [(tensors[1],), (tensors[2],), (tensors[3],), (end,)]
    assert plan.crossing(found, [1, 2, 3]) == {1: 16, 2: 32, 3: 32}


def test_places_where_a_graph_cannot_be_cut() -> None:
    made, tensors = chain(3)
    end = made.tensor((1, 4), "float32")
    made.add("ADD", [tensors[0], tensors[3]], [end])
    found = read(made, tensors[:1], [end])
    assert set(plan.obstacles(found)) == {1, 2, 3}
    with pytest.raises(UsageError, match=r"ADD reads the model's input 't0', which only the first segment gets"):
        plan.check([found], 2, "m")
    made, tensors = chain(2)
    made.graph.tensors[tensors[1]].type = 13  # resource
    assert "of the type resource, which cannot be handed on" in plan.obstacles(read(made, tensors[:1], tensors[-1:]))[1]
    made, tensors = chain(3)
    state = made.tensor((1, 4), "float32")
    made.graph.tensors[state].isVariable = True
    for number in (0, 1):
        made.graph.operators[number].inputs = [*made.graph.operators[number].inputs, state]
    found = read(made, tensors[:1], tensors[-1:])
    assert plan.obstacles(found) == {1: "FULLY_CONNECTED and FULLY_CONNECTED share a variable"}
    with pytest.raises(UsageError, match="into 3 segments: of its 3 operations, 1 can begin a new one") as raised:
        plan.check([found], 3, "m")
    assert raised.value.next_step == "--segments 2"


def test_control_flow_and_compiled_models_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(variable())
    with pytest.raises(UsageError, match=r"it has control flow \(CALL_ONCE\)"):
        split(path, 2, "size", tmp_path)


@pytest.mark.parametrize("idle", ["constant", "input", "variable"])
def test_an_output_that_nothing_computes_is_refused_by_name(idle: str, tmp_path: Path) -> None:
    made, tensors = chain(3)
    number = {"constant": made.tensor((1, 4), "float32", np.ones(4, "<f4")), "input": tensors[0]}.get(idle)
    if number is None:
        number = made.tensor((1, 4), "float32")
        made.graph.tensors[number].isVariable = True
    path = tmp_path / "m.tflite"
    path.write_bytes(made.content(tensors[:1], [tensors[-1], number]))
    with pytest.raises(UsageError, match=rf"no operation computes its output 't{number}'"):
        split(path, 2, "size", tmp_path)


@pytest.mark.parametrize("seed", range(8))
def test_no_other_cuts_are_better(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    made, tensors = chain(9)
    found = read(made, tensors[:1], tensors[-1:])
    cost = [chance.choice([0, 1, 2, 5, 13]) for _ in range(9)]
    places = sorted(chance.sample(range(1, 9), 6))
    for count in (2, 3, 4):
        cuts = plan.balanced(found, places, cost, count)
        assert len(cuts) == count - 1 and set(cuts) <= set(places)

        def worst(chosen: tuple[int, ...]) -> float:
            return max(sum(cost[a:b]) for a, b in zip((0, *chosen), (*chosen, 9), strict=True))

        assert worst(tuple(cuts)) == min(map(worst, itertools.combinations(places, count - 1)))


def test_thousands_of_operations_are_planned_at_once() -> None:
    made, tensors = chain(3000)
    found = read(made, tensors[:1], tensors[-1:])
    cuts = plan.balanced(found, plan.check([found], 4, "m"), [1.0] * 3000, 4)
    assert all(abs(cut - expected) < 15 for cut, expected in zip(cuts, (750, 1500, 2250), strict=True))
