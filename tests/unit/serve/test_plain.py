"""Plain requests: which are read without aiohttp, and that those behind them on a connection get their answers too."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator

import pytest
from serve_front import Server, until

from clusteradm.node.serve.fronts import connections, plain
from clusteradm.node.serve.fronts.head import MOST, Head
from clusteradm.node.serve.fronts.head import plain as read

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
