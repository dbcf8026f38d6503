"""Readers of what clients send to a board's server: requests over HTTP, gRPC and ZeroMQ, forms."""

from __future__ import annotations

import asyncio
import json
import tempfile
from contextlib import suppress
from typing import Any

import numpy as np
from aiohttp import web
from google.protobuf.message import DecodeError
from multidict import CIMultiDict

from clusteradm.node.serve.fronts import deepstack, doods, form, grpc_tf, grpc_v2, rest_tf, rest_v2
from clusteradm.node.serve.fronts.access_log import AccessLog
from clusteradm.node.serve.fronts.calls import Call, Desk
from clusteradm.node.serve.fronts.exchange import Asked, Exchange, HttpError, Piece
from clusteradm.node.serve.fronts.frigate import FrigateFront
from clusteradm.node.serve.fronts.grpc_calls import Inquiry
from clusteradm.node.serve.fronts.metrics import Metrics
from clusteradm.node.serve.fronts.passed import PassedRequest
from clusteradm.node.serve.fronts.proto import kserve_pb2, tfserving_pb2
from clusteradm.node.serve.index import Index
from clusteradm.node.serve.plane import BYTES, INVALID, Answer, ModelInfo, Plane, Refusal, Request, Tensor, TensorInfo
from clusteradm.node.spec.wire.serving import AVAILABLE, BoardState, VersionState

_SHAPE = (1, 2, 2, 1)


class _Small(Plane):
    """A model of four numbers, which also takes pictures, and whose every answer is the same."""

    async def infer(self, request: Request) -> Answer:
        for tensor in request.inputs:
            if tensor.datatype == BYTES:
                assert all(type(each) is bytes for each in tensor.data)
            else:
                assert tuple(np.shape(tensor.data)) == tuple(tensor.shape), (np.shape(tensor.data), tensor.shape)
        (tensor,) = request.inputs if len(request.inputs) == 1 else (None,)
        if tensor is None or not tensor.shape:
            raise Refusal(INVALID, "not one input")
        if tensor.shape[0] > 1000:
            raise Refusal(INVALID, "too many rows")
        out = np.zeros((tensor.shape[0], 3), np.float32)
        result = {"size": [2, 2], "objects": [{"class": 1, "score": None, "box": [0, 0, 1, 1]}]}
        return Answer("m", 1, [Tensor("y", "FP32", out.shape, out)], request.id, "b", "cpu", False, 0.0, 0.0, result)

    def serves(self, model: str) -> bool:
        return model == "m"

    async def info(self, model: str, version: int | None = None, label: str | None = None) -> ModelInfo:
        tensors = [TensorInfo("x", "UINT8", _SHAPE)], [TensorInfo("y", "FP32", (1, 3))]
        return ModelInfo("m", 1, [1], *tensors, {"stable": 1}, "detector", True, ["a"])

    async def ready(self, model: str, version: int | None = None) -> bool:
        return True

    async def states(self, model: str | None = None) -> list[VersionState]:
        return [VersionState("m", 1, AVAILABLE)]

    async def index(self) -> Index:
        return Index((VersionState("m", 1, AVAILABLE),), {"n": "it is not served"})

    async def board(self) -> BoardState:
        return BoardState("b", 1, True)

    async def load(self, model: str, unload: bool = False) -> None:
        raise Refusal(INVALID, "no")


class _Asked(Asked):
    """A request, whose body comes in pieces."""

    def __init__(self, method: str, headers: dict[str, str], body: bytes) -> None:
        self.method, self.headers = method, CIMultiDict(headers)
        self.content_length, self.protocol, self.content, self._left = len(body), None, self, body

    async def pieces(self, exchange: Exchange, most: int) -> list[Piece]:
        asked: Any = self
        return await PassedRequest(asked).pieces(exchange, most)

    async def readany(self) -> bytes:
        found, self._left = self._left[:1000], self._left[1000:]
        return found


class _Context:
    def time_remaining(self) -> None:
        return None

    def invocation_metadata(self) -> tuple[()]:
        return ()


def _desk() -> Desk:
    with tempfile.TemporaryDirectory() as folder:
        return Desk(_Small(), Metrics(folder, 0), AccessLog(-1))


