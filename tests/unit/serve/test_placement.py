"""Where models are: what the head makes of what is said, of memory, loads and swaps; and what a board makes of that."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import serve_place as place

from clusteradm.node.serve import placement, placing
from clusteradm.node.serve.placement import Need, Tpu
from clusteradm.node.serve.placing import WINDOW, Placer
from clusteradm.node.spec.wire.serving import (
    AVAILABLE,
    BoardState,
    DesiredState,
    EngineState,
    PlacedModel,
    ServedModel,
    VersionPolicy,
    VersionState,
)
from clusteradm.node.spec.wire.serving_requests import BoardSaid

TPUS = [Tpu(host, f"000{number}:01:00.0") for host in ("w1", "w2") for number in range(2)]
W1, W2 = (frozenset(tpu.copy for tpu in TPUS if tpu.host == host) for host in ("w1", "w2"))
FOUR = W1 | W2


def model(name: str, **more: Any) -> ServedModel:
    return ServedModel(name, VersionPolicy(), **more)


def need(name: str, load: float = 0.0, *, memory: int = 0, tokens: str = "", kept: bool = True, **more: Any) -> Need:
    return Need(model(name, **more), memory, kept, frozenset(tokens.split()), load)


def target(needs: list[Need], apart: bool = True, memory: dict[str, int] | None = None, **now: Any) -> dict[str, Any]:
    return placement.target(needs, TPUS, apart, memory or {}, {name: frozenset(copies) for name, copies in now.items()})


def test_by_default_everything_is_everywhere() -> None:
    assert target([need("a", 1.0), need("b", 0.1)], apart=False) == {"a": FOUR, "b": FOUR}


def test_what_is_said_holds() -> None:
    found = target(
        [need("a", hosts=("w1",)), need("b", tpus=("w2:0001:01:00.0",)), need("c", each=1), need("d", each=1)],
        apart=False,
    )
    assert found["a"] == W1 and found["b"] == {"w2:0001:01:00.0"}
    # Models on one TPU of each host each have one of their own; and stay where they are.
    assert {copy[:2] for copy in found["c"]} == {copy[:2] for copy in found["d"]} == {"w1", "w2"}
    assert found["c"] | found["d"] == FOUR
    assert target([need("c", each=1)], c=found["d"])["c"] == found["d"]
    # What there is not now may come.
    assert target([need("e", tpus=("w9:0000:01:00.0",))])["e"] == {"w9:0000:01:00.0"}


def test_models_that_are_kept_apart_have_tpus_by_their_loads_and_two_hosts() -> None:
    found = target([need("a", 1.8), need("b", 0.2)])
    assert found["a"] | found["b"] == FOUR and not found["a"] & found["b"]
    for copies in found.values():  # two each, so that a lost board loses no model
        assert {copy[:2] for copy in copies} == {"w1", "w2"}
    three = target([need("a", 1.8), need("b", 0.2), need("c", 0.2)])
    assert sorted(map(len, three.values())) == [1, 1, 2] and len(three["a"]) == 2
    assert sum(map(len, three.values())) == len(frozenset().union(*three.values()))


def test_more_models_than_tpus_share_by_their_loads() -> None:
    found = target([need(name, load) for name, load in zip("abcdef", (0.9, 0.5, 0.4, 0.3, 0.2, 0.1), strict=True)])
    assert all(len(copies) == 1 for copies in found.values())
    assert frozenset().union(*found.values()) == FOUR
    alone = [name for name, copies in found.items() if list(found.values()).count(copies) == 1]
    assert "a" in alone


def test_models_that_were_compiled_together_are_together_and_cpu_models_everywhere() -> None:
    found = target([need("a", 0.5, tokens="1f"), need("b", 0.5, tokens="1f 2f"), need("c", 0.5), need("d", kept=False)])
    assert found["a"] == found["b"] and not found["a"] & found["c"] and found["d"] == FOUR


def test_they_stay_where_they_are_when_nothing_speaks_against_it() -> None:
    first = target([need("a", 0.6), need("b", 0.4)])
    assert target([need("a", 0.5), need("b", 0.5)], **first) == first
    swapped = {"a": first["b"], "b": first["a"]}
    assert target([need("a", 0.6), need("b", 0.4)], **swapped) == swapped


def test_a_hosts_memory_holds_what_is_there_and_no_model_is_lost() -> None:
    needs = [need("large", memory=60), need("small", memory=10)]
    found = target(needs, apart=False, memory={"w1": 150, "w2": 70})
    assert found["small"] & W1 == found["large"] & W1 == W1
    assert len(found["small"] & W2) == len(found["large"] & W2) == 1  # both, on one TPU each
    found = target(needs, apart=False, memory={"w1": 150, "w2": 30})
    assert found["large"] == W1 and found["small"] & W2
    # Not even where it fits nowhere.
    tight = target(needs, apart=False, memory={"w1": 15, "w2": 15})
    assert all(tight.values())


def test_nothing_goes_before_something_is_in_its_place() -> None:
    now, wanted = {"a": W1}, {"a": W2}
    assert placement.step(now, wanted, {"a": W1}) == {"a": FOUR}
    one = frozenset(sorted(W2)[:1])
    assert placement.step({"a": FOUR}, wanted, {"a": W1 | one}) == {"a": W2}
    # What is not ready is not kept; with nothing ready there is nothing to keep.
    assert placement.step(now, wanted, {"a": frozenset()}) == {"a": W2}
    # A large number is not taken away for the first of many.
    others = frozenset(f"w{number}:cpu" for number in range(3, 7))
    assert placement.step({"a": FOUR}, {"a": others}, {"a": FOUR | {"w3:cpu"}}) == {"a": FOUR | others}


STATE = DesiredState(7, (model("a"), model("b")))


def test_a_board_has_what_is_placed_on_it() -> None:
    placed = (PlacedModel("a", ("w1:0000:01:00.0", "w2")), PlacedModel("b"))
    state = replace(STATE, models=(*STATE.models, model("c", hosts=("w2",))), placement=placed)
    assert placement.homes(state, "w1", "a") == {"0000:01:00.0"} and placement.homes(state, "w2", "a") is None
    assert placement.homes(state, "w3", "a") == set() and placement.homes(state, "w3", "b") is None
    assert placement.homes(state, "w1", "c") == set() and placement.homes(state, "w2", "c") is None
    assert placement.homes(state, "w1", "unknown") == set()
    assert placement.hosts_of(state, "a") == ("w1", "w2") and placement.hosts_of(state, "b") == ()


def test_a_change_of_where_a_model_may_be_takes_nothing_away_at_once() -> None:
    old = replace(STATE, models=(model("a", hosts=("w1",)), model("b"), model("c")))
    old = replace(old, placement=(PlacedModel("a", ("w1:cpu",)), PlacedModel("c", ("w1:cpu",))))
    new = replace(old, models=(model("a", hosts=("w2",)), model("b", hosts=("w2",)), model("d", tpus=("w2:cpu",))))
    found = {each.name: each for each in placement.carried(old, new)}
    # "a" is answered where it was meanwhile; "b" was everywhere, and is; "c" is no more; "d" is new.
    assert found["a"].tpus == ("w1:cpu", "w2") and found["b"].tpus == () and found["d"].tpus == ("w2:cpu",)
    assert sorted(found) == ["a", "b", "d"]
    assert placement.carried(old, old) == old.placement


class Boards:
    """What two boards with two TPUs each say: they follow at once, but for what `slow` names, which is never loaded."""

    def __init__(self, shared: Path, state: DesiredState) -> None:
        self.state, self.time = state, 1000.0
        self.placer = Placer(str(shared), lambda: self.time)
        self.busy: dict[str, float] = {}
        self.swaps = 0.0
        self.away: set[str] = set()
        self.slow: set[str] = set()
        self.memory = 0

    def said(self) -> dict[str, BoardSaid]:
        found = {}
        for host in ("w1", "w2"):
            mine = [tpu for tpu in TPUS if tpu.host == host]
            engines = tuple(
                EngineState(tpu.device, "ready", busy_seconds=sum(self.busy.values()) / 4, swap_seconds=self.swaps / 4)
                for tpu in mine
            )
            versions = []
            for each in self.state.models:
                devices = placement.homes(self.state, host, each.name)
                there = tuple(tpu.device for tpu in mine if devices is None or tpu.device in devices)
                there = tuple(device for device in there if f"{each.name} {host}" not in self.slow)
                if there:
                    busy = self.busy.get(each.name, 0.0) / 2
                    versions.append(VersionState(each.name, 1, AVAILABLE, tpus=there, busy_seconds=busy))
            board = BoardState(host, self.state.revision, True, tuple(versions), engines, memory=self.memory)
            found[host] = BoardSaid(error="it does not answer") if host in self.away else BoardSaid(board)
        return found

    def goes_on(self, seconds: float, swaps: float = 0.0, **loads: float) -> None:
        """So many seconds of these loads, in TPU seconds a second, of which `swaps` is the part of swaps."""
        for _ in range(int(seconds / 2)):
            self.time += 2
            for name, load in loads.items():
                self.busy[name] = self.busy.get(name, 0.0) + 2 * load
            self.swaps += 2 * sum(loads.values()) * swaps
            before = {each.name: self.copies(each.name) for each in self.state.models}
            ready = {each.name: self.ready(each.name) for each in self.state.models}
            placed = self.placer.next(self.state, self.said())
            self.state = replace(self.state, placement=placed)
            for name, copies in before.items():
                # Never without one that is ready.
                assert not ready[name] & copies or self.copies(name) & ready[name], (name, placed)

    def copies(self, name: str) -> frozenset[str]:
        found = set()
        for tpu in TPUS:
            devices = placement.homes(self.state, tpu.host, name)
            if devices is None or tpu.device in devices:
                found.add(tpu.copy)
        return frozenset(found)

    def ready(self, name: str) -> frozenset[str]:
        return placing._available(name, self.said())


@pytest.fixture
def boards(tmp_path: Path) -> Boards:
    for name, token in (("a", "1"), ("b", "2")):
        folder = place.deploy(tmp_path, name)
        document = json.loads((folder / "manifest.json").read_text())
        document.update(cached_bytes=4 << 20, bytes=5 << 20, tokens=[token * 16])
        (folder / "manifest.json").write_text(json.dumps(document))
    return Boards(tmp_path, STATE)


def test_swaps_that_cost_much_part_models_and_idleness_joins_them(boards: Boards) -> None:
    boards.goes_on(60, a=1.0, b=0.5)
    assert boards.state.placement == ()
    # A short burst does not.
    boards.goes_on(WINDOW, swaps=0.4, a=1.0, b=0.5)
    boards.goes_on(WINDOW, a=1.0, b=0.5)
    assert boards.state.placement == ()
    boards.goes_on(6 * WINDOW, swaps=0.4, a=1.6, b=0.3)
    assert not boards.copies("a") & boards.copies("b")
    assert {copy[:2] for copy in boards.copies("a")} == {copy[:2] for copy in boards.copies("b")} == {"w1", "w2"}
    # They stay apart without swaps, for that is why there are none; and where they are, while nothing much changes.
    before = boards.state.placement
    boards.goes_on(300, a=1.4, b=0.4)
    assert boards.state.placement == before
    boards.goes_on(500, a=0.01)
    assert boards.state.placement == before
    boards.goes_on(300, a=0.01)
    assert boards.state.placement == ()


def test_what_an_ensemble_is_of_stays_on_every_board_and_the_ensemble_has_no_tpu(
    boards: Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = placing.about
    ensemble = placing.About(10, False, frozenset(), other=True, members=frozenset({"a"}))
    monkeypatch.setattr(placing, "about", lambda shared, each: ensemble if each.name == "c" else look(shared, each))
    boards.state = replace(boards.state, models=(*boards.state.models, model("c")))
    boards.goes_on(6 * WINDOW, swaps=0.4, a=1.6, b=0.3)
    assert boards.placer.apart and boards.copies("a") == boards.copies("c") == FOUR
    assert not [placed for placed in boards.state.placement if placed.name in ("a", "c")]


def whole(boards: Boards, *names: str) -> set[str]:
    """The hosts that have all of these."""
    return set.intersection(*({copy.partition(":")[0] for copy in boards.copies(name)} for name in names))


@pytest.fixture
def ensemble(boards: Boards, monkeypatch: pytest.MonkeyPatch) -> str:
    """One of both models and a lookup, within another."""
    look, of = placing.about, {"c": {"a", "b", "words"}, "outer": {"c"}, "words": set()}

    def about(shared: str, each: ServedModel) -> placing.About:
        if each.name in of:
            return placing.About(10, False, frozenset(), other=True, members=frozenset(of[each.name]))
        return look(shared, each)

    monkeypatch.setattr(placing, "about", about)
    boards.state = replace(boards.state, models=(*boards.state.models, *map(model, ("c", "outer", "words"))))
    return "c"


def test_a_board_without_room_does_not_part_what_an_ensemble_is_of(boards: Boards, ensemble: str) -> None:
    boards.memory = 20 << 20  # each of both takes 10 MiB, and half of this is for models
    boards.goes_on(20)
    (host,) = whole(boards, "a", "b")
    # The ensembles are where their models are, and requests for them go there.
    placed = {each.name: each for each in boards.state.placement}
    assert placed["c"] == PlacedModel("c", (host,)) and placed["outer"] == PlacedModel("outer", (host,))
    assert "words" not in placed
    boards.memory = 200 << 20
    boards.goes_on(20)
    assert boards.state.placement == ()


def test_an_ensemble_follows_its_models_where_they_are_said_to_be(boards: Boards, ensemble: str) -> None:
    boards.goes_on(4)
    assert boards.state.placement == ()
    state = replace(boards.state, models=(model("a", hosts=("w2",)), *boards.state.models[1:]))
    boards.state = replace(state, placement=placing.carried(boards.placer._shared, boards.state, state))
    assert whole(boards, "a", "b", "c", "outer") == {"w1", "w2"}  # as nobody has looked
    boards.slow = {"a w2", "c w2", "outer w2"}
    boards.goes_on(10)
    placed = {each.name: each for each in boards.state.placement}
    assert placed["a"].balanced == placed["c"].balanced == placed["outer"].balanced == ("w1",)
    boards.slow = set()
    boards.goes_on(10)
    assert whole(boards, "a") == whole(boards, "c") == whole(boards, "outer") == {"w2"}
    assert whole(boards, "b") == whole(boards, "words") == {"w1", "w2"}
    # A new one is there at once; one that can be whole nowhere is wherever it may be, and says what it lacks.
    state = replace(boards.state, models=tuple(each for each in boards.state.models if each.name != "c"))
    again = replace(state, models=(*state.models, model("c")))
    found = {each.name: each.tpus for each in placing.carried(boards.placer._shared, state, again)}
    assert found["c"] == ("w2",)
    apart = replace(
        boards.state, models=tuple(model("b", hosts=("w1",)) if each.name == "b" else each for each in again.models)
    )
    boards.state = replace(apart, placement=placing.carried(boards.placer._shared, boards.state, apart))
    boards.goes_on(10)
    assert whole(boards, "a") == {"w2"} and whole(boards, "b") == {"w1"} and whole(boards, "c") == {"w1", "w2"}


def test_a_start_of_the_head_changes_nothing(boards: Boards) -> None:
    boards.goes_on(10)
    boards.goes_on(6 * WINDOW, swaps=0.4, a=1.6, b=0.3)
    before = boards.state.placement
    assert before
    boards.placer = Placer(boards.placer._shared, lambda: boards.time)
    boards.goes_on(60, a=1.4, b=0.4)
    assert boards.state.placement == before


def test_what_is_said_is_followed_when_it_is_ready(boards: Boards) -> None:
    boards.goes_on(4)
    state = replace(boards.state, models=(model("a", hosts=("w2",)), model("b", each=1)))
    boards.state = replace(state, placement=placement.carried(boards.state, state))
    boards.slow = {"a w2"}
    boards.goes_on(60)
    assert boards.copies("a") >= W1  # w2 does not get it loaded
    assert next(each for each in boards.state.placement if each.name == "a").balanced == ("w1",)
    boards.slow = set()
    boards.goes_on(10)
    assert boards.copies("a") == W2
    assert sorted(copy[:2] for copy in boards.copies("b")) == ["w1", "w2"]
    assert next(each for each in boards.state.placement if each.name == "a").balanced == ()


def test_on_the_way_to_everywhere_only_what_is_ready_is_asked(boards: Boards) -> None:
    boards.state = replace(boards.state, models=(model("a", hosts=("w1",)), model("b")))
    boards.goes_on(10)
    assert boards.copies("a") == W1
    wide = replace(boards.state, models=(model("a"), model("b")))
    boards.state = replace(wide, placement=placement.carried(boards.state, wide))
    boards.slow = {"a w2"}
    assert boards.state.placement == (PlacedModel("a", (), ("w1",)),)
    boards.goes_on(10)
    assert boards.state.placement == (PlacedModel("a", (), ("w1",)),)
    boards.slow = set()
    boards.goes_on(10)
    assert boards.state.placement == ()


def test_a_model_whose_board_is_lost_is_elsewhere_at_once_and_the_others_wait(boards: Boards) -> None:
    boards.state = replace(boards.state, models=(model("a", each=1), model("b")))
    boards.goes_on(10)
    alone = replace(boards.state, placement=(PlacedModel("a", (sorted(W1)[0],)), PlacedModel("b", tuple(sorted(FOUR)))))
    boards.state = alone
    boards.away = {"w1"}
    boards.goes_on(2)
    assert boards.copies("a") & W2
    boards.away = set()
    boards.goes_on(120)
    assert sorted(copy[:2] for copy in boards.copies("a")) == ["w1", "w2"] and boards.copies("b") == FOUR


def test_a_board_without_room_gives_up_what_others_have(boards: Boards) -> None:
    boards.memory = 60 << 20  # half of it for models; each takes 10 MiB a copy, and there are two TPUs
    boards.goes_on(20)
    for host in (W1, W2):
        assert sum(len(boards.copies(name) & host) for name in ("a", "b")) <= 3
    assert boards.copies("a") and boards.copies("b")


def test_nothing_moves_while_nobody_answers(boards: Boards) -> None:
    boards.away = {"w1", "w2"}
    before = boards.state = replace(boards.state, placement=(PlacedModel("a", ("w1:cpu",)),))
    boards.goes_on(20)
    assert boards.state == before


def test_the_first_of_each_task_is_asked_where_a_request_names_none(tmp_path: Path) -> None:
    for name, task in (("zebra", "detector"), ("faces", "detector"), ("digits", None)):
        folder = place.deploy(tmp_path, name)
        document = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**document, "task": task}))
    state = DesiredState(1, tuple(model(name) for name in ("zebra", "faces", "digits", "gone")))
    place.deploy(tmp_path, "another")  # which is not served
    found = placing.models(str(tmp_path), state)
    assert found.firsts == {"detector": "faces", "classifier": "digits"}
    assert len(found.manifests) == 4  # any may be asked for soon
