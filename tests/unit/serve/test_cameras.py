"""What the cameras' programs send: Frigate's two detectors, Home Assistant and Blue Iris (DeepStack), DOODS.

The model that answers finds a picture's colours: their means are its scores.
"""

from __future__ import annotations

import base64
import io
import json
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import zmq
from PIL import Image
from serve_front import Got, Server

from clusteradm.node.serve.dispatch import Dispatch
from clusteradm.node.serve.fronts import calls
from clusteradm.node.serve.fronts import frigate as frigate_front
from clusteradm.node.serve.index import Detector, Index
from clusteradm.node.serve.routing import Model, Routing
from clusteradm.node.spec.wire.serving import AVAILABLE, END, LOADING, VersionState

ORANGE = (255, 153, 0)  # 100 % red, 60 % green
DETECTION = "/v1/vision/detection"


def jpeg(width: int = 320, height: int = 160, colour: tuple[int, int, int] = ORANGE) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "JPEG", quality=95)
    return file.getvalue()


def form(fields: dict[str, bytes], files: tuple[str, ...] = ("image",)) -> tuple[bytes, dict[str, str]]:
    """As the requests library writes it, and with it Frigate and others."""
    boundary = uuid.uuid4().hex
    body = b""
    for name, value in fields.items():
        file = f'; filename="{name}"' if name in files else ""
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        body += head.encode() + value + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def detect(server: Server, fields: dict[str, bytes], path: str = DETECTION) -> Got:
    body, headers = form(fields)
    return server.ask("POST", path, body, headers)


def test_frigate_deepstack(server: Server) -> None:
    got = detect(server, {"api_key": b"", "image": jpeg(32, 32)})
    assert got.status == 200, got
    assert got.json["success"] is True
    red, green = got.json["predictions"]
    assert (red["label"], green["label"]) == ("red", "green")
    assert red["confidence"] == pytest.approx(1, abs=0.02) and green["confidence"] == pytest.approx(0.6, abs=0.02)
    assert [red[name] for name in ("x_min", "y_min", "x_max", "y_max")] == [0, 0, 16, 16]
    assert [green[name] for name in ("x_min", "y_min", "x_max", "y_max")] == [16, 8, 32, 24]
    assert got.json["board"] == "board-1" and got.json["tpu"] == "cpu" and got.headers["clusteradm-tpu"] == "cpu"


def test_boxes_are_in_pixels_of_the_picture(server: Server) -> None:
    green = detect(server, {"image": jpeg(320, 160)}).json["predictions"][1]
    assert [green[name] for name in ("x_min", "y_min", "x_max", "y_max")] == [160, 40, 320, 120]


def test_blue_iris_says_how_sure_it_wants_to_be(server: Server) -> None:
    for least, labels in ((b"0.9", ["red"]), (b"0", ["red", "green", "blue"]), (b"", ["red", "green"])):
        got = detect(server, {"image": jpeg(), "min_confidence": least})
        assert [each["label"] for each in got.json["predictions"]] == labels


def test_models_by_name(server: Server) -> None:
    assert detect(server, {"image": jpeg()}, "/v1/vision/custom/colours").json["predictions"][0]["label"] == "red"
    assert server.ask("POST", "/v1/vision/custom/list").json["models"] == ["colours"]
    got = detect(server, {"image": jpeg()}, "/v1/vision/custom/digits")
    assert got.status == 400 and "finds no objects" in got.json["error"]
    scene = detect(server, {"image": jpeg()}, "/v1/vision/scene").json
    assert scene["success"] and scene["model"] == "digits" and 0 < scene["confidence"] <= 1


def test_a_model_that_is_not_ready_costs_no_other(server: Server) -> None:
    plane = server.plane
    assert isinstance(plane, Dispatch)
    before = plane.routing
    states = [*before.states, VersionState("a-new-one", 1, LOADING), VersionState("a-starting-one", 1, AVAILABLE)]
    models = {**before.models, "a-new-one": Model({}, {}, None, None), "a-starting-one": Model({}, {}, "1", None)}
    plane.routing = Routing(models, states)
    try:
        assert detect(server, {"image": jpeg()}, "/v1/vision/scene").json["model"] == "digits"
        assert detect(server, {"image": jpeg()}).json["model"] == "colours"
        assert server.ask("POST", "/v1/vision/custom/list").json["models"] == ["colours"]
        shown = server.ask("GET", "/clusteradm/overview").json["models"]
        assert [each["name"] for each in shown] == ["colours", "digits"]
    finally:
        plane.routing = before


def test_what_is_being_loaded_may_be_the_model_that_is_asked_for(server: Server) -> None:
    plane = server.plane
    assert isinstance(plane, Dispatch)
    before = plane.routing
    picture = base64.b64encode(jpeg()).decode()

    def ask() -> list[int]:
        forms = [detect(server, {"image": jpeg()}, path) for path in (DETECTION, "/v1/vision/scene")]
        doods = server.ask("POST", "/detect", json.dumps({"data": picture}).encode())
        return [each.status for each in (*forms, doods)]

    try:
        plane.routing = Routing({"new": Model({}, {}, None, None)}, [VersionState("new", 1, LOADING)])
        assert ask() == [503] * 3
        got = detect(server, {"image": jpeg()})
        assert "new version 1 is not loaded yet" in got.json["error"] and got.headers["retry-after"] == "1"
        plane.routing = Routing({}, [VersionState("new", 1, END, "it is damaged")])
        assert ask() == [404] * 3
    finally:
        plane.routing = before


