"""HTTP itself: what is too large, too slow, too much, or damaged; what the log and the metrics say of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import serve_place as place
from prometheus_client.parser import text_string_to_metric_families
from serve_front import Server, serving, until

from clusteradm.node.serve.fronts import connections, form, metrics, passed
from clusteradm.node.serve.fronts.access_log import AccessLog
from clusteradm.node.serve.fronts.calls import Desk
from clusteradm.node.serve.fronts.network import Network
from clusteradm.node.serve.plane import INTERNAL, OVERLOADED, UNAVAILABLE, Answer, Plane, Refusal, Request, Tensor
from clusteradm.node.spec.wire.decode import decode
from clusteradm.node.spec.wire.serving import AVAILABLE, BoardState, EngineState, ModelTraffic, VersionState

from .test_rest_v2 import INFER, given


@contextlib.contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.http), timeout=60) as found:
        yield found


def test_bodies_over_the_limit(server: Server) -> None:
    with connected(server) as one:
        one.sendall(b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n" % INFER.encode())
        assert one.recv(100).startswith(b"HTTP/1.1 413 ")
    # In pieces, without a length.
    with connected(server) as one:
        one.sendall(b"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % INFER.encode())
        piece = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                one.sendall(piece)
        assert one.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_json_bomb(server: Server) -> None:
    for body in (
        b"[" * 1_000_000,
        b'{"inputs":' * 200_000 + b"1" + b"}" * 200_000,
        b"[" + b"[]," * 600_000 + b"[]]",
        b"[" + b"1," * 2_100_000 + b"1]",
    ):
        got = server.ask("POST", INFER, body)
        assert got.status in (400, 413) and got.json["error"], got
    deep = b"[" * 400 + b"]" * 400
    assert server.ask("POST", INFER, b'{"inputs": %s}' % deep).status == 400


def test_a_body_that_comes_in_time_and_in_pieces(server: Server) -> None:
    body = json.dumps(given()).encode()
    with connected(server) as one:
        head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
        one.sendall(head.encode())
        assert one.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        for at in range(0, len(body), 500):
            one.sendall(body[at : at + 500])
        assert one.recv(100).startswith(b"HTTP/1.1 200 ")


def test_slow_clients_are_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_SECONDS", "BODY_SECONDS", "KEEP_SECONDS"):
        monkeypatch.setattr(connections, name, 0.2)
    with connected(server) as silent, connected(server) as head, connected(server) as body, connected(server) as kept:
        head.sendall(b"GET /v2 HTTP/1.1\r\nHost:")
        body.sendall(b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{" % INFER.encode())
        kept.sendall(b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert kept.recv(100).startswith(b"HTTP/1.1 200 ")
        assert body.recv(100).startswith(b"HTTP/1.1 408 ")
        for one in (silent, head, body, kept):
            with contextlib.suppress(ConnectionError):
                while one.recv(4096):
                    pass


def test_who_comes_when_there_are_too_many_takes_the_oldest_place(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 20)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(server)) for _ in range(60)]
        assert server.ask("GET", "/v2").status == 200
        idle[-1].sendall(b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert idle[-1].recv(100).startswith(b"HTTP/1.1 200 ")
        with contextlib.suppress(ConnectionError):
            assert idle[0].recv(100) == b""


def test_a_crowd_that_says_nothing_drives_out_nobody_who_asks(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 20)
    head = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{" % INFER.encode()
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(connected(server)) for _ in range(8)]
        # One of them by aiohttp.
        kept[0].sendall(b"GET /v2 HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nTE: trailers\r\n\r\n")
        for one in kept[1:]:
            one.sendall(b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n")
        for one in kept:
            assert one.recv(1000).startswith(b"HTTP/1.1 200 ")
        crowd = [stack.enter_context(connected(server)) for _ in range(60)]
        for number, one in enumerate(crowd):
            with contextlib.suppress(ConnectionError):
                one.sendall((b"", head, b"GET /v2 HTTP/1.1\r\nHo")[number % 3])
        for one in kept:
            one.sendall(b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert one.recv(1000).startswith(b"HTTP/1.1 200 ")
        # Nor do those that rest keep others out.
        for _ in range(30):
            resting = stack.enter_context(connected(server))
            resting.sendall(b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert resting.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_slow_bodies_take_no_place_from_others(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 20)
    head = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{" % INFER.encode()
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connected(server)) for _ in range(60)]
        for one in slow:
            with contextlib.suppress(ConnectionError):
                one.sendall(head)
        assert server.ask("POST", INFER, given()).status == 200
        with contextlib.suppress(ConnectionError):
            assert slow[0].recv(100) == b""


def test_many_connections_stay_open(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(connected(server)) for _ in range(300)]
        for _ in range(2):
            for one in kept:
                one.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n")
            for one in kept:
                assert one.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_an_endless_pipeline_is_cut(server: Server) -> None:
    with connected(server) as one, contextlib.suppress(ConnectionError):
        one.settimeout(60)
        asked = (b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}" % INFER.encode()) * 2000
        one.sendall(asked)
        one.shutdown(socket.SHUT_WR)
        while one.recv(1 << 16):
            pass
    assert server.ask("GET", "/v2").status == 200


def test_damaged_requests(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    for data in (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0" * 9000 + b"\r\n\r\n",
    ):
        with connected(server) as one, contextlib.suppress(ConnectionError):
            one.sendall(data)
            one.shutdown(socket.SHUT_WR)
            assert one.recv(100)[:12] in (b"HTTP/1.1 400", b"HTTP/1.0 400", b"")
    assert server.ask("GET", "/v2").status == 200
    assert not caplog.records


@pytest.mark.parametrize(
    "head", [b"FOO / HTTP/1.1", b"GET / HTTP/1.1\r\nno colon", b"GET /%s HTTP/1.1" % (b"a" * 9000), b"GET /\0 HTTP/1.1"]
)
def test_what_is_no_request_is_answered_as_others_are(server: Server, head: bytes) -> None:
    with connected(server) as one:
        one.sendall(head + b"\r\nHost: a\r\n\r\n")
        answer = b"".join(iter(lambda: one.recv(1 << 16), b""))
    lines, _, body = answer.partition(b"\r\n\r\n")
    assert lines.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 ")) and len(body) < 300
    assert b"application/json" in lines and b"aiohttp" not in lines and "damaged" in json.loads(body)["error"]


def test_a_client_that_leaves_costs_nobody_else(server: Server) -> None:
    body = json.dumps(given()).encode()
    for _ in range(5):
        with connected(server) as one:
            one.sendall(
                f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body[:1000]
            )
    assert server.ask("POST", INFER, given()).status == 200


class Refusing(Plane):
    """A plane that has one reason for every request."""

    def __init__(self, reason: Exception) -> None:
        self.reason = reason

    async def infer(self, request: Request) -> Answer:
        raise self.reason


def test_a_line_of_the_log_that_is_no_text() -> None:
    """aiohttp 3.8 lets such paths through."""
    read, write = os.pipe()
    log = AccessLog(write)
    log.write([{"operation": "/\udcff", "seconds": 0.5}])
    log.close()
    os.close(write)
    with open(read, "rb") as file:
        assert json.loads(file.read()) == {"operation": "/\\udcff", "seconds": 0.5}


@pytest.mark.parametrize(
    ("reason", "status", "kind", "retry"),
    [
        (Refusal(OVERLOADED, "the queue is full", 2.4), 429, OVERLOADED, "2"),
        (Refusal(UNAVAILABLE, "no engine is ready"), 503, UNAVAILABLE, "1"),
        (ValueError("secret"), 500, INTERNAL, None),
    ],
)
def test_what_the_plane_refuses(
    server: Server, monkeypatch: pytest.MonkeyPatch, reason: Exception, status: int, kind: str, retry: str | None
) -> None:
    monkeypatch.setattr(server.plane, "infer", Refusing(reason).infer)
    got = server.ask("POST", INFER, given(), {"x-request-id": f"refused-{status}"})
    assert got.status == status and got.headers.get("retry-after") == retry
    assert "secret" not in got.json["error"] and "Traceback" not in got.json["error"]
    (line,) = until(lambda: [each for each in server.lines if each["id"] == f"refused-{status}"])
    assert line["outcome"] == kind and line["model"] == "digits"
    assert ("secret" in line["error"]) == (status == 500)


def test_the_log_says_what_was_answered_and_from_where(server: Server) -> None:
    headers = {"x-request-id": "for-the-log", "X-Forwarded-For": "10.0.0.9", "clusteradm-client-name": "camera-1"}
    server.ask("POST", INFER, given(), headers)
    (line,) = until(lambda: [each for each in server.lines if each["id"] == "for-the-log"])
    assert line["protocol"] == "kserve-rest" and line["operation"] == INFER and line["client"] == "127.0.0.1"
    assert (line["forwarded"], line["client_name"]) == ("10.0.0.9", "camera-1")
    assert line["outcome"] == "ok" and (line["model"], line["version"]) == ("digits", 2)
    assert (line["board"], line["tpu"]) == ("board-1", "cpu") and line["seconds"] >= line["inference"] > 0
    assert line["received"] == len(json.dumps(given())) and line["sent"] > 100


def test_paths_that_are_no_text(server: Server) -> None:
    for path in (b"/\xff\xfe", b"/v2/models/\xed\xa0\x80/infer", b"/v2/models/%ff", b"/v1/models/\xff:predict"):
        with connected(server) as one:
            one.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\nx-request-id: odd\r\n\r\n" % path)
            assert one.recv(100)[8:12] in (b" 404", b" 405", b" 400")
    server.ask("GET", "/v2", headers={"x-request-id": "after-the-odd"})
    until(lambda: [each for each in server.lines if each["id"] == "after-the-odd"])


def test_a_request_as_a_proxy_gets_it(server: Server) -> None:
    got = server.ask("GET", f"http://{server.url}/v2/models?a=b")
    assert got.status == 200 and got.json == {"models": ["colours", "digits"]}
    # HAProxy, which lets only the cluster's own to /metrics, reads a query here, as the standard does.
    got = server.ask("GET", "http://a?/metrics")
    assert got.status == 200 and b"<html" in got.body


def samples(server: Server) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(server.ask("GET", "/metrics").body.decode()):
        for each in family.samples:
            found[f"{each.name}{sorted(each.labels.items())}"] = each.value
    return found


def test_metrics_count(server: Server) -> None:
    assert server.ask("GET", "/metrics").headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"

    def count(name: str, **labels: str) -> float:
        return samples(server).get(f"clusteradm_serve_{name}{sorted(labels.items())}", 0.0)

    asked = {"model": "digits", "version": "2", "protocol": "kserve-rest", "outcome": "ok"}
    lost = {"model": "", "version": "", "protocol": "kserve-rest", "outcome": "not_found"}
    before, missed = count("requests_total", **asked), count("requests_total", **lost)
    seconds = count("request_seconds_count", model="digits", version="2")
    server.ask("POST", INFER, given())
    server.ask("POST", "/v2/models/never-there/infer", given())
    assert server.ask("POST", "/v2/models/never-there/infer", b"{").status == 400
    assert count("requests_total", **asked) == before + 1 and count("requests_total", **lost) == missed + 1
    assert count("request_seconds_count", model="digits", version="2") == seconds + 1
    assert count("request_seconds_bucket", model="digits", version="2", le="+Inf") == seconds + 1
    assert count("inferences_total", model="digits", version="2", tpu="cpu") >= 1
    assert count("version_available", model="digits", version="1") == 1
    assert not any("never-there" in name for name in samples(server))


def test_several_front_processes_are_summed(tmp_path: Path) -> None:
    answer = Answer("m", 3, (), "", "b", "0000:01:00.0", True, 0.25, 0.5)
    one, two = (metrics.Metrics(str(tmp_path), number) for number in range(2))
    for _ in range(3):
        one.request("m", "rest", "ok", 0.002, answer, 10, 20)
    two.request("m", "rest", "ok", 20.0, answer, 1, 2)
    two.request('"\n\\', "rest", "invalid", 0.1, None, 1, 2)
    two.save()
    again = metrics.Metrics(str(tmp_path), 1)  # started again: it goes on
    assert again.whole() == two.whole()
    engine = EngineState("0000:01:00.0", "ready", simulated=True, temperature=41.5)
    state = BoardState("b", 7, True, (VersionState("m", 3, AVAILABLE, load_seconds=0.5, swap_seconds=0.25),), (engine,))
    found = {}
    for family in text_string_to_metric_families(one.text(state).decode()):
        for each in family.samples:
            found[each.name.replace("clusteradm_serve_", ""), tuple(each.labels.values())] = each.value
    assert found["requests_total", ("m", "3", "rest", "ok")] == 4
    assert found["requests_total", ('"\n\\', "", "rest", "invalid")] == 1
    assert found["inference_seconds_total", ("m", "3", "0000:01:00.0")] == 2.0
    assert found["request_seconds_bucket", ("m", "3", "0.0025")] == 3
    assert found["request_seconds_bucket", ("m", "3", "+Inf")] == 4
    assert found["request_seconds_sum", ("m", "3")] == pytest.approx(20.006)
    assert found["received_bytes_total", ("m", "rest")] == 31
    assert found["version_load_seconds", ("m", "3")] == 0.5 and found["version_swap_seconds", ("m", "3")] == 0.25
    assert not any(name == "version_inference_seconds" for name, _ in found)
    assert found["tpu_temperature_celsius", ("0000:01:00.0", "true")] == 41.5
    (tmp_path / "front-1.json").write_text("{damaged")
    assert one.requests() == {"m 3": 3.0}


def test_a_log_that_nobody_reads_delays_nothing() -> None:
    read, write = os.pipe()
    log = AccessLog(write)
    started = time.monotonic()
    for number in range(30000):
        log.write([{"id": number, "text": "x" * 100}])
    assert time.monotonic() - started < 20
    os.close(read)
    log.close()
    os.close(write)


def test_bodies_of_all_requests_are_bounded(tmp_path: Path) -> None:
    read, write = os.pipe()
    desk = Desk(Plane(), metrics.Metrics(str(tmp_path), 0), AccessLog(write))
    desk.hold(60 << 20)
    with pytest.raises(Refusal) as caught:
        desk.hold(5 << 20)
    assert caught.value.kind == OVERLOADED
    desk.release(60 << 20)
    desk.hold(5 << 20)
    desk.log.close()
    os.close(read)
    os.close(write)


FORM = b"""--x\r
Content-Disposition: form-data; name="min_confidence"\r
\r
0.5\r
--x\r
Content-Disposition: form-data; name="image"; filename="a.jpg"\r
Content-Type: image/jpeg\r
\r
\xff\xd8\r\n--y\r\n\0\r
--x--\r
"""


class Slow(Plane):
    """A plane that answers when it is told to."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), False

    def serves(self, model: str) -> bool:
        return model == "m"

    async def infer(self, request: Request) -> Answer:
        self.begun.set()
        while not self.go:
            await asyncio.sleep(0.01)
        output = Tensor("y", "UINT8", (1,), np.zeros(1, np.uint8))
        return Answer("m", 1, (output,), "", "b", "0000:01:00.0", True, 0.0, 0.0)

    async def board(self) -> BoardState:
        return BoardState("b", 1, True)


