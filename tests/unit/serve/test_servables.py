"""Servables of other kinds in one process: what the protocols say, ensembles, and what is refused."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import servable_definitions as definitions
import serve_front
import serve_place as place

from clusteradm.errors import UsageError
from clusteradm.node.serve.dispatch import Dispatch
from clusteradm.node.serve.loaded import Loaded
from clusteradm.node.serve.plane import BYTES, DEADLINE, INVALID, UNAVAILABLE, Answer, Refusal, Request, Tensor
from clusteradm.node.serve.routes import Routes
from clusteradm.node.serve.servables import frames, members, process
from clusteradm.node.serve.table import TableModel, TableVersion
from clusteradm.node.spec.wire.serving import ServedModel, VersionPolicy

pytest.importorskip("aiohttp")

PLAIN = """
kind: transform
inputs: [{name: x, datatype: FP32, shape: [-1, 2]}]
features: [{op: standardise, input: x, output: y, mean: 1, std: 2}]
outputs: [y]
"""
NAMES = ("colours", "shades", "words", "names", "features", "look")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shared = tmp_path_factory.mktemp("place") / "shared"
    shared.mkdir()
    definitions.deploy_all(shared, tmp_path_factory.mktemp("files"))
    place.define(shared, "plain", PLAIN)
    return shared


@pytest.fixture(scope="module")
def plane(stored: Path) -> Dispatch:
    return place.plane(stored, {name: [1] for name in (*NAMES, "plain")}, shades={"stable": 1})


@pytest.fixture(scope="module")
def server(plane: Dispatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[serve_front.Server]:
    with serve_front.serving(plane, tmp_path_factory.mktemp("front")) as found:
        yield found


def texts(name: str, *values: bytes, shape: tuple[int, ...] | None = None) -> Tensor:
    return Tensor(name, BYTES, (len(values),) if shape is None else shape, list(values))


def ask(plane: Dispatch, model: str, *inputs: Tensor, **more: Any) -> Answer:
    return asyncio.run(plane.infer(Request(model, inputs, **more)))


def refused(plane: Dispatch, model: str, *inputs: Tensor, **more: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        ask(plane, model, *inputs, **more)
    return caught.value


def outputs(answer: Answer) -> dict[str, Any]:
    return {each.name: each.data for each in answer.outputs}


def test_an_ensemble_is_walked_and_says_where_it_ran(plane: Dispatch) -> None:
    near = plane.links[1]
    assert isinstance(near, place.Near)
    near.asked.clear()
    deadline = time.monotonic() + 60
    answer = ask(plane, "look", texts("picture", definitions.picture()), deadline=deadline, priority=-7, id="me")
    found = outputs(answer)
    assert np.allclose(found["boxes"], [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.25]])
    assert np.allclose(found["shades"], [[1, 0, 0]] * 2)
    assert (found["labels"], found["names"]) == ([b"red", b"red"], [b"red one", b"red one"])
    assert found["top"].tolist() == [[0, 1], [0, 1]]
    assert (answer.model, answer.version, answer.device, answer.board, answer.id) == ("look", 1, "cpu", "board-1", "me")
    # Deadline and priority go to every step.
    assert {each[1:] for each in near.asked} == {(deadline, -7)}


INNER = """
kind: ensemble
inputs: [{name: real, datatype: FP32, shape: [-1, 16, 16, 3]}]
steps:
  - {name: one, model: shades, inputs: {in: real}}
  - {name: many, op: top_k, inputs: {scores: one.out}, most: 1}
outputs: [{name: best, from: many.indices}, {name: label, from: one.labels}]
"""
OUTER = """
kind: ensemble
inputs: [{name: real, datatype: FP32, shape: [2, 16, 16, 3]}]
steps:
  - {name: inner, model: inner, inputs: {real: real}}
  - {name: named, model: names, inputs: {class: inner.best}}
