"""The data plane without a transport: which version a request means, what is refused, what the answer says."""

from __future__ import annotations

import asyncio
import io
import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import serve_place as place
from PIL import Image

from clusteradm import shipped
from clusteradm.node.serve import dispatch
from clusteradm.node.serve.dispatch import Dispatch
from clusteradm.node.serve.link import EngineGone, Link, Reply
from clusteradm.node.serve.loaded import Loaded
from clusteradm.node.serve.plane import (
    BYTES,
    DEADLINE,
    INVALID,
    NOT_FOUND,
    UNAVAILABLE,
    Answer,
    Refusal,
    Request,
    Tensor,
)
from clusteradm.node.serve.routing import Model, Routing
from clusteradm.node.spec.wire.serving import LOADING, BoardState, VersionState


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Dispatch:
    shared = tmp_path_factory.mktemp("shared")
    for version in (1, 2):
        place.deploy(shared, version=version)
    return place.plane(shared, {"digits": [1, 2]}, digits={"stable": 1})


def infer(plane: Dispatch, request: Request) -> Answer:
    return asyncio.run(plane.infer(request))


def refused(plane: Dispatch, request: Request) -> Refusal:
    with pytest.raises(Refusal) as caught:
        infer(plane, request)
    return caught.value


def test_an_answer_says_what_and_where_from(plane: Dispatch) -> None:
    answer = infer(plane, Request("digits", [place.tensor(place.drawn())], id="7", answer=True))
    assert (answer.model, answer.version, answer.id) == ("digits", 2, "7")
    assert (answer.board, answer.device, answer.simulated) == ("board-1", "cpu", False)
    (output,) = answer.outputs
    assert (output.name, output.datatype, output.shape) == (place.OUTPUT, "UINT8", (1, 10))
    assert int(np.argmax(output.data)) == 1
    assert answer.result is not None
    assert answer.result["top"][0]["class"] == 1
    assert answer.result["top"][0]["label"] == "1"


def test_what_has_nothing_for_a_tpu_ran_on_the_cpu_beside_it(plane: Dispatch, monkeypatch: pytest.MonkeyPatch) -> None:
    link = plane.links[0]
    monkeypatch.setattr(link, "device", "0000:01:00.0")
    monkeypatch.setattr(link, "simulated", True)
    request = Request("digits", [place.tensor(place.drawn())])
    answer = infer(plane, request)
    assert (answer.device, answer.simulated) == ("cpu", False)
    # A compiled one, and the same request again, whose numbers alone are read.
    loaded = plane.routing.find("digits").loaded
    for on_tpu, wanted in ((False, ("cpu", False)), (True, ("0000:01:00.0", True))):
        monkeypatch.setattr(loaded, "on_tpu", on_tpu)
        answer = infer(plane, request)
        assert (answer.device, answer.simulated) == wanted
        assert asyncio.run(repeated(plane, request)) == wanted


async def repeated(plane: Dispatch, request: Request) -> tuple[str, bool]:
    again, future = plane.again(request), asyncio.get_running_loop().create_future()
    assert again is not None
    assert again.begin([place.drawn().tobytes()], future.set_result) is not None
    answer = await asyncio.wait_for(future, 60)
    assert isinstance(answer, Answer)
    return answer.device, answer.simulated


def test_a_version_a_label_or_the_default(plane: Dispatch) -> None:
    tensors = [place.tensor(place.drawn())]
    assert infer(plane, Request("digits", tensors, version=1)).version == 1
    assert infer(plane, Request("digits", tensors, label="stable")).version == 1
    assert refused(plane, Request("digits", tensors, version=3)).kind == NOT_FOUND
    assert refused(plane, Request("digits", tensors, label="beta")).kind == NOT_FOUND
    assert refused(plane, Request("mobilenet", tensors)).kind == NOT_FOUND


def test_the_default_is_what_the_head_says_and_never_the_canary(plane: Dispatch) -> None:
    model = plane.routing.models["digits"]

    def default(name: str | None, canary: int | None) -> int:
        return Routing({"digits": Model(model.versions, model.labels, name, canary)}).find("digits").loaded.version

    assert [default(None, None), default("stable", None), default("1", None)] == [2, 1, 1]
    assert [default(None, 2), default(None, 1)] == [1, 2]


