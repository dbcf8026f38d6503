"""KServe's protocol over gRPC: by tritonclient, unmodified, and by hand for what no client would send."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import serve_place as place
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from google.protobuf import json_format
from serve_front import Server, until
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from clusteradm.node.serve.fronts import calls, grpc_direct
from clusteradm.node.spec.wire.serving import BoardState, EngineState

from .test_rest_v2 import png


@pytest.fixture
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.rpc) as client:
        yield client


@pytest.fixture
def stub(server: Server) -> Iterator[Any]:
    with grpc.insecure_channel(server.rpc) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def wanted(image: Any) -> triton.InferInput:
    tensor = triton.InferInput(place.INPUT, [1, 28, 28, 1], "UINT8")
    tensor.set_data_from_numpy(image)
    return tensor


def test_tritonclient_asks_what_there_is(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("digits") and client.is_model_ready("digits", "2")
    # As with Triton, this is no error.
    assert not any(client.is_model_ready(*each) for each in (("other",), ("digits", "9"), ("digits", "nobody")))
    assert client.get_server_metadata().name == "clusteradm"
    metadata = client.get_model_metadata("digits")
    assert list(metadata.versions) == ["1", "2"] and list(metadata.inputs[0].shape) == [1, 28, 28, 1]
    assert client.get_model_config("digits").config.input[0].data_type == 2  # TYPE_UINT8
    index = client.get_model_repository_index().models
    states = {(each.name, each.version): each.state for each in index}
    assert states["digits", "1"] == states["digits", "2"] == "READY"


def test_tritonclient_infers(client: triton.InferenceServerClient) -> None:
    found = client.infer("digits", [wanted(place.drawn())], "1", request_id="7", priority=5, client_timeout=60)
    assert int(found.as_numpy(place.OUTPUT).argmax()) == 1
    answer = found.get_response()
    assert (answer.model_name, answer.model_version, answer.id) == ("digits", "1", "7")
    assert answer.parameters["board"].string_param == "board-1" and answer.parameters["tpu"].string_param == "cpu"
    output = triton.InferRequestedOutput(place.OUTPUT, class_count=1)
    classes = client.infer("digits", [wanted(place.drawn())], outputs=[output]).as_numpy(place.OUTPUT)
    assert classes.tolist() == [[b"255.000000:1:1"]]
    tensor = triton.InferInput(place.INPUT, [1], "BYTES")
    tensor.set_data_from_numpy(np.array([png(place.drawn())], np.object_))
    result = json.loads(client.infer("digits", [tensor]).get_response().parameters["result"].string_param)
    assert result["top"][0]["label"] == "1"


def test_statistics_count(client: triton.InferenceServerClient) -> None:
    def count() -> int:
        (one,) = client.get_inference_statistics("digits", "1").model_stats
        assert one.inference_stats.success.ns > one.inference_stats.compute_infer.ns > 0
        return int(one.inference_count)

    client.infer("digits", [wanted(place.drawn())], "1")
    before = count()
    client.infer("digits", [wanted(place.drawn())], "1")
    assert count() == before + 1


def test_tritonclient_in_asyncio_and_in_a_stream(server: Server, client: triton.InferenceServerClient) -> None:
    async def ask() -> Any:
        async with triton_aio.InferenceServerClient(server.rpc) as other:
            all_of_it = await asyncio.gather(*(other.infer("digits", [wanted(place.drawn())]) for _ in range(8)))
            return [each.as_numpy(place.OUTPUT).argmax() for each in all_of_it]

    assert asyncio.run(ask()) == [1] * 8
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for name in ("digits", "other", "digits"):
        client.async_stream_infer(name, [wanted(place.drawn())], request_id=name)
    found = [answers.get(timeout=60) for _ in range(3)]
    client.stop_stream()
    assert [error is None for _, error in found] == [True, False, True]
    assert found[0][0].get_response().parameters["triton_final_response"].bool_param
    assert "no model other" in str(found[1][1]) and int(found[2][0].as_numpy(place.OUTPUT).argmax()) == 1


def request(**changes: Any) -> Any:
    found = pb.ModelInferRequest(model_name="digits")
    one = found.inputs.add(name=place.INPUT, datatype="UINT8", shape=[1, 28, 28, 1])
    found.raw_input_contents.append(place.drawn().tobytes())
    for name, value in changes.items():
        target = one if name in ("datatype", "name") else found
        if name == "shape":
            one.ClearField("shape")
            one.shape.extend(value)
        else:
            setattr(target, name, value)
    return found


def test_typed_contents(stub: Any) -> None:
    asked = request()
    asked.ClearField("raw_input_contents")
    asked.inputs[0].contents.uint_contents.extend(place.drawn().reshape(-1).tolist())
    answer = stub.ModelInfer(asked)
    assert int(np.frombuffer(answer.raw_output_contents[0], np.uint8).argmax()) == 1


def test_an_answer_says_where_it_comes_from_in_its_metadata(stub: Any) -> None:
    _, done = stub.ModelInfer.with_call(request(), metadata=[("x-request-id", "mine"), ("clusteradm-version", "1")])
    metadata = dict(done.trailing_metadata())
    assert metadata["x-request-id"] == "mine" and metadata["clusteradm-board"] == "board-1"
    assert metadata["clusteradm-tpu"] == "cpu" and metadata["clusteradm-model-version"] == "1"


def typed(field: str, values: list[Any], **changes: Any) -> Any:
    found = request(**changes)
    found.ClearField("raw_input_contents")
    getattr(found.inputs[0].contents, field).extend(values)
    return found


def both() -> Any:
    found = request()
    found.inputs[0].contents.uint_contents.extend([1] * 784)
    return found


INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
BAD: dict[str, tuple[Any, Any, str]] = {
    "another model": (request(model_name="other"), NOT_FOUND, "no model other"),
    "another version": (request(model_version="9"), NOT_FOUND, "no version 9"),
    "no version": (request(model_version="a/b"), INVALID, "no version or label"),
    "nothing": (pb.ModelInferRequest(model_name="digits"), INVALID, "1 to 64 inputs"),
    "another type": (request(datatype="FP32", shape=[1, 196]), INVALID, "UINT8, not FP32"),
    "no type": (request(datatype="QUINT"), INVALID, "no datatype"),
    "another shape": (request(shape=[784]), INVALID, "has the shape"),
    "a negative shape": (request(shape=[-1, 28, 28, 1]), INVALID, "shape"),
    "too few bytes": (request(shape=[2, 28, 28, 1]), INVALID, "784 bytes, and 1568"),
    "both forms": (both(), INVALID, "contents and raw_input_contents"),
    "another field": (typed("int_contents", [1] * 784), INVALID, "are in uint_contents"),
    "too large": (typed("uint_contents", [256] * 784), INVALID, "from 0 to 255"),
    "too few": (typed("uint_contents", [1] * 7), INVALID, "7 values, and 784"),
    "half floats": (typed("fp32_contents", [1.0], datatype="FP16"), INVALID, "raw_input_contents alone"),
    "no picture": (typed("bytes_contents", [b"GIF"], datatype="BYTES", shape=[1]), INVALID, "not a picture"),
}
_asked = request()
_asked.outputs.add(name="y")
BAD["an output"] = (_asked, INVALID, "has no output y")
_shared = request()
_shared.outputs.add(name=place.OUTPUT).parameters["shared_memory_region"].string_param = "mine"
BAD["an output in shared memory"] = (_shared, INVALID, "shares no memory")
_shared = request()
_shared.inputs[0].parameters["shared_memory_region"].string_param = "mine"
BAD["an input in shared memory"] = (_shared, INVALID, "shares no memory")


@pytest.mark.parametrize("name", list(BAD))
def test_what_is_malformed_is_refused_with_the_reason(stub: Any, name: str) -> None:
    asked, status, text = BAD[name]
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(asked)
    assert caught.value.code() is status and text in caught.value.details()
    assert "x-request-id" in dict(caught.value.trailing_metadata())


def test_other_statuses(server: Server, stub: Any, client: triton.InferenceServerClient) -> None:
    late = request()
    late.parameters["timeout"].int64_param = 1
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(late)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(pb.ModelInferRequest(model_name="digits", raw_input_contents=[bytes(40 << 20)]))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(InferenceServerException) as refused:
        client.load_model("digits")
    assert refused.value.status() == "StatusCode.UNAVAILABLE"
    with pytest.raises(InferenceServerException, match="no parameters"):
        client.load_model("digits", config="{}")
    with pytest.raises(grpc.RpcError) as caught:
        stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_token_for_one_model_is_for_no_other_that_a_message_names_as_well(stub: Any) -> None:
    # HAProxy reads the first field 1 of a message, protobuf the last.
    metadata = [("clusteradm-model", "digits")]
    assert stub.ModelInfer(request(), metadata=metadata, timeout=60).model_name == "digits"
    twice = pb.ModelInferRequest(model_name="digits").SerializeToString()
    twice += pb.ModelInferRequest(model_name="colours").SerializeToString()
    both = pb.ModelInferRequest.FromString(twice)
    assert both.model_name == "colours"
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(both, metadata=metadata, timeout=60)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED and "digits" in caught.value.details()
    with pytest.raises(grpc.RpcError) as caught:
        stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="colours"), metadata=metadata, timeout=60)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    answers = stub.ModelStreamInfer(iter([request(), both]), metadata=metadata, timeout=60)
    assert next(answers).infer_response.model_name == "digits"
    with pytest.raises(grpc.RpcError) as caught:
        next(answers)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_messages_of_a_stream_are_counted_for_the_rate_of_a_token(server: Server, stub: Any) -> None:
    def ask(name: str, *more: tuple[str, str]) -> list[str]:
        metadata = [("clusteradm-client-name", name), *more]
        return [
            each.error_message for each in stub.ModelStreamInfer(iter([request()] * 6), metadata=metadata, timeout=60)
        ]

    rate = ("clusteradm-client-rate", "3")
    assert ask("camera", rate)[:3] == [""] * 3
    # Of another stream of the same client as well; of another one's, or of one without a rate, not.
    assert "more requests a second" in ask("camera", rate)[-1]
    assert ask("another", rate)[:3] == ask("a third")[:3] == [""] * 3 and ask("a third") == [""] * 6


def test_messages_of_a_stream_are_bounded_as_others_are(
    server: Server, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "MOST_BODIES", 100)
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.ModelStreamInfer(iter([request()]), timeout=60))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_client_that_waits_no_longer(server: Server, stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(request: Any) -> Any:
        await asyncio.sleep(3600)

    monkeypatch.setattr(server.plane, "infer", hang)
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request(), timeout=0.3, metadata=[("x-request-id", "impatient")])
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    (line,) = until(lambda: [each for each in server.lines if each["id"] == "impatient"])
    assert line["outcome"] == "deadline"


def test_grpcs_own_health_check(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the bytes of grpc.health.v1: a service in field 1; the status in field 1, 1 for serving and 2 for not."""
    with grpc.insecure_channel(server.rpc) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        name = b"inference.GRPCInferenceService"
        assert check(b"", timeout=60) == check(b"\x0a" + bytes([len(name)]) + name, timeout=60) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as caught:
            check(b"\x0a\x01x", timeout=60)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND

        async def board() -> BoardState:
            return BoardState("board-1", 1, True, (), (EngineState(None, "failed", "it ended"),))

        monkeypatch.setattr(server.plane, "board", board)
        assert check(b"", timeout=60) == b"\x08\x02"
    assert server.ask("GET", "/v2/health/ready").status == 503


