"""KServe's protocol over HTTP: by tritonclient, unmodified, and by hand for what no client would send."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import gzip
import io
import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import serve_place as place
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from PIL import Image
from serve_front import Got, Server
from tritonclient.utils import InferenceServerException

from clusteradm.node.serve.dispatch import Dispatch
from clusteradm.node.serve.routing import Routing

INFER = "/v2/models/digits/infer"


@contextlib.contextmanager
def asking(server: Server) -> Iterator[triton.InferenceServerClient]:
    """A client, which is let go of by the thread that made it: gevent allows no other, and the server's may collect."""
    with triton.InferenceServerClient(server.url) as client:
        yield client
    del client
    gc.collect()


def png(image: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image[0, :, :, 0]).save(file, "PNG")
    return file.getvalue()


def wanted(image: Any) -> triton.InferInput:
    tensor = triton.InferInput(place.INPUT, [1, 28, 28, 1], "UINT8")
    tensor.set_data_from_numpy(image)
    return tensor


def test_tritonclient_asks_what_there_is(server: Server) -> None:
    with asking(server) as client:
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("digits") and client.is_model_ready("digits", "1")
        assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
        metadata = client.get_model_metadata("digits")
        assert metadata["versions"] == ["1", "2"] and metadata["parameters"]["labels"] == {"stable": "1"}
        assert metadata["inputs"] == [{"name": place.INPUT, "datatype": "UINT8", "shape": [1, 28, 28, 1]}]
        config = client.get_model_config("digits")
        assert config["input"][0]["data_type"] == "TYPE_UINT8" and config["max_batch_size"] == 0
        index = [(each["name"], each["version"], each["state"]) for each in client.get_model_repository_index()]
        assert ("digits", "1", "READY") in index and ("digits", "2", "READY") in index


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("packing", [None, "gzip", "deflate"])
def test_tritonclient_infers(server: Server, binary: bool, packing: str | None) -> None:
    with asking(server) as client:
        tensor = triton.InferInput(place.INPUT, [1, 28, 28, 1], "UINT8")
        tensor.set_data_from_numpy(place.drawn(), binary_data=binary)
        output = triton.InferRequestedOutput(place.OUTPUT, binary_data=binary)
        found = client.infer(
            "digits",
            [tensor],
            "1",
            [output],
            "my id",
            priority=1,
            timeout=60_000_000,
            request_compression_algorithm=packing,
            headers={"x-request-id": "abc"},
        )
    values = found.as_numpy(place.OUTPUT)
    assert values.dtype == np.uint8 and values.shape == (1, 10) and int(values.argmax()) == 1
    answer = found.get_response()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("digits", "1", "my id")
    assert answer["parameters"]["board"] == "board-1" and answer["parameters"]["tpu"] == "cpu"
    assert "simulated" not in answer["parameters"]


def test_tritonclient_in_asyncio(server: Server) -> None:
    async def ask() -> Any:
        async with triton_aio.InferenceServerClient(server.url) as client:
            both = [client.infer("digits", [wanted(place.drawn())]) for _ in range(8)]
            return [each.as_numpy(place.OUTPUT).argmax() for each in await asyncio.gather(*both)]

    assert asyncio.run(ask()) == [1] * 8


def test_a_picture_as_bytes_gets_names_of_classes(server: Server) -> None:
    with asking(server) as client:
        tensor = triton.InferInput(place.INPUT, [1], "BYTES")
        tensor.set_data_from_numpy(np.array([png(place.drawn())], np.object_))
        found = client.infer("digits", [tensor])
        best = found.get_response()["parameters"]["result"]["top"][0]
        assert (best["class"], best["label"]) == (1, "1") and best["score"] > 0.9
        # Triton's own way to names: its classification extension.
        output = triton.InferRequestedOutput(place.OUTPUT, class_count=2)
        classes = client.infer("digits", [wanted(place.drawn())], outputs=[output]).as_numpy(place.OUTPUT)
    assert classes.shape == (1, 2) and classes[0, 0].decode() == "255.000000:1:1"


def infer(server: Server, body: Any, path: str = INFER, headers: dict[str, str] | None = None) -> Got:
    return server.ask("POST", path, body, headers)