def test_what_is_not_loaded_yet_says_why() -> None:
    states = [VersionState("m", 3, LOADING, "it is copied")]
    with pytest.raises(Refusal, match="model m version 3: it is copied") as caught:
        Routing({"m": Model({}, {}, None, None)}, states).find("m")
    assert caught.value.kind == UNAVAILABLE
    assert caught.value.retry_after


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        ([], "needs the input"),
        ([place.tensor(place.drawn(), "x")], "has no input x: its inputs are"),
        ([place.tensor(place.drawn())] * 2, "given twice"),
        ([place.tensor(np.zeros((1, 28, 28, 3)))], r"the shape \[1, 28, 28, 1\], not \[1, 28, 28, 3\]"),
        ([place.tensor(np.zeros((2, 28, 28, 1)))], r"not \[2, 28, 28, 1\]"),
        ([place.tensor(np.zeros(784))], r"not \[784\]"),
        ([Tensor(place.INPUT, "UINT8", (1, 28, 28, 1), [1, 2, 3])], "cannot reshape"),
        ([Tensor(place.INPUT, "UINT8", (1, 28, 28, 1), [["x"]])], "invalid literal"),
        ([Tensor(place.INPUT, "FP32", (1, 28, 28, 1), place.drawn().astype(np.float32))], "is UINT8, not FP32"),
        ([Tensor(place.INPUT, BYTES, (1,), [b"no picture"])], "not a picture that can be read"),
        ([Tensor(place.INPUT, BYTES, (2,), [b"a", b"b"])], "2 pictures"),
        ([Tensor("x", BYTES, (1,), [b"a"])], "has no input x"),
    ],
)
def test_a_request_that_does_not_fit_says_what_would(plane: Dispatch, tensors: list[Tensor], text: str) -> None:
    with pytest.raises(Refusal, match=text) as caught:
        infer(plane, Request("digits", tensors))
    assert caught.value.kind == INVALID


def test_other_refusals(plane: Dispatch) -> None:
    tensors = [place.tensor(place.drawn())]
    assert refused(plane, Request("digits", tensors, outputs=["y"])).kind == INVALID
    assert refused(plane, Request("digits", tensors, deadline=time.monotonic() - 1)).kind == DEADLINE
    assert "sequence_id" in str(refused(plane, Request("digits", tensors, parameters={"sequence_id": 5})))
    assert refused(plane, Request("digits", tensors, parameters={"top": -1}, answer=True)).kind == INVALID


def test_a_picture_is_taken_for_the_input(plane: Dispatch) -> None:
    file = io.BytesIO()
    Image.fromarray(place.drawn()[0, :, :, 0]).resize((56, 56)).save(file, "PNG")
    answer = infer(plane, Request("digits", [Tensor(place.INPUT, BYTES, (1,), [file.getvalue()])], answer=True))
    assert int(np.argmax(answer.outputs[0].data)) == 1


def test_rows_are_split_and_joined(plane: Dispatch) -> None:
    rows = np.concatenate([np.zeros((1, 28, 28, 1), np.uint8), place.drawn(), np.zeros((1, 28, 28, 1), np.uint8)])
    answer = infer(plane, Request("digits", [place.tensor(rows)], rows=True))
    (output,) = answer.outputs
    assert output.shape == (3, 10)
    alone = infer(plane, Request("digits", [place.tensor(place.drawn())])).outputs[0].data
    assert np.array_equal(output.data[1:2], alone)
    assert not np.array_equal(output.data[0], output.data[1])
    assert refused(plane, Request("digits", [place.tensor(np.zeros((0, 28, 28, 1)))], rows=True)).kind == INVALID


class Ends(Link):
    """An engine that ends under its first request."""

    number, device, simulated = 1, "0000:01:00.0", True
    calls = 0

    @property
    def ready(self) -> bool:
        return not self.calls

    def load(self, key: int) -> float:
        return -1.0

    async def call(self, version: Loaded, inputs: Sequence[Any], deadline: float | None, priority: int) -> Reply:
        self.calls += 1
        raise EngineGone("it was lost")


