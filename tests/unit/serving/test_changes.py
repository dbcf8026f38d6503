"""Changes of the desired state, how far boards have followed it, and the TPUs that serving holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from clusteradm.errors import UsageError
from clusteradm.health import Tpu
from clusteradm.jobs import slots
from clusteradm.models.reference import Reference
from clusteradm.node.serve.buffers import input_bytes
from clusteradm.node.spec.wire.manifest import Manifest, Tensor
from clusteradm.node.spec.wire.serving import (
    AVAILABLE,
    BoardState,
    BoardTpus,
    Canary,
    DesiredState,
    EngineState,
    PlacedModel,
    ServedModel,
    VersionPolicy,
    VersionState,
)
from clusteradm.node.spec.wire.serving_requests import BoardSaid, Desired, ServingStatus, ShowServing
from clusteradm.serving import changes, judge
from clusteradm.serving.changes import Where
from clusteradm.serving.state import Serving
from clusteradm.serving.tpus import check_for_model, named, of_text

EMPTY = DesiredState(3)


@pytest.mark.parametrize(
    ("reference", "policy", "default"),
    [
        ("digits", VersionPolicy("latest"), None),
        ("digits:2", VersionPolicy("specific", versions=(2,)), "2"),
        ("digits@stable", VersionPolicy("specific"), "stable"),
    ],
)
def test_deployed_is_what_was_named(reference: str, policy: VersionPolicy, default: str | None) -> None:
    state = changes.deploy(EMPTY, Reference.parse(reference))
    assert state == replace(EMPTY, models=(ServedModel("digits", policy, default),))


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("all", VersionPolicy("all")),
        ("latest:2", VersionPolicy("latest", 2)),
        ("3,1,3", VersionPolicy("specific", versions=(1, 3))),
    ],
)
def test_versions_that_are_served_at_the_same_time(text: str, policy: VersionPolicy) -> None:
    state = changes.deploy(EMPTY, Reference.parse("digits@stable"), None, changes.policy_of(text))
    assert state.models == (ServedModel("digits", policy, "stable"),)


@pytest.mark.parametrize("text", ["", "latest", "latest:0", "latest:x", "0", "1,", "1-2", "ALL", "1" * 11])
def test_what_names_no_versions_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="names no versions"):
        changes.policy_of(text)


def test_a_new_version_takes_the_place_of_the_old_one_and_its_canary() -> None:
    state = changes.deploy(changes.deploy(EMPTY, Reference("digits", 1), Where(("w1",))), Reference("a", 1))
    state = changes.canary(state, "digits", 2, 5.0)
    assert [model.name for model in state.models] == ["a", "digits"]
    assert state.models[1].canary == Canary(2, 5.0)
    state = changes.deploy(state, Reference("digits", 2))
    assert (state.models[1].default, state.models[1].canary, state.models[1].hosts) == ("2", None, ("w1",))
    assert changes.deploy(state, Reference("digits", 2), Where()).models[1].hosts == ()
    assert [model.name for model in changes.undeploy(state, "digits").models] == ["a"]


def test_the_boards_have_a_canary_before_it_gets_anything() -> None:
    state = changes.deploy(EMPTY, Reference("m", 1))
    prepared = changes.prepare_canary(state, "m", 2)
    assert prepared.models[0].canary == Canary(2, 0.0)
    running = changes.canary(prepared, "m", 2, 5.0)
    assert changes.prepare_canary(running, "m", 2) == running
    assert changes.prepare_canary(running, "m", 3).models[0].canary == Canary(3, 0.0)


def test_a_canary_ends_with_no_percent() -> None:
    state = changes.canary(changes.deploy(EMPTY, Reference("m", 1)), "m", 2, 100.0)
    assert changes.canary(state, "m", 2, 0.0).models[0].canary is None


@pytest.mark.parametrize(
    ("deployed", "version", "is_served"),
    [
        (Reference("m", label="stable"), 1, True),
        (Reference("m", label="stable"), 2, False),
        (Reference("m", label="gone"), 1, False),
        (Reference("m"), 3, False),  # of what is labelled 1 the others get it
        (Reference("m", 2), 2, True),
    ],
)
def test_a_canary_is_another_version_than_the_one_that_is_served(
    deployed: Reference, version: int, is_served: bool
) -> None:
    state = changes.prepare_canary(changes.deploy(EMPTY, deployed), "m", 7)
    try:
        changed = changes.canary(state, "m", version, 5.0, [1, 2, 3], {"stable": 1})
    except UsageError as error:
        assert is_served and f"version {version} of m is what is served already" in str(error)
    else:
        assert not is_served and changed.models[0].canary == Canary(version, 5.0)
    latest = changes.deploy(EMPTY, Reference("m"))
    with pytest.raises(UsageError, match="served already"):
        changes.canary(latest, "m", 3, 5.0, [1, 2, 3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: changes.canary(state, "other", 1, 5.0), "other is not served; served: m"),
        (lambda state: changes.canary(state, "m", 1, 5.0), "version 1 of m is what is served already"),
        (lambda state: changes.canary(state, "m", 2, 101.0), "101 is no percentage"),
        (lambda state: changes.canary(state, "other", 1, 5.0), "serve deploy other"),
        (lambda state: changes.undrain(state, ["w1"]), "w1 is not drained from serving\n  drained: w3"),
        (lambda state: changes.undrain(state, ["w2"]), "out of service as a whole\n  clusteradm undrain w2"),
    ],
)
def test_what_cannot_be_is_said(change: Any, message: str) -> None:
    state = changes.deploy(replace(EMPTY, drained=("w3",), out_of_service=("w2",)), Reference("m", 1))
    with pytest.raises(UsageError) as refused:
        change(state)
    assert message in str(refused.value)


def test_what_is_not_served_need_not_be_served_to_be_undeployed() -> None:
    with pytest.raises(UsageError) as refused:
        changes.undeploy(changes.deploy(EMPTY, Reference("m", 1)), "other")
    assert str(refused.value) == "other is not served; served: m"


def test_drained_and_back() -> None:
    state = changes.drain(changes.drain(EMPTY, ["w2"]), ["w1", "w2"])
    assert state.drained == ("w1", "w2")
    assert changes.undrain(state, ["w2"]).drained == ("w1",)


def said(revision: int, *versions: VersionState, **more: Any) -> BoardSaid:
    return BoardSaid(BoardState("w", revision, True, versions, **more))


def test_how_far_the_boards_are() -> None:
    state = changes.deploy(DesiredState(5), Reference("m", 2), Where(("w1", "w2", "w3", "w4", "w6")))
    loading = VersionState("m", 2, "LOADING")
    failed = VersionState("m", 2, "END", "its file is damaged")
    there, old = VersionState("m", 2, "AVAILABLE"), VersionState("m", 1, "AVAILABLE")
    boards = {
        "w1": said(5, there),
        "w2": said(4, old, loading),
        "w3": BoardSaid(error="http://10.0.0.3:8000 does not answer: timed out"),
        "w4": said(5, old, failed),
        "w5": said(5),  # not one of its hosts
        "w6": said(5, engines=(EngineState("0000:01:00.0", "failed", "late"),)),
    }
    progress = judge(state, ServingStatus(boards), [*boards, "w7"], "m")
    assert progress.followed == ("w1", "w5")
    assert [(board.host, board.why) for board in progress.loading] == [("w2", "it loads m version 2")]
    for error, why in (("", "it fetches and tries m version 2"), ("no room", "no room")):
        (board,) = judge(
            state, ServingStatus({"w2": said(4, VersionState("m", 2, "START"), error=error)}), ["w2"]
        ).loading
        assert board.why == why
    assert [(board.host, board.away, board.failed, board.why) for board in progress.lacking[1:]] == [
        ("w3", True, False, "http://10.0.0.3:8000 does not answer: timed out"),
        ("w4", False, True, "m version 2: its file is damaged"),
        ("w6", False, True, "0000:01:00.0 is failed: late"),
        ("w7", True, False, "it was not asked"),
    ]
    # A board whose TPUs are all jobs' has nothing to serve with; nor one that is out of service.
    for more in (
        replace(state, boards=(BoardTpus("w2", ()), BoardTpus("w6", ()))),
        replace(state, out_of_service=("w6",)),
    ):
        assert "w6" in judge(more, ServingStatus(boards), ["w6"], "m").followed
    assert judge(replace(state, boards=(BoardTpus("w2", ()),)), ServingStatus(boards), ["w2"]).followed == ("w2",)


THERE = {"w1": {"apex_0": "0002:01:00.0", "apex_1": "0001:01:00.0"}, "w2": {"apex_0": "0001:01:00.0"}, "w3": {}}


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("1", {"w1": ("0001:01:00.0",), "w2": ("0001:01:00.0",), "w3": ()}),
        ("0", {"w1": (), "w2": (), "w3": ()}),
        ("w1:apex_0", {"w1": ("0002:01:00.0",), "w2": (), "w3": ()}),
    ],
)
def test_the_tpus_that_serving_holds(text: str, held: dict[str, tuple[str, ...]]) -> None:
    assert of_text(THERE, text) == held
    state = changes.hold_tpus(EMPTY, held)
    assert changes.hold_tpus(state, None).boards == ()
    able = {host: tuple(Tpu(address, name) for name, address in tpus.items()) for host, tpus in THERE.items()}
    chosen = slots.choose(list(THERE), (), (), able, serving=slots.held(state.boards, able))
    left = {slot.host: set(slot.tpus) for slot in chosen.usable}
    assert left == {
        host: set(tpus.values()) - set(held[host])
        for host, tpus in THERE.items()
        if set(tpus.values()) - set(held[host])
    }
    assert len(chosen.left_out) == sum(map(len, held.values()))
    # Those of a host that is not listed are all serving's.
    assert slots.choose(list(THERE), (), (), able, serving=slots.held((), able)).usable == ()
    # On its CPU a job disturbs no TPU.
    assert slots.choose(["w1"], (), (), able, cpu=True, serving=slots.held((), able)).count == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [("w9:apex_0", "--tpus takes no 'w9:apex_0'"), ("x", "--tpus takes no 'x'"), ("w2:apex_7", "it has: apex_0")],
)
def test_a_tpu_that_is_not_there_is_said(text: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        of_text(THERE, text)
    assert message in str(refused.value)


def test_the_bytes_of_an_input() -> None:
    def manifest(*inputs: Tensor) -> Manifest:
        return Manifest(1, "m", "0" * 64, 1, None, None, inputs, (), 1, {}, None, None, 0, 0, "")

    image = Tensor("a", (1, 224, 224, 3), "uint8")
    assert input_bytes(manifest(image)) == 150_528
    assert input_bytes(manifest(replace(image, dtype="float32"), Tensor("b", (-1, 4), "bool"))) == 602_112 + 4


SLOTS = {
    "w1": {"apex_0": "0000:01:00.0", "apex_1": "0001:01:00.0", "0000:01:00.0": "0000:01:00.0"},
    "w2": {"apex_0": "0002:01:00.0"},
}


@pytest.mark.parametrize(
    ("text", "copies"),
    [
        ("apex_0", ("w1:0000:01:00.0", "w2:0002:01:00.0")),
        ("w1:apex_1, w2:apex_0", ("w1:0001:01:00.0", "w2:0002:01:00.0")),
        ("0000:01:00.0", ("w1:0000:01:00.0",)),
        ("w1:0000:01:00.0", ("w1:0000:01:00.0",)),
    ],
)
def test_a_models_tpus_are_named_by_slot_or_address(text: str, copies: tuple[str, ...]) -> None:
    assert named(SLOTS, text) == copies


@pytest.mark.parametrize("text", ["apex_5", "w2:apex_1", "w3:apex_0", "0009:01:00.0", "apex_0,"])
def test_a_tpu_that_is_not_there_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(UsageError, match="there is no TPU") as caught:
        named(SLOTS, text)
    assert "apex_0" in str(caught.value)


@pytest.mark.parametrize("text", ["0", "1000", "a;b", ""])
def test_what_names_no_tpus_of_a_model_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        check_for_model(text)


def test_a_model_is_waited_for_where_it_is_placed() -> None:
    state = changes.deploy(DesiredState(1), Reference("m", 2), Where(tpus=("w2:cpu",)))
    status = ServingStatus({name: BoardSaid(BoardState(name, 1, True)) for name in ("w1", "w2")})
    assert judge(state, status, ["w1", "w2"], "m").followed == ("w1",)
    moved = replace(state, placement=(PlacedModel("m", ("w1",)),))
    assert judge(moved, status, ["w1", "w2"], "m").followed == ("w2",)


def test_what_the_head_moves_meanwhile_is_followed_too() -> None:
    """A model that leaves boards was everywhere until the head had looked at them: one that has dropped it is there."""
    narrow = replace(changes.deploy(DesiredState(5), Reference("m", 1), Where(("w1",))), revision=7)
    wide = replace(narrow, revision=6, placement=(PlacedModel("m", ()),))
    has = VersionState("m", 1, AVAILABLE)

    class Head:
        """A head that places the model between two looks of the boards."""

        looks = 0

        def call(self, request: Any, timeout: float) -> Any:
            if isinstance(request, ShowServing):
                return Desired(narrow if self.looks > 1 else wide, ready=True)
            self.looks += 1
            second = self.looks > 1
            boards = {"w1": said(7 if second else 5, has), "w2": said(7) if second else said(6, has)}
            return ServingStatus(boards)

    serving = object.__new__(Serving)
    serving._node, serving._shared = Head(), "/srv"  # type: ignore[assignment]
    serving._places = {"w1": "10.0.0.1:8000", "w2": "10.0.0.2:8000"}
    first, last = serving.follow(wide, 60.0, "m")
    assert first.followed == ("w2",) and last.followed == ("w1", "w2")