def given(data: Any = None, **changes: Any) -> dict[str, Any]:
    tensor = {"name": place.INPUT, "datatype": "UINT8", "shape": [1, 28, 28, 1], "data": data}
    if data is None:
        tensor["data"] = place.drawn().reshape(-1).tolist()
    return {"inputs": [{**tensor, **changes}]}


def test_json_flat_and_nested(server: Server) -> None:
    for data in (None, place.drawn().tolist()):
        got = infer(server, given(data))
        assert got.status == 200, got.body
        (output,) = got.json["outputs"]
        assert output["shape"] == [1, 10] and int(np.argmax(output["data"])) == 1
        assert got.headers["clusteradm-board"] == "board-1" and got.headers["clusteradm-tpu"] == "cpu"
        assert got.headers["clusteradm-model-version"] == "2"


def test_a_picture_in_json(server: Server) -> None:
    text = base64.b64encode(png(place.drawn())).decode()
    for data in ([text], [[text]], [{"b64": text}]):
        got = infer(server, given(data, datatype="BYTES", shape=[1]))
        assert got.status == 200, got.body
        assert got.json["parameters"]["result"]["top"][0]["label"] == "1"
    got = infer(server, {**given([text], datatype="BYTES", shape=[1]), "parameters": {"result": False}})
    assert "result" not in got.json["parameters"]
    got = infer(server, {**given(), "parameters": {"result": True, "top": 2}})
    assert [each["class"] for each in got.json["parameters"]["result"]["top"]] == [1, 7]


def test_which_version_a_request_means(server: Server) -> None:
    for path, headers, version in (
        ("/v2/models/digits/infer", {}, "2"),
        ("/v2/models/digits/versions/1/infer", {}, "1"),
        ("/v2/models/digits/versions/stable/infer", {}, "1"),
        # The head's choice counts only where the request makes none.
        ("/v2/models/digits/infer", {"clusteradm-version": "1"}, "1"),
        ("/v2/models/digits/versions/2/infer", {"clusteradm-version": "1"}, "2"),
        # Where a board does not have that, it is not the client's doing.
        ("/v2/models/digits/infer", {"clusteradm-version": "9"}, "2"),
        ("/v2/models/digits/infer", {"clusteradm-version": "x"}, "2"),
    ):
        assert infer(server, given(), path, headers).json["model_version"] == version


def test_a_canary_that_goes_while_the_body_comes_is_not_the_clients_doing(server: Server) -> None:
    plane = server.plane
    assert isinstance(plane, Dispatch)
    before = plane.routing
    digits = before.models["digits"]
    for path, body in (
        (INFER, json.dumps(given()).encode()),
        ("/v1/models/digits:predict", json.dumps({"instances": place.drawn().tolist()}).encode()),
    ):
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
        with socket.create_connection(("127.0.0.1", server.http), timeout=60) as connection:
            connection.sendall(head.encode() + b"Expect: 100-continue\r\nclusteradm-version: 1\r\n\r\n")
            assert b"100" in connection.recv(1000)  # it reads the body now
            plane.routing = Routing({**before.models, "digits": digits._replace(versions={2: digits.versions[2]})})
            try:
                connection.sendall(body)
                answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
            finally:
                plane.routing = before
        assert b"200 OK" in answer and b"clusteradm-model-version: 2" in answer.lower()


def test_statistics_of_what_nobody_has_asked(server: Server) -> None:
    """Or only others of the tests that share this server, as they come."""
    (one,) = server.ask("GET", "/v2/models/colours/stats").json["model_stats"]
    assert (one["name"], one["version"]) == ("colours", "1")
    assert one["inference_stats"]["queue"].keys() == {"count", "ns"}


def test_statistics_of_a_label_are_of_its_version(server: Server) -> None:
    for version in ("1", "2"):
        infer(server, given(), f"/v2/models/digits/versions/{version}/infer")
    for path, versions in (
        ("/v2/models/digits/stats", {"1", "2"}),
        ("/v2/models/digits/versions/2/stats", {"2"}),
        ("/v2/models/digits/versions/stable/stats", {"1"}),
    ):
        assert {each["version"] for each in server.ask("GET", path).json["model_stats"]} == versions
    assert server.ask("GET", "/v2/models/digits/versions/unknown/stats").status == 404