outputs: [{name: name, from: named.name}, {name: label, from: inner.label}]
"""


def test_an_ensemble_in_another_and_real_numbers_for_a_quantised_model(tmp_path: Path, stored: Path) -> None:
    shared = tmp_path / "shared"
    shutil.copytree(stored, shared)
    place.define(shared, "inner", INNER)
    with pytest.raises(UsageError) as caught:
        place.define(shared, "outer", OUTER)
    assert "step named: its input class is INT32 [-1], and gets INT32 [-1, 1]" in str(caught.value)
    place.define(
        shared, "flat", definitions.NAMES.replace("shape: [-1]", "shape: [-1, 1]"), names_json=b'["a", "b", "c"]'
    )
    place.define(shared, "outer", OUTER.replace("model: names", "model: flat"), 2)
    plane = place.plane(shared, {"shades": [1], "inner": [1], "flat": [1], "outer": [2]})
    real = np.zeros((2, 16, 16, 3), np.float32)
    real[0, :, :, 1], real[1, :, :, 2] = 0.9, 0.4
    found = outputs(ask(plane, "outer", Tensor("real", "FP32", real.shape, real)))
    assert found == {"name": [b"b", b"c"], "label": [b"green", b"blue"]}
    assert asyncio.run(plane.ready("outer"))
    del plane.routing.models["shades"]
    assert not asyncio.run(plane.ready("outer"))
    real[0, 0, 0, 0] = np.nan
    error = refused(
        place.plane(shared, {"shades": [1], "inner": [1]}), "inner", Tensor("real", "FP32", real.shape, real)
    )
    assert (error.kind, "step one: its input in: it has NaN" in str(error)) == (INVALID, True)


def test_only_the_steps_that_an_output_needs_are_done(plane: Dispatch) -> None:
    near = plane.links[1]
    assert isinstance(near, place.Near)
    near.asked.clear()
    answer = ask(plane, "look", texts("picture", definitions.picture()), outputs=["boxes"])
    assert list(outputs(answer)) == ["boxes"]
    assert len(near.asked) == 3  # decoded, small, good


def test_a_picture_with_nothing_in_it_has_results_without_rows(plane: Dispatch) -> None:
    answer = ask(plane, "look", texts("picture", definitions.picture("black", "black")))
    found = {each.name: each.shape for each in answer.outputs}
    assert found == {"boxes": (0, 4), "scores": (0,), "shades": (0, 3), "top": (0, 2), "labels": (0,), "names": (0,)}


def test_what_a_step_refuses_names_it(plane: Dispatch) -> None:
    error = refused(plane, "look", texts("picture", b"no picture"))
    assert error.kind == INVALID
    assert str(error).startswith("step decoded: not a picture")
    late = refused(plane, "look", texts("picture", b""), deadline=time.monotonic() - 1)
    assert late.kind == DEADLINE
    without = Dispatch("b", plane._state)
    models = {name: model for name, model in plane.routing.models.items() if name != "shades"}
    without.routing, without.links = type(plane.routing)(models), plane.links
    error = refused(without, "look", texts("picture", definitions.picture()))
    assert (error.kind, str(error)) == (UNAVAILABLE, "step shade: no model shades is served here")


@pytest.mark.parametrize(
    ("model", "inputs", "said"),
    [
        ("words", [texts("word", b"cat", shape=(1, 1))], "has the shape [-1], not [1, 1]"),
        ("words", [Tensor("word", "INT64", (1,), np.array([1]))], "is BYTES, not INT64"),
        ("words", [texts("words", b"cat")], "has no input words"),
        ("words", [texts("word", b"cat", b"dog", shape=(3,))], "2 elements, and not as many in its shape"),
        ("names", [Tensor("class", "INT32", (1,), np.array([3], np.int32))], "3 is not in its table"),
        ("look", [texts("picture", b"", b"")], "has the shape [1], not [2]"),
        (
            "features",
            [
                Tensor("age", "FP32", (1, 1), np.zeros((1, 1), np.float32)),
                texts("colour", b"red", b"red"),
                Tensor("city", "INT64", (1,), np.array([0])),
            ],
            "feature all: its inputs have different numbers of rows",
        ),
    ],
)
def test_a_wrong_request_is_refused(plane: Dispatch, model: str, inputs: list[Tensor], said: str) -> None:
    error = refused(plane, model, *inputs)
    assert error.kind == INVALID
    assert said in str(error)


def test_over_http(server: serve_front.Server) -> None:
    got = server.ask("GET", "/v2/models/words").json
    assert got["platform"] == "lookup"
    assert got["inputs"] == [{"name": "word", "datatype": "BYTES", "shape": [-1]}]
    assert got["outputs"] == [{"name": "number", "datatype": "INT64", "shape": [-1]}]
    predict = "/v1/models/words:predict"
    assert server.ask("POST", predict, {"instances": ["dog", "x"]}).json == {"predictions": [9, -1]}
    assert server.ask("POST", predict, {"instances": [{"word": "dog"}]}).json == {"predictions": [9]}
    assert server.ask("POST", predict, {"instances": [{"word": {"b64": "ZG9n"}}]}).json == {"predictions": [9]}
    assert server.ask("POST", predict, {"inputs": ["cat", {"b64": "ZG9n"}]}).json == {"outputs": [7, 9]}
    rows = {"instances": [0, 2]}
    assert server.ask("POST", "/v1/models/names:predict", rows).json == {"predictions": ["red one", "blue one"]}
    wrong = server.ask("POST", predict, {"instances": [["dog"], ["cat", "dog"]]})
    assert (wrong.status, "different lengths" in wrong.json["error"]) == (400, True)
    one = {"age": [50], "colour": "red", "city": 1}
    found = server.ask("POST", "/v1/models/features:predict", {"instances": [one, one]}).json
    assert found["predictions"] == [{"all": [1, 1, 0, 3, 4], "quantised": [5, 5, 3, 9, 11]}] * 2
    # Bytes behind the JSON, both ways.
    head = {"name": "word", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 7}}
    text = json.dumps({"inputs": [head], "parameters": {"binary_data_output": True}}).encode()
    body = text + (3).to_bytes(4, "little") + b"dog"
    headers = {"Inference-Header-Content-Length": str(len(text))}
    got = server.ask("POST", "/v2/models/words/infer", body, headers)
    assert got.body[int(got.headers["inference-header-content-length"]) :] == (9).to_bytes(8, "little")
    assert got.headers["clusteradm-tpu"] == "cpu"


def test_the_same_request_again_with_other_numbers(server: serve_front.Server) -> None:
    shape = [2, 2]
    for numbers in ([1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 0, 0]):
        data = np.array(numbers, "<f4").tobytes()
        head = {"name": "x", "datatype": "FP32", "shape": shape, "parameters": {"binary_data_size": len(data)}}
        text = json.dumps({"inputs": [head], "parameters": {"binary_data_output": True}}).encode()
        headers = {"Inference-Header-Content-Length": str(len(text))}
        got = server.ask("POST", "/v2/models/plain/infer", text + data, headers)
        assert got.status == 200, got.body
        found = np.frombuffer(got.body[int(got.headers["inference-header-content-length"]) :], "<f4")
        assert found.tolist() == [(each - 1) / 2 for each in numbers]


def test_with_tritons_client(server: serve_front.Server) -> None:
    triton = pytest.importorskip("tritonclient.grpc")
    client = triton.InferenceServerClient(server.rpc)
    picture = triton.InferInput("picture", [1], "BYTES")
    picture.set_data_from_numpy(np.array([definitions.picture()], object))
    answer = client.infer("look", [picture])
    assert answer.as_numpy("names").tolist() == [b"red one", b"red one"]
    assert answer.as_numpy("boxes").shape == (2, 4)
    assert client.get_model_metadata("look").platform == "ensemble"
    assert client.get_model_config("look").config.backend == "ensemble"


def test_over_tensorflow_servings_grpc(server: serve_front.Server) -> None:
    import grpc

    from clusteradm.node.serve.fronts.proto import tfserving_pb2 as pb

    with grpc.insecure_channel(server.rpc) as channel:
        path = "/tensorflow.serving.PredictionService/Predict"
        call = channel.unary_unary(path, pb.PredictRequest.SerializeToString, pb.PredictResponse.FromString)
        request = pb.PredictRequest()
        request.model_spec.name = "words"
        tensor = request.inputs["word"]
        tensor.dtype = 7
        tensor.tensor_shape.dim.add(size=100)
        tensor.string_val.extend([b"cat"] * 100)
        found = call(request).outputs["number"]
        assert np.frombuffer(found.tensor_content, "<i8").tolist() == [7] * 100


def routes(plane: Dispatch, *names: str) -> list[TableModel]:
    found = []
    for name in names:
        model = plane.routing.models[name]
        versions = tuple(TableVersion(each.loaded, each.engines) for each in model.versions.values())
        found.append(TableModel(name, versions, model.labels))
    return found


@dataclass
class Desired:
    """What a board is to serve, of which all is loaded. `named`: the label stable of each model."""

    loaded: list[Loaded]
    named: dict[str, int]
    withheld: dict[tuple[str, int], str] = field(default_factory=dict)

    def models(self) -> list[ServedModel]:
        return [ServedModel(name, VersionPolicy()) for name in sorted({each.name for each in self.loaded})]

    def labels(self, name: str) -> dict[str, int]:
        return {"stable": self.named[name]} if name in self.named else {}

    def elsewhere(self) -> dict[str, str]:
        return {}

    def served(self) -> list[tuple[tuple[str, int, str], int]]:
        return [((each.name, each.version, ""), each.key) for each in self.loaded]


def test_a_label_does_not_move_to_an_ensemble_that_lacks_something(plane: Dispatch) -> None:
    loaded = [plane.routing.models[name].versions[1].loaded for name in NAMES]
    look = next(each for each in loaded if each.name == "look")
    servable = look.servable
    assert servable is not None
    other = [replace(step, model="absent") if step.model == "names" else step for step in servable.steps]
    second = replace(look, key=99, version=2, servable=replace(servable, steps=tuple(other)))
    desired = Desired(loaded, {"look": 1, "shades": 1})
    routes = Routes(cast(Any, desired))
    engine = SimpleNamespace(number=1, loaded={each.key: each for each in loaded}, failures={})

    def routed() -> tuple[dict[str, int], list[int]]:
        found = {model.name: model for model in routes.models(cast(Any, [engine]))}["look"]
        return found.labels, [each.loaded.version for each in found.versions]

    assert routed() == ({"stable": 1}, [1])
    desired.loaded, desired.named["look"] = [*loaded, second], 2
    engine.loaded[99] = second
    assert routed() == ({"stable": 1}, [1])
    assert list(desired.withheld) == [("look", 2)]
    engine.loaded[99] = replace(look, key=99, version=2)
    assert routed() == ({"stable": 2}, [1, 2])


def test_an_ensemble_waits_for_what_it_is_of(plane: Dispatch) -> None:
    assert members.withheld(routes(plane, *NAMES)) == {}
    without = [name for name in NAMES if name != "names"]
    assert members.withheld(routes(plane, *without)) == {
        ("look", 1): "step named: model names is not served here: clusteradm serve deploy names"
    }
    (reason,) = members.withheld(routes(plane, *without), {"names": "w2, w3"}).values()
    assert "model names is on other boards (w2, w3)" in reason and "serve deploy names --tpus all" in reason
    models = routes(plane, *NAMES)
    for model in models:
        model.labels.clear()
    (reason,) = members.withheld(models).values()
    assert reason == "step shade: model shades@stable is not available here: clusteradm serve status says more of it"


def test_outputs_that_no_frame_holds_are_an_error_of_their_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MOST_BODY", 1000)
    document, arrays = sent(process._packed({"id": 7, "status": frames.DONE}, {"y": np.zeros(2000, np.uint8)}))
    assert (document["id"], document["status"], arrays) == (7, frames.INVALID, {})
    assert "more than 1000 bytes" in document["text"]
    document, arrays = sent(process._packed({"id": 8, "status": frames.DONE}, {"y": np.zeros(10, np.uint8)}))
    assert document["status"] == frames.DONE and arrays["y"].size == 10


def test_a_request_that_there_is_no_memory_to_unpack_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(text: bytes, body: bytearray) -> Any:
        raise MemoryError

    here, there = socket.socketpair()
    with here, there:
        for piece in frames.pack({"id": 9, "do": "run"}, {"x": np.zeros(10, np.uint8)}):
            here.sendall(piece)
        monkeypatch.setattr(frames, "unpack", unpack)
        document, arrays, _ = process._read(there)
    assert document["id"] == 9 and arrays is None


def sent(pieces: list[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the other side makes of a frame."""
    whole = b"".join(bytes(piece) for piece in pieces)
    text, _ = struct.unpack_from(frames.HEAD.format, whole)
    start = frames.HEAD.size
    return frames.unpack(whole[start : start + text], bytearray(whole[start + text :]))