def test_a_request_that_is_known_is_answered_by_its_own_numbers(
    server: Server, stub: Any, client: triton.InferenceServerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [place.drawn(), np.zeros_like(place.drawn()), place.drawn().transpose(0, 2, 1, 3)]
    first = [client.infer("digits", [wanted(image)], "1") for image in images]
    # From here on nobody takes the message apart, unless it says more.
    looked = []
    monkeypatch.setattr("clusteradm.node.serve.fronts.grpc_v2._inputs", lambda _: looked.append(True) or [])
    again = [client.infer("digits", [wanted(image)], "1") for image in images]
    assert not looked
    assert len({tuple(found.as_numpy(place.OUTPUT).ravel()) for found in first}) == 3
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.as_numpy(place.OUTPUT), other.as_numpy(place.OUTPUT))
        answers = [json.loads(json_format.MessageToJson(each.get_response())) for each in (one, other)]
        for answer in answers:
            assert answer["parameters"].pop("inference_us") and answer["parameters"].pop("queue_us")
            assert answer.pop("raw_output_contents", None) or answer.pop("rawOutputContents")
        assert answers[0] == answers[1]
    for more in ({"client_timeout": 60}, {"headers": {"clusteradm-priority": "5"}}, {"request_id": "other"}):
        with contextlib.suppress(InferenceServerException):
            client.infer("digits", [wanted(images[0])], "1", **more)
        assert looked.pop()
    until(lambda: [line for line in server.lines if line["protocol"] == "kserve-grpc" and line["outcome"] == "ok"])