def test_a_server_that_ends_answers_what_it_has(tmp_path: Path) -> None:
    """And closes what is idle at once: its end is waited for, for 30 s."""
    plane = Slow()
    body = {"inputs": [{"name": "x", "datatype": "UINT8", "shape": [1], "data": [1]}]}
    started = time.monotonic()
    with ThreadPoolExecutor() as pool:
        with serving(plane, tmp_path) as server, connected(server) as idle:
            idle.sendall(b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert idle.recv(100).startswith(b"HTTP/1.1 200 ")
            answer = pool.submit(server.ask, "POST", "/v2/models/m/infer", body)
            assert plane.begun.wait(60)
            ended = pool.submit(server.end)
            until(lambda: refused(server))
            assert not answer.done()
            plane.go = True
            ended.result(60)
        got = answer.result(60)
    assert got.status == 200 and got.json["outputs"][0]["data"] == [0]
    (line,) = (each for each in server.lines if each["operation"] == "/v2/models/m/infer")
    assert line["outcome"] == "ok" and line["simulated"] is True
    assert got.headers["clusteradm-simulated"] == "true" and got.json["parameters"]["simulated"] is True
    assert time.monotonic() - started < 29


def refused(server: Server) -> bool:
    try:
        with connected(server):
            return False
    except ConnectionRefusedError:
        return True


def test_forms() -> None:
    fields = form.read("multipart/form-data; boundary=x", FORM)
    assert fields == {"min_confidence": b"0.5", "image": b"\xff\xd8\r\n--y\r\n\0"}
    assert form.read('multipart/form-data; charset=utf-8; boundary="x"', b"preamble\r\n" + FORM) == fields
    for kind, body in (
        ("multipart/form-data; boundary=x", FORM[:-20]),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=z", FORM),
        ("multipart/form-data; boundary=x", b"--x\r\nno head"),
        ("multipart/form-data; boundary=x", b"--x\r\n" * 100),
        ("multipart/form-data", FORM),
        ("application/json", FORM),
        (None, FORM),
    ):
        with pytest.raises(Refusal):
            form.read(kind, body)


def test_a_port_that_something_else_has(server: Server, tmp_path: Path) -> None:
    """Named, and nothing is left running."""
    from clusteradm.node.serve.fronts import grpc_v2
    from clusteradm.node.serve.fronts.frigate import FrigateFront
    from clusteradm.node.serve.fronts.grpc_calls import GrpcFront

    read, write = os.pipe()
    desk = Desk(server.plane, metrics.Metrics(str(tmp_path), 0), AccessLog(write))

    async def start(kind: Any) -> None:
        front = GrpcFront(desk, [grpc_v2.service()]) if kind is GrpcFront else FrigateFront(desk)
        try:
            await front.start(server.rpc if kind is GrpcFront else f"127.0.0.1:{server.zmq}")
        finally:
            await front.close(0.0)

    for kind in (GrpcFront, FrigateFront):
        with pytest.raises(OSError, match="cannot listen on 127"):
            asyncio.run(start(kind))
    desk.log.close()
    os.close(read)
    os.close(write)


def test_a_small_body_that_unfolds_is_noticed_early() -> None:
    import zlib

    unpack = passed._Unpacker("deflate")
    packed = zlib.compress(bytes(16 << 20))
    sizes = [len(part) for part, _ in zip(unpack.parts(packed), range(10), strict=False)]
    assert max(sizes) <= 1 << 16


def test_clients_of_other_networks_are_told_to_ask_the_head(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A board's address in the cluster's network is reached through its other networks as well."""
    ours = Network("10.78.0.0/24")
    assert [ours.has(each) for each in ("10.78.0.9", "127.0.0.1", "10.77.0.254", "::ffff:10.78.0.9", "")] == [
        *(True, True),
        *(False, False, False),
    ]
    assert Network(None).has("10.77.0.254")
    ours.admit("ipv4:10.78.0.9:5000")
    for peer in ("ipv4:10.77.0.254:5000", "ipv6:[::1]:5000", "unix:", ""):
        with pytest.raises(Refusal):
            ours.admit(peer)
    monkeypatch.setattr(Network, "has", lambda self, address: False)
    for path in ("/v2", "/metrics", "/"):
        got = server.ask("GET", path)
        assert got.status == 403 and "ask the head" in got.json["error"]
    assert server.ask("POST", INFER, given()).status == 403
    with grpc.insecure_channel(server.rpc) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=60)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    with grpc.insecure_channel(server.rpc) as channel, pytest.raises(grpc.RpcError) as caught:
        list(channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(iter([b""]), timeout=60))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_the_state_of_a_board(server: Server) -> None:
    state = server.ask("GET", "/clusteradm/state")
    assert state.json["host"] == "board-1" and state.json["versions"][0]["name"] == "digits"
    assert server.ask("POST", INFER, given()).status == 200
    assert server.ask("POST", INFER.replace("digits", "no%20such"), given()).status == 404

    def asked() -> dict[str, ModelTraffic]:
        traffic = decode(BoardState, server.ask("GET", "/clusteradm/state").json).traffic
        return {each.model: each for each in traffic if each.outcomes.get("ok")}

    traffic = until(asked)
    assert set(traffic) <= {each["name"] for each in state.json["versions"]}
    digits = traffic["digits"]
    assert 0 < sum(digits.times) <= sum(digits.outcomes.values()) and digits.seconds > 0
    assert server.ask("GET", "/clusteradm/balance").status == 200
    assert place.INPUT in json.dumps(server.ask("GET", "/clusteradm/overview").json)
    assert server.ask("GET", "/clusteradm/other").status == 404