def test_a_request_whose_engine_ends_goes_to_another(plane: Dispatch) -> None:
    entry = plane.routing.models["digits"].versions[2]._replace(engines=(0, 1))
    ends = Ends()
    other = Dispatch("b", lambda: BoardState("b", 1, True))
    other.routing = Routing({"digits": Model({2: entry}, {}, None, None)})
    other.links = {0: plane.links[0], 1: ends}
    assert infer(other, Request("digits", [place.tensor(place.drawn())])).device == "cpu"
    assert ends.calls == 1
    other.links = {1: Ends()}
    refusal = refused(other, Request("digits", [place.tensor(place.drawn())]))
    assert refusal.kind == UNAVAILABLE
    assert "it was lost" in str(refusal)


def test_a_patient_request_waits_for_an_engine(plane: Dispatch) -> None:
    entry = plane.routing.models["digits"].versions[2]
    other = Dispatch("b", lambda: BoardState("b", 1, True))
    other.routing = Routing({"digits": Model({2: entry}, {}, None, None)})
    tensors = [place.tensor(place.drawn())]
    assert not other.able
    assert refused(other, Request("digits", tensors)).kind == UNAVAILABLE

    async def late(patient: bool) -> Answer:
        asked = asyncio.ensure_future(other.infer(Request("digits", tensors, patient=patient)))
        await asyncio.sleep(0)
        assert not asked.done()
        other.links = plane.links
        return await asked

    # Any other for a moment, for which a balancer counts it and sends the next ones to boards that can.
    for patient in (True, False):
        assert asyncio.run(late(patient)).version == 2
        other.links = {}
    began = time.monotonic()
    assert refused(other, Request("other", tensors)).kind == NOT_FOUND
    other.routing = Routing(other.routing.models, [VersionState("new", 1, LOADING)])
    assert refused(other, Request("new", tensors)).kind == UNAVAILABLE
    assert time.monotonic() - began < 0.2  # of which no wait here would change anything
    other.links = {}
    with pytest.raises(Refusal, match="no engine"):
        asyncio.run(other.infer(Request("digits", tensors, patient=True, deadline=time.monotonic() + 0.1)))

    async def leaving(patient: bool) -> Refusal:
        other.routing = Routing({"digits": Model({2: entry}, {}, None, None)})
        asked = asyncio.ensure_future(other.infer(Request("digits", tensors, patient=patient)))
        await asyncio.sleep(0)
        other.routing = Routing({})  # as of a server that ends
        with pytest.raises(Refusal) as caught:
            await asked
        return caught.value

    for patient in (True, False):
        assert asyncio.run(leaving(patient)).kind == UNAVAILABLE


def test_a_board_without_an_engine_is_out_of_rotation_before_haproxy_gives_up() -> None:
    text = (shipped.TEMPLATES / "head/etc/haproxy/haproxy.cfg.j2").read_text()
    (retries,) = re.findall(r"^    retries (\d+)$", text, re.M)
    ((inter, fast, fall),) = re.findall(r" check inter (\d+)ms fastinter (\d+)ms .* fall (\d+) ", text)
    until_down = int(inter) + int(fast) * (int(fall) - 1)
    assert 1000 * dispatch._MOMENT * (int(retries) + 1) > 1.5 * until_down


def test_what_a_client_asks_about_a_model(plane: Dispatch) -> None:
    info = asyncio.run(plane.info("digits", label="stable"))
    assert (info.version, list(info.versions), info.labels) == (1, [1, 2], {"stable": 1})
    assert [(each.name, each.datatype, each.shape) for each in info.inputs] == [(place.INPUT, "UINT8", (1, 28, 28, 1))]
    assert (info.task, info.picture, info.class_names[7]) == ("classifier", True, "7")
    assert asyncio.run(plane.ready("digits"))
    with pytest.raises(Refusal):
        asyncio.run(plane.ready("digits", 9))
    assert [(each.name, each.version) for each in asyncio.run(plane.states("digits"))] == [("digits", 1), ("digits", 2)]
    assert asyncio.run(plane.states("other")) == []


def test_what_another_board_has_is_for_a_balancer_to_send_there(plane: Dispatch) -> None:
    routing = Routing(plane.routing.models, (), {"faces": "w2, w3"})
    with pytest.raises(Refusal, match="faces is not on this board: ask w2, w3") as caught:
        routing.find("faces", 3)
    assert (caught.value.kind, caught.value.retry_after) == (UNAVAILABLE, 1.0)
    with pytest.raises(Refusal) as caught:
        routing.find("other")
    assert caught.value.kind == NOT_FOUND
