"""Plain requests: which are read without aiohttp, and that those behind them on a connection get their answers too."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import serve_place as place
from serve_front import Server, until

from clusteradm.node.serve import again
from clusteradm.node.serve.fronts import connections, metrics, plain
from clusteradm.node.serve.fronts.access_log import AccessLog
from clusteradm.node.serve.fronts.calls import Call, Desk
from clusteradm.node.serve.fronts.head import MOST, Head
from clusteradm.node.serve.fronts.head import plain as read
from clusteradm.node.serve.fronts.known import Known, KnownRequests
from clusteradm.node.serve.plane import OVERLOADED, Again, Answer, Plane, Refusal

from .test_rest_v2 import INFER, given

GET = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"


@contextlib.contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.http), timeout=60) as found:
        yield found


def post(body: bytes, *headers: str, path: str = INFER) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def answers(one: socket.socket, count: int) -> list[tuple[int, dict[str, str], bytes]]:
    """So many answers, as they come."""
    found = []
    with one.makefile("rb") as file:
        for _ in range(count):
            status = int(file.readline().split()[1])
            headers = {}
            for line in iter(file.readline, b"\r\n"):
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            found.append((status, headers, file.read(int(headers["content-length"]))))
    return found


def test_what_is_plain() -> None:
    data = b"POST /v2?a=%20 HTTP/1.1\r\nHost: b:1\r\nX-Y:  z\t\r\ncontent-length: 5\r\nEmpty:\r\n\r\nabcdeGET"
    headers = {"host": "b:1", "x-y": "z", "content-length": "5", "empty": ""}
    assert read(data) == Head("POST", "/v2?a=%20", headers, data.index(b"abcde"), 5)
    assert read(GET + b"more") == Head("GET", "/v2/health/live", {"host": "a"}, len(GET), 0)
    assert read(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n") is not None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GET[:-1],
        GET[:-2],
        b"\r\n" + GET,
        GET.replace(b"\r\n", b"\n"),
        GET.replace(b"1.1", b"1.0"),
        GET.replace(b" /v2", b"  /v2"),
        GET.replace(b" /v2", b" http://a/v2"),
        GET.replace(b"/v2", b"/v2\x00"),
        GET.replace(b"/v2", b"/v2\xe4"),
        GET.replace(b"GET", b"get"),
        GET.replace(b"GET", b"HEAD"),
        GET.replace(b"GET", b"POST"),  # of no length
        GET.replace(b"Host: a\r\n", b""),
        GET.replace(b"Host: a", b"Host:"),
        GET.replace(b"Host: a", b"Host : a"),
        GET.replace(b"Host: a", b" Host: a"),
        GET.replace(b"Host: a", b"Host: a\r\nHost: b"),
        GET.replace(b"Host: a", b"Host: a\r\n b"),
        GET.replace(b"Host: a", b"Host: a\rX: b"),
        GET.replace(b"Host: a", b"Host: a\nX: b"),
        GET.replace(b"Host: a", b"Host: a\r\nX\x7f: b"),
        GET.replace(b"Host: a", b"Host: a\r\nX: \xe4"),
        GET.replace(b"Host: a", b"Host: a\r\nX"),
        GET.replace(b"Host: a", b"Host: a\r\n: b"),
        GET.replace(b"Host: a", b"Host: a\r\nContent-Length: 0"),
        GET.replace(b"Host: a", b"Host: a\r\nConnection: close"),
        GET.replace(b"Host: a", b"Host: a\r\nConnection: keep-alive, X-Y"),
        GET.replace(b"Host: a", b"Host: a\r\nUpgrade: websocket"),
        GET.replace(b"Host: a", b"Host: a\r\nX: " + b"b" * MOST),
        *(
            b"POST / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\nabcde" % lines
            for lines in (
                b"Content-Length: +5",
                b"Content-Length: 5,5",
                b"Content-Length: 0x5",
                b"Content-Length: 5 5",
                b"Content-Length: 5\x0b",
                b"Content-Length: -5",
                b"Content-Length:",
                b"Content-Length: 9999999999",
                b"Content-Length: 5\r\nContent-Length: 5",
                b"Content-Length: 5\r\ncontent-length: 6",
                b"Content-Length: 5\r\nTransfer-Encoding: chunked",
                b"Content-Length: 5\r\nTransfer-Encoding:\tx",
                b"Transfer-Encoding: chunked",
                b"Content_Length: 5",
                b"Content-Length: 5\r\nExpect: 100-continue",
                b"Content-Length: 5\r\nContent-Encoding: gzip",
                b"Content-Length: 5\r\nTE: trailers",
            )
        ),
    ],
)
def test_what_is_for_aiohttp(data: bytes) -> None:
    assert read(data) is None


def test_requests_of_both_kinds_on_one_connection(server: Server) -> None:
    body = json.dumps(given()).encode()
    chunked = b"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % INFER.encode()
    chunked += b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    with connected(server) as one:
        one.sendall(post(body, "x-request-id: first") + GET + chunked + GET)
        found = answers(one, 4)
    assert [status for status, _, _ in found] == [200] * 4
    assert found[0][1]["x-request-id"] == "first" and found[0][1]["server"] == "clusteradm" and found[0][1]["date"]
    assert json.loads(found[0][2])["outputs"] == json.loads(found[2][2])["outputs"]
    assert json.loads(found[1][2]) == json.loads(found[3][2]) == {"live": True}
    # Both say the same of themselves.
    assert set(found[0][1]) == set(found[2][1])


def test_a_body_in_pieces_and_what_is_behind_it(server: Server) -> None:
    body = json.dumps(given()).encode()
    data = post(body) + GET
    with connected(server) as one:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end = data.index(b"\r\n\r\n") + 4
        for at, to in ((0, end), (end, end + 1), (end + 1, end + 700), (end + 700, len(data))):
            one.sendall(data[at:to])
        assert [status for status, _, _ in answers(one, 2)] == [200, 200]


def test_a_long_pipeline_is_answered_in_order(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "_MOST_BEHIND", 1000)
    with connected(server) as one:
        ids = [f"n{number}" for number in range(300)]
        one.sendall(b"".join(post(b"{}", f"x-request-id: {id}") for id in ids))
        found = answers(one, 300)
    assert [headers["x-request-id"] for _, headers, _ in found] == ids and {status for status, _, _ in found} == {400}


def test_a_client_that_takes_no_answers(server: Server) -> None:
    """It is given nothing more to do, until it does."""
    with connected(server) as one:
        one.settimeout(0.5)
        ask = GET.replace(b"/v2/health/live", b"/")
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 64 << 20:
                sent += one.send(ask * 100)
        assert sent < 64 << 20
        assert server.ask("GET", "/v2/health/live").status == 200
        one.settimeout(60)
        assert [status for status, _, _ in answers(one, 50)] == [200] * 50


def test_a_body_for_which_there_is_no_room(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusteradm.node.serve.fronts.calls.MOST_BODIES", 3000)
    with connected(server) as one:
        one.sendall(post(bytes(5000))[:4500] + GET)
        ((status, headers, _),) = answers(one, 1)
        assert status == 429 and headers["retry-after"] == "1" and headers["connection"] == "close"
        assert one.recv(100) == b""
    body = json.dumps(given()).encode()
    assert len(body) < 3000
    for _ in range(3):  # what was counted is so no longer
        assert server.ask("POST", INFER, body).status == 200


def test_clients_that_leave_in_a_body(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusteradm.node.serve.fronts.calls.MOST_BODIES", 20000)
    for _ in range(5):
        with connected(server) as one:
            one.sendall(post(bytes(50000))[:9000])
            assert server.ask("GET", "/v2/health/live").status == 200
    until(lambda: server.ask("POST", INFER, given()).status == 200)


def test_the_longest_body_and_one_more(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "MOST_BODY", 5000)
    assert server.ask("POST", INFER, bytes(5000)).status == 400
    assert server.ask("POST", INFER, bytes(5001)).status == 400  # by aiohttp
    monkeypatch.setattr("clusteradm.node.serve.fronts.rest_v2.MOST_JSON", 5000)
    assert server.ask("POST", INFER, bytes(5001)).status == 413


def test_plain_connections_stay_and_are_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.1)
    with connected(server) as one:
        one.sendall(GET + post(b"{}")[:-1])
        found = answers(one, 2)
        assert [status for status, _, _ in found] == [200, 408] and found[1][1]["connection"] == "close"
        assert one.recv(100) == b""


def binary(image: Any, *headers: str, path: str = INFER, **parameters: Any) -> bytes:
    """A request of the binary form."""
    entry = {"name": place.INPUT, "datatype": "UINT8", "shape": [1, 28, 28, 1]}
    entry["parameters"] = {"binary_data_size": 784}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True, **parameters}}).encode()
    return post(head + image.tobytes(), f"Inference-Header-Content-Length: {len(head)}", *headers, path=path)


def numbers(answer: tuple[int, dict[str, str], bytes]) -> tuple[dict[str, Any], Any]:
    """The JSON of an answer of that form, and the numbers behind it."""
    status, headers, body = answer
    assert status == 200, body
    size = int(headers["inference-header-content-length"])
    return json.loads(body[:size]), np.frombuffer(body[size:], np.uint8)


def images() -> list[Any]:
    return [place.drawn(), np.zeros_like(place.drawn()), place.drawn().transpose(0, 2, 1, 3)]


def test_a_request_that_is_known_is_answered_by_its_own_numbers(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected(server) as one:
        one.sendall(b"".join(binary(image, f"x-request-id: a{at}") for at, image in enumerate(images())))
        first = [numbers(each) for each in answers(one, 3)]
        # From here on nobody looks at the JSON.
        monkeypatch.setattr("clusteradm.node.serve.fronts.rest_v2._infer", None)
        one.sendall(b"".join(binary(image, f"x-request-id: b{at}") for at, image in enumerate(images())))
        again = [numbers(each) for each in answers(one, 3)]
    assert len({tuple(values) for _, values in first}) == 3
    for (document, values), (other, same) in zip(first, again, strict=True):
        assert np.array_equal(values, same)
        for each in (document, other):
            assert each["parameters"].pop("inference_us") > 0 and each["parameters"].pop("queue_us") >= 0
        assert document == other and document["parameters"] == {"board": "board-1", "tpu": "cpu"}
    lines = until(lambda: [line for line in server.lines if line["id"] in ("a1", "b1")][1:] and server.lines)
    one_line, other_line = (next(line for line in lines if line["id"] == id) for id in ("a1", "b1"))
    assert set(one_line) == set(other_line) and one_line["received"] == other_line["received"] > 784
    assert (other_line["model"], other_line["version"], other_line["outcome"]) == ("digits", 2, "ok")


def test_what_says_more_than_a_known_request_is_looked_at(server: Server) -> None:
    image = place.drawn()
    with connected(server) as one:
        one.sendall(binary(image) * 2)
        answers(one, 2)
        one.sendall(binary(image, "clusteradm-timeout: 0"))
        one.sendall(binary(image, "clusteradm-priority: -1"))
        one.sendall(binary(image, "clusteradm-version: 1"))
        one.sendall(binary(image, timeout=-5))
        one.sendall(GET)
        one.sendall(binary(image, path=INFER.replace("digits", "nothing")))
        one.sendall(binary(image, path=INFER.replace("digits", "digits/versions/stable")))
        found = answers(one, 7)
    assert [status for status, _, _ in found] == [400, 400, 200, 400, 200, 404, 200]
    assert [numbers(found[at])[0]["model_version"] for at in (2, 6)] == ["1", "1"]


def test_a_known_request_with_other_lengths_is_refused(server: Server) -> None:
    image = place.drawn()
    data = binary(image)
    with connected(server) as one:
        one.sendall(data * 2)
        answers(one, 2)
        length = len(data) - data.index(b"\r\n\r\n") - 4
        for size in (length - 1, length + 1):
            changed = data.replace(b"Content-Length: %d\r" % length, b"Content-Length: %d\r" % size)
            one.sendall((changed + b"\0")[: len(data) + size - length])
            assert answers(one, 1)[0][0] == 400


def test_an_engine_that_goes_or_is_full_under_a_known_request(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    class Answering(Again):
        def __init__(self, found: Any) -> None:
            self.found = found

        def begin(self, pieces: Any, done: Any) -> Any:
            asyncio.get_running_loop().call_soon(done, self.found)
            return lambda: None

    for found, status in ((None, 200), (Refusal(OVERLOADED, "full", 3.0), 429), ("no answer", 500)):
        monkeypatch.setattr(again, "repeated", lambda *_, found=found: Answering(found))
        with connected(server) as one:
            data = binary(place.drawn(), about=str(found))
            one.sendall(data)
            numbers(answers(one, 1)[0])
            one.sendall(data)
            got = answers(one, 1)[0]
        assert got[0] == status and (status != 429 or got[1]["retry-after"] == "3")


def test_nobody_waits_for_a_known_request_of_a_client_that_has_left(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = []

    class Silent(Again):
        def begin(self, pieces: Any, done: Any) -> Any:
            return lambda: left.append(True)

    monkeypatch.setattr(again, "repeated", lambda *_: Silent())
    with connected(server) as one:
        one.sendall(binary(place.drawn(), "x-request-id: leaves", about="leaving"))
        numbers(answers(one, 1)[0])
        one.sendall(binary(place.drawn(), "x-request-id: leaves", about="leaving"))
    assert until(lambda: left) == [True]
    line = until(lambda: [each for each in server.lines if each["id"] == "leaves"][1:])[0]
    assert line["outcome"] == "invalid" and "gone" in line["error"]


def test_known_requests_are_bounded() -> None:
    known = KnownRequests()
    one = Known("m", Again(), [])
    known.keep(("/", b"x" * 5000, 1), one)
    assert known.get(("/", b"x" * 5000, 1)) is None
    for number in range(300):
        known.keep(("/", b"%d" % number, 1), one)
        assert known.get(("/", b"0", 1)) is one
    assert known.get(("/", b"1", 1)) is None and known.get(("/", b"299", 1)) is one


class OfOneModel(Plane):
    """A plane with one model."""

    def serves(self, model: str) -> bool:
        return model == "m"


def test_calls_are_counted_when_somebody_looks(tmp_path: Path) -> None:
    read, write = os.pipe()
    desk = Desk(OfOneModel(), metrics.Metrics(str(tmp_path), 0), AccessLog(write))

    async def end() -> None:
        for number in range(3):
            call = Call("rest", f"/{number}", "c")
            call.model = "m"
            call.answer = Answer("m", 1, (), "", "b", "cpu", False, 0.0, 0.5)
            desk.end(call)
        assert desk.metrics.requests() == {"m 1": 3.0}  # at once
        assert desk.metrics.requests() == {"m 1": 3.0}

    asyncio.run(end())
    desk.log.close()
    os.close(write)
    with open(read, "rb") as file:
        assert [json.loads(line)["operation"] for line in file] == ["/0", "/1", "/2"]