def test_the_id_of_a_request_comes_back(server: Server) -> None:
    assert infer(server, given(), headers={"X-Request-Id": "outside.7"}).headers["x-request-id"] == "outside.7"
    made = {infer(server, given(), headers=h).headers["x-request-id"] for h in ({}, {}, {"x-request-id": 'a"b c' * 50})}
    assert len(made) == 3 and all(len(each) == 16 for each in made)


BAD: dict[str, tuple[Any, str]] = {
    "no JSON": (b"{", "not a JSON document"),
    "NaN": (b'{"inputs": [NaN]}', "NaN and Infinity are no JSON"),
    "no object": (b"[1]", "JSON object"),
    "no inputs": ({}, "inputs"),
    "too many inputs": ({"inputs": [{}] * 100}, "1 to 64"),
    "inputs that are none": ({"inputs": [1]}, "an input is an object"),
    "no shape": (given(shape=None), "its shape"),
    "a shape of text": (given(shape=["1"]), "its shape"),
    "a negative shape": (given(shape=[-1, 784]), "its shape"),
    "a huge shape": (given(shape=[1 << 25, 1 << 25]), "elements"),
    "a huge number": (given(shape=[1 << 70]), "shape"),
    "another shape": (given(shape=[1, 784]), "has the shape [1, 28, 28, 1], not [1, 784]"),
    "a shape that does not fit": (given(shape=[1, 28, 28, 2]), "784 values, and 1568"),
    "no type": (given(datatype=None), "datatype"),
    "another type": (given(datatype="FP32"), "is UINT8, not FP32"),
    "a type that is none": (given(datatype="COMPLEX"), "none of BOOL"),
    "text": (given(["a"] * 784), "no number"),
    "numbers as text": (given(["1"] * 784), "no number"),
    "null": (given([None] * 784), "no number"),
    "ragged": (given([[1, 2], [3]]), "different lengths"),
    "too large": (given([256] * 784), "whole numbers from 0 to 255"),
    "negative": (given([-1] * 784), "whole numbers from 0 to 255"),
    "broken": (given([0.5] * 784), "whole numbers from 0 to 255"),
    "deep": (given(json.loads("[" * 70 + "1" + "]" * 70)), "deep"),
    "another name": (given(name="x"), "has no input x"),
    "no data": ({"inputs": [{"name": place.INPUT, "datatype": "UINT8", "shape": [1]}]}, "neither data"),
    "an id": ({**given(), "id": 7}, "id"),
    "parameters": ({**given(), "parameters": [1]}, "parameters"),
    "a priority": ({**given(), "parameters": {"priority": "soon"}}, "priority"),
    "a time limit": ({**given(), "parameters": {"timeout": -1}}, "time limit"),
    "a sequence": ({**given(), "parameters": {"sequence_id": 5}}, "sequence_id"),
    "outputs": ({**given(), "outputs": [{"name": 1}]}, "output"),
    "another output": ({**given(), "outputs": [{"name": "y"}]}, "has no output y"),
    "classes": (
        {**given(), "outputs": [{"name": "y", "parameters": {"classification": "all"}}]},
        "classification",
    ),
    "binary without": (given(parameters={"binary_data_size": 784}), "binary_data_size"),
    "shared memory": (given(parameters={"shared_memory_region": "mine"}), "shares no memory"),
    "an output in shared memory": (
        {**given(), "outputs": [{"name": place.OUTPUT, "parameters": {"shared_memory_region": "mine"}}]},
        "shares no memory",
    ),
    "no picture": (given(["AAAA"], datatype="BYTES", shape=[1]), "not a picture"),
    "no base64": (given(["%%%"], datatype="BYTES", shape=[1]), "not base64"),
    "two pictures": (given(["AAAA", "AAAA"], datatype="BYTES", shape=[2]), "2 pictures"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_what_is_malformed_is_refused_with_the_reason(server: Server, name: str) -> None:
    body, text = BAD[name]
    got = infer(server, body)
    assert got.status == 400, got.body
    assert text in got.json["error"] and "Traceback" not in got.json["error"]


def binary(header: Any, rest: bytes, length: Any = None) -> tuple[bytes, dict[str, str]]:
    head = json.dumps(header).encode()
    return head + rest, {"Inference-Header-Content-Length": str(len(head) if length is None else length)}


def test_malformed_binary_tensors(server: Server) -> None:
    def tensor(size: int, **changes: Any) -> Any:
        found = given(**changes)
        del found["inputs"][0]["data"]
        found["inputs"][0]["parameters"] = {"binary_data_size": size}
        return found

    for header, rest, length, text in (
        (tensor(784), bytes(783), None, "more than there is"),
        (tensor(784), bytes(785), None, "belong to no input"),
        (tensor(700), bytes(700), None, "700 bytes, and 784"),
        (tensor(784), bytes(784), 10, "not a JSON document"),
        (tensor(784), bytes(784), 10**6, "body has"),
        (tensor(784), bytes(784), "x", "body has"),
        (tensor(784), bytes(784), -5, "body has"),
        (tensor(8, datatype="BYTES", shape=[1]), struct.pack("<I", 99) + b"abcd", None, "length before it"),
        (tensor(8, datatype="BYTES", shape=[2]), struct.pack("<I", 4) + b"abcd", None, "length before it"),
    ):
        body, headers = binary(header, rest, length)
        got = infer(server, body, headers=headers)
        assert got.status == 400 and text in got.json["error"], got.body
    body, headers = binary(tensor(784), place.drawn().tobytes())
    assert infer(server, body, headers=headers).status == 200


def test_statuses(server: Server) -> None:
    for method, path, body, status in (
        ("POST", "/v2/models/other/infer", given(), 404),
        ("POST", "/v2/models/digits/versions/9/infer", given(), 404),
        ("POST", "/v2/models/digits/versions/nobody/infer", given(), 404),
        ("POST", "/v2/models/digits/versions/-1/infer", given(), 400),
        ("POST", "/v2/models/%2e%2e%2fetc/infer", given(), 404),
        ("GET", "/v2/models/other", None, 404),
        ("POST", "/v2/models/%s/infer" % ("m" * 2000), given(), 414),
        ("GET", "/v2/models/other/ready", None, 404),
        ("GET", "/v2/models/digits/nothing", None, 404),
        ("GET", INFER, None, 405),
        ("POST", "/v2/models/digits/generate", {}, 404),
        ("POST", "/v2/models/digits/trace/setting", {}, 404),
        ("DELETE", "/v2", None, 405),
        ("GET", "/v3", None, 404),
        ("GET", "/v2/health/ill", None, 404),
        ("POST", "/v2/repository/models/digits/load", {"parameters": {"config": "{}"}}, 400),
        ("POST", "/v2/repository/models/digits/load", None, 503),
    ):
        got = server.ask(method, path, body)
        assert got.status == status and got.json["error"], (path, got)
    assert server.ask("GET", INFER).headers["allow"] == "POST"
    assert "retry-after" in server.ask("POST", "/v2/repository/models/digits/load").headers
    got = server.ask("HEAD", "/v2/health/live")
    assert got.status == 200 and got.body == b"" and got.headers["server"] == "clusteradm"


def test_a_deadline_that_is_over(server: Server) -> None:
    got = infer(server, {**given(), "parameters": {"timeout": 1}})
    assert got.status == 504, got
    assert infer(server, given(), headers={"clusteradm-timeout": "0.000001"}).status == 504
    assert infer(server, given(), headers={"clusteradm-timeout": "soon"}).status == 400


def test_packed_bodies(server: Server) -> None:
    body = json.dumps(given()).encode()
    for data, coding, status in (
        (gzip.compress(body), "gzip", 200),
        (gzip.compress(body)[:-9], "gzip", 400),
        (gzip.compress(body) + b"more", "gzip", 400),
        (b"nothing packed", "gzip", 400),
        (b"", "gzip", 400),
        (body, "br", 415),
        (body, "identity", 200),
        # 40 MB of nothing in 40 KB.
        (gzip.compress(bytes(40 << 20)), "gzip", 413),
    ):
        got = infer(server, data, headers={"Content-Encoding": coding})
        assert got.status == status and (status == 200 or got.json["error"]), (coding, got)


def test_a_client_hears_a_refusal_as_its_own_error(server: Server) -> None:
    with asking(server) as client:
        with pytest.raises(InferenceServerException, match="no model other") as caught:
            client.infer("other", [wanted(place.drawn())])
        assert caught.value.status() == "404"
        with pytest.raises(InferenceServerException, match=r"has the shape"):
            tensor = triton.InferInput(place.INPUT, [1, 28, 29, 1], "UINT8")
            tensor.set_data_from_numpy(np.zeros((1, 28, 29, 1), np.uint8))
            client.infer("digits", [tensor])