def test_a_known_request_with_a_clients_token_for_another_model(stub: Any) -> None:
    tensor = wanted(place.drawn())
    request = pb.ModelInferRequest(model_name="digits", inputs=[tensor._get_tensor()])
    request.raw_input_contents.append(tensor._get_content())
    for _ in range(2):
        stub.ModelInfer(request)
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request, metadata=[(calls.CHECKED, "colours")])
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_messages_that_are_damaged(server: Server) -> None:
    with grpc.insecure_channel(server.rpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for data in (b"\xff\xff", b"\x0a\xff", b"\x3a\xff\xff\xff\xff\xff\x01", b"\x0a\x06digits\x3a\x05abc"):
            with pytest.raises(grpc.RpcError) as caught:
                call(data)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, data


def test_the_parts_of_a_message() -> None:
    request = pb.ModelInferRequest(model_name="m", id="x" * 300, raw_input_contents=[b"abc", b"", b"d" * 200])
    found = grpc_direct.parts(request.SerializeToString())
    assert found is not None and [bytes(raw) for raw in found[1]] == [b"abc", b"", b"d" * 200]
    other = pb.ModelInferRequest(model_name="m", id="x" * 300, raw_input_contents=[b"xyz", b"", b"e" * 200])
    assert (grpc_direct.parts(other.SerializeToString()) or found)[0] == found[0]
    for different in (
        pb.ModelInferRequest(model_name="n", id="x" * 300, raw_input_contents=[b"abc", b"", b"d" * 200]),
        pb.ModelInferRequest(model_name="m", id="x" * 300, raw_input_contents=[b"ab", b"c", b"d" * 200]),
        pb.ModelInferRequest(model_name="m", id="x" * 300, raw_input_contents=[b"abc", b"d" * 200]),
    ):
        parts = grpc_direct.parts(different.SerializeToString())
        assert parts is not None and parts[0] != found[0]
    assert grpc_direct.parts(pb.ModelInferRequest(model_name="m").SerializeToString()) is None
    for data in (b"", b"\x3a", b"\x3a\x05abc", b"\x08\x01\x3a\x01a", b"\x82\x01\x01a\x3a\x01a", b"\x3a\x00" * 300):
        assert grpc_direct.parts(data) is None, data