_DESK = _desk()
_HANDLERS: tuple[Any, ...] = (rest_v2.answer, rest_tf.answer, deepstack.answer, doods.answer)
# Handlers by their number above, method, path, headers, body.
HTTP_SEEDS: list[tuple[int, str, str, dict[str, str], bytes]] = [
    (
        0,
        "POST",
        "/v2/models/m/infer",
        {},
        b'{"id": "7", "inputs": [{"name": "x", "datatype": "UINT8", "shape": [1, 2, 2, 1], "data": [[1, 2], [3, 4]]}], '
        b'"outputs": [{"name": "y", "parameters": {"classification": 2, "binary_data": true}}], '
        b'"parameters": {"timeout": 5, "priority": 1, "binary_data_output": false, "top": 3}}',
    ),
    (
        0,
        "POST",
        "/v2/models/m/versions/stable/infer",
        {"Inference-Header-Content-Length": "110"},
        b'{"inputs": [{"name": "x", "datatype": "UINT8", "shape": [1, 2, 2, 1], '
        b'"parameters": {"binary_data_size": 4}}]}abcd',
    ),
    (
        0,
        "POST",
        "/v2/models/m/infer",
        {},
        b'{"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": [{"b64": "AAAA"}]}]}',
    ),
    (0, "POST", "/v2/repository/index", {}, b'{"ready": true}'),
    (0, "POST", "/v2/repository/models/m/load", {}, b'{"parameters": {"config": "{}"}}'),
    (1, "POST", "/v1/models/m:predict", {}, b'{"instances": [[[[1], [2]], [[3], [4]]], [[[1], [2]], [[3], [4]]]]}'),
    (1, "POST", "/v1/models/m/versions/1:predict", {}, b'{"instances": [{"x": [[[1], [2]], [[3], [4]]]}]}'),
    (1, "POST", "/v1/models/m:predict", {}, b'{"inputs": {"x": [[[[1], [2]], [[3], [4.0]]]]}, "signature_name": ""}'),
    (1, "POST", "/v1/models/m:predict", {}, b'{"inputs": [{"b64": "AAAA"}, {"b64": "AA=="}]}'),
    (1, "POST", "/v1/models/m/labels/stable:classify", {}, b'{"context": {}, "examples": [{"x": [1, 2, 3, 4]}]}'),
    (1, "POST", "/v1/models/m:regress", {}, b'{"examples": [{"image": {"b64": "AAAA"}}]}'),
    (
        2,
        "POST",
        "/v1/vision/detection",
        {"Content-Type": "multipart/form-data; boundary=x"},
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n\xff\xd8\r\n--x--\r\n',
    ),
    (3, "POST", "/detect", {}, b'{"detector_name": "default", "data": "AAAA", "detect": {"*": 50, "a": 1}, "id": 5}'),
    (
        0,
        "POST",
        "/v2/models/m/infer",
        {"Content-Encoding": "gzip"},
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\xab\xae\x05\x00\x43\xbf\xa6\xa3\x02\x00\x00\x00",
    ),
]


def http_seeds() -> list[bytes]:
    """Requests: a line of JSON, and the body."""
    return [json.dumps(each[:4]).encode() + b"\n" + each[4] for each in HTTP_SEEDS]


def http(data: bytes) -> None:
    """A request over HTTP, to one of the protocols."""
    head, _, body = data.partition(b"\n")
    try:
        number, method, path, headers = json.loads(head)
        handler = _HANDLERS[number]
        texts = {str(name): str(value) for name, value in headers.items()}
        asked = _Asked(str(method), texts, body)
        path = "/" + str(path).lstrip("/")
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return
    exchange = Exchange(_DESK, asked, Call("http", path, ""))
    with suppress(Refusal, HttpError, web.RequestPayloadError):
        asyncio.run(handler(exchange))
    exchange.end()


def form_body(data: bytes) -> None:
    """A form."""
    with suppress(Refusal):
        form.read("multipart/form-data; boundary=x", data)


def rpc(data: bytes) -> None:
    """A message over gRPC: of which method, the first byte says."""
    methods = [each for service in (grpc_v2.service(), *grpc_tf.services()) for each in service.methods.values()]
    if data:
        work, kind, _ = methods[data[0] % len(methods)]
        with suppress(Refusal, DecodeError):
            asyncio.run(work(Inquiry(_DESK, Call("grpc", "", ""), _Context(), {}), kind.FromString(data[1:])))


def rpc_seeds() -> list[bytes]:
    """One of each kind."""
    methods = [name for service in (grpc_v2.service(), *grpc_tf.services()) for name in service.methods]
    infer = kserve_pb2.InferRequest(model_name="m", id="7", raw_input_contents=[b"abcd"])
    infer.inputs.add(name="x", datatype="UINT8", shape=_SHAPE)
    typed = kserve_pb2.InferRequest(model_name="m", model_version="stable")
    typed.inputs.add(name="x", datatype="UINT8", shape=_SHAPE).contents.uint_contents.extend([1, 2, 3, 4])
    typed.parameters["timeout"].int64_param = 1000000
    predict = tfserving_pb2.PredictRequest(output_filter=["y"])
    predict.model_spec.name, predict.model_spec.version.value = "m", 1
    tensor = predict.inputs["x"]
    tensor.dtype, tensor.tensor_content = 4, b"abcd"
    for size in _SHAPE:
        tensor.tensor_shape.dim.add(size=size)
    classify = tfserving_pb2.ExamplesRequest()
    classify.model_spec.version_label = "stable"
    example = classify.input.example_list.examples.add()
    example.features.feature["x"].int64_list.value.extend([1, 2, 3, 4])
    metadata = tfserving_pb2.MetadataRequest(metadata_field=["signature_def"])
    found = [("ModelInfer", infer), ("ModelInfer", typed), ("Predict", predict), ("Classify", classify)]
    found += [("Regress", classify), ("GetModelMetadata", metadata), ("RepositoryModelLoad", kserve_pb2.LoadRequest())]
    return [bytes([methods.index(name)]) + message.SerializeToString() for name, message in found]


def camera(data: bytes) -> None:
    """Frames of Frigate's detector, which a line ends."""
    front = FrigateFront(_DESK)
    with suppress(Refusal):
        asyncio.run(front.reply(Call("zmq", "", ""), b"client", data.split(b"\n", 2)))
    asyncio.run(front.close(0.0))