def test_detectors_of_other_boards_are_named_too(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    faces, mine = Detector("faces", 3, ("face",), (1, 240, 320, 3)), Detector("colours", 9)

    async def index() -> Index:
        return Index(detectors=(faces, mine))

    monkeypatch.setattr(server.plane, "index", index)
    assert server.ask("POST", "/v1/vision/custom/list").json["models"] == ["colours", "faces"]
    colours, other = server.ask("GET", "/detectors").json["detectors"]
    assert colours["labels"] == ["red", "green", "blue"]
    assert (other["model"], other["labels"], other["width"], other["height"]) == ("faces:3", ["face"], 320, 240)


def test_a_picture_without_a_form(server: Server) -> None:
    got = server.ask("POST", DETECTION, jpeg(), {"Content-Type": "image/jpeg"})
    assert got.json["predictions"][0]["label"] == "red"


@pytest.mark.parametrize(
    ("fields", "path", "status", "text"),
    [
        ({}, DETECTION, 400, "form"),
        ({"api_key": b"x"}, DETECTION, 400, "no picture"),
        ({"image": b""}, DETECTION, 400, "no picture"),
        ({"image": b"not one"}, DETECTION, 400, "not a picture"),
        ({"image": jpeg(), "min_confidence": b"high"}, DETECTION, 400, "min_confidence"),
        ({"image": jpeg()}, "/v1/vision/custom/other", 404, "no model other"),
        ({"image": jpeg()}, "/v1/vision/face", 404, "detection"),
    ],
)
def test_refusals_in_deepstacks_form(
    server: Server, fields: dict[str, bytes], path: str, status: int, text: str
) -> None:
    got = detect(server, fields, path)
    assert got.status == status and got.json["success"] is False and text in got.json["error"], got


def test_doods(server: Server) -> None:
    (detector,) = server.ask("GET", "/detectors").json["detectors"]
    assert (detector["name"], detector["width"], detector["height"], detector["channels"]) == ("colours", 32, 32, 3)
    assert detector["labels"] == ["red", "green", "blue"]
    data = base64.b64encode(jpeg()).decode()
    for name in ("default", "colours"):
        asked = {"detector_name": name, "data": data, "detect": {"*": 50}}
        red, green = server.ask("POST", "/detect", asked).json["detections"]
        assert red["label"] == "red" and red["confidence"] == pytest.approx(100, abs=2)
        assert [green[side] for side in ("left", "top", "right", "bottom")] == [0.5, 0.25, 1, 0.75]
    found = server.ask("POST", "/detect", {"data": data, "detect": {"green": 10}}).json["detections"]
    assert [each["label"] for each in found] == ["green"]
    for asked, status in (
        ({"data": "%"}, 400),
        ({}, 400),
        ([], 400),
        ({"data": data, "detect": {"*": "much"}}, 400),
        ({"data": data, "detector_name": "other"}, 404),
        # Never another detector, or another part of the picture, than was asked for.
        ({"data": data, "detector_name": 5}, 400),
        ({"data": data, "detector_name": ["colours"]}, 400),
        ({"data": data, "regions": [{"top": 0.5, "left": 0, "bottom": 1, "right": 1, "detect": {"*": 1}}]}, 400),
    ):
        got = server.ask("POST", "/detect", asked)
        assert got.status == status and got.json["error"], got


@pytest.fixture
def frigate(server: Server) -> Iterator[Any]:
    """A socket as Frigate's zmq detector opens it, with more patience."""
    context = zmq.Context()
    socket = context.socket(zmq.REQ)
    socket.setsockopt(zmq.RCVTIMEO, 60000)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(f"tcp://127.0.0.1:{server.zmq}")
    yield socket
    socket.close()
    context.term()


def frames(image: Any, **changes: Any) -> list[bytes]:
    header = {"shape": list(image.shape), "dtype": image.dtype.name, "model_type": "ssd", **changes}
    return [json.dumps(header).encode(), image.tobytes(order="C")]


def test_frigate_zmq(frigate: Any) -> None:
    image = np.full((1, 32, 32, 3), ORANGE, np.uint8)
    for _ in range(3):
        frigate.send_multipart(frames(image))
        (reply,) = frigate.recv_multipart()
        table = np.frombuffer(reply, np.float32).reshape(20, 6)
        # class, score, y_min, x_min, y_max, x_max
        np.testing.assert_allclose(table[0], [0, 1, 0, 0, 0.5, 0.5], atol=0.01)
        np.testing.assert_allclose(table[1], [1, 0.6, 0.25, 0.5, 0.75, 1], atol=0.01)
        assert (table[3:] == 0).all()


def managed(frigate: Any, *sent: Any) -> Any:
    """What Frigate 0.17 makes of the answer to a message about its model: anything but one frame of JSON ends it."""
    frigate.send_multipart([json.dumps(sent[0]).encode(), *sent[1:]])
    (reply,) = frigate.recv_multipart()
    return json.loads(reply)


@pytest.mark.parametrize("name", ["colours.tflite", "cpu_model.tflite", "yolo.v9.onnx", "colours", ""])
def test_frigate_asks_for_its_model_first(frigate: Any, name: str) -> None:
    answer = managed(frigate, {"model_request": True, "model_name": name})
    assert answer["model_available"] is True and answer["model_loaded"] is True and answer["model_name"] == "colours"
    frigate.send_multipart(frames(np.full((1, 32, 32, 3), ORANGE, np.uint8)))
    assert np.frombuffer(frigate.recv(), np.float32)[1] == pytest.approx(1, abs=0.01)


def test_frigate_gets_the_detector_that_it_names(frigate: Any, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no other one: of another shape, it is an error."""
    asked = []
    info = server.plane.info

    async def noted(model: str, version: int | None = None, label: str | None = None) -> Any:
        asked.append(model)
        return await info(model, version, label)

    managed(frigate, {"model_request": True, "model_name": "colours.tflite"})
    monkeypatch.setattr(server.plane, "info", noted)
    frigate.send_multipart(frames(np.zeros((1, 16, 16, 3), np.uint8)))
    header, _ = frigate.recv_multipart()
    assert "has the shape" in json.loads(header)["error"] and asked == ["colours"]


def test_frigate_may_not_send_a_model(frigate: Any) -> None:
    answer = managed(frigate, {"model_data": True, "model_name": "m.onnx"}, b"ONNX" * 1000)
    assert answer["model_saved"] is False and "deploy-model" in answer["error"]


def test_frigate_waits_for_a_detector_that_is_loading(
    frigate: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = server.plane.states
    waits = [[], []]

    async def later(model: str | None = None) -> Any:
        return waits.pop() if waits else await states(model)

    monkeypatch.setattr(frigate_front, "_ASK_SECONDS", 0.01)
    monkeypatch.setattr(server.plane, "states", later)
    assert managed(frigate, {"model_request": True, "model_name": "x"})["model_loaded"] is True
    monkeypatch.setattr(frigate_front, "_READY_SECONDS", 0.0)
    waits += [[], []]
    answer = managed(frigate, {"model_request": True, "model_name": "x"})
    # Not that it is not available: Frigate would send its file then.
    assert answer["model_available"] is True and answer["model_loaded"] is False and "finds objects" in answer["error"]


def test_several_frigates_at_once(server: Server) -> None:
    context = zmq.Context()
    sockets = [context.socket(zmq.REQ) for _ in range(8)]
    for number, socket in enumerate(sockets):
        socket.setsockopt(zmq.RCVTIMEO, 60000)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(f"tcp://127.0.0.1:{server.zmq}")
        socket.send_multipart(frames(np.full((1, 32, 32, 3), number * 30, np.uint8)))
    scores = [np.frombuffer(socket.recv(), np.float32)[1] for socket in sockets]
    np.testing.assert_allclose(scores, [number * 30 / 255 for number in range(8)], atol=0.01)
    for socket in sockets:
        socket.close()
    context.term()


def test_frigates_tensors_are_bounded_as_bodies_are(frigate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MOST_BODIES", 3000)
    frigate.send_multipart(frames(np.zeros((1, 32, 32, 3), np.uint8)))
    header, table = frigate.recv_multipart()
    assert "no more fit" in json.loads(header)["error"] and len(table) == 480
    monkeypatch.undo()
    for _ in range(2):
        frigate.send_multipart(frames(np.zeros((1, 32, 32, 3), np.uint8)))
        assert len(frigate.recv_multipart()) == 1


def test_frigate_hears_of_errors_and_goes_on(frigate: Any) -> None:
    image = np.zeros((1, 32, 32, 3), np.uint8)
    for sent, text in (
        (frames(np.zeros((1, 300, 300, 3), np.uint8)), "colours takes [1, 32, 32, 3]"),
        (frames(image, shape=[1, 32, 32]), "3072 bytes, and 1024"),
        (frames(image, shape=[1, 32, 32, 1]), "3072 bytes"),
        (frames(image, dtype="object"), "none that is served"),
        (frames(image, shape="x"), "shape"),
        (frames(image.astype(np.float32)), "UINT8, not FP32"),
        ([b"{", image.tobytes()], "JSON"),
        ([b"[1]", image.tobytes()], "JSON object"),
        ([b"{}"], "1 frames"),
        ([b"{}", b"", b""], "3 frames"),
        ([b" " * 5000, image.tobytes()], "4096 bytes"),
    ):
        frigate.send_multipart(sent)
        header, reply = frigate.recv_multipart()
        about = json.loads(header)
        assert text in about["error"], about
        # Frigate reads the shape and the numbers: no objects.
        assert (np.frombuffer(reply, about["dtype"]).reshape(about["shape"]) == 0).all()
    frigate.send_multipart(frames(image))
    assert len(frigate.recv()) == 480
