"""Control of serving on the head: what boards may change, and what nobody else may."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusteradm.node.serve import control, desired, head
from clusteradm.node.serve.control import ControlConfig, Server
from clusteradm.node.serve.plane import UNAVAILABLE, Refusal
from clusteradm.node.spec.wire.serving import (
    BoardState,
    DesiredState,
    EngineState,
    ServeConfig,
    ServedModel,
    VersionPolicy,
)
from clusteradm.node.spec.wire.serving_requests import BoardSaid


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("CLUSTERADM_STATE", str(tmp_path / "state"))
    (tmp_path / "models/digits/1").mkdir(parents=True)
    one = Server(ControlConfig("127.0.0.1", 0, str(tmp_path), {"w1": "127.0.0.1:8000", "w2": "192.0.2.2:8000"}))
    threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True).start()
    yield one
    one.shutdown()
    one.server_close()


def ask(server: Server, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=30)
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection.request(method, path, data)
    answer = connection.getresponse()
    document = json.loads(answer.read())
    connection.close()
    return answer.status, document


def test_a_model_is_served_and_served_no_more(server: Server, tmp_path: Path) -> None:
    assert ask(server, "POST", "/load", {"model": "digits"}) == (200, {"revision": 1})
    assert desired.read(str(tmp_path)).models == (ServedModel("digits", VersionPolicy()),)
    # Again: the boards look at it anew, and what was said of it stays.
    other = ServedModel("digits", VersionPolicy("specific", versions=(1,)), "1")
    desired.write(str(tmp_path), DesiredState(1, (other,)))
    assert ask(server, "POST", "/load", {"model": "digits"}) == (200, {"revision": 3})
    assert desired.read(str(tmp_path)).models == (other,)
    assert ask(server, "POST", "/unload", {"model": "digits"}) == (200, {"revision": 4})
    assert desired.read(str(tmp_path)).models == ()


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/load", {"model": "nothing"}, 404, "no model nothing is in the repository"),
        ("/unload", {"model": "digits"}, 404, "model digits is not served"),
        ("/load", {"model": "../digits"}, 400, "no model: model: '../digits' does not match"),
        ("/load", {}, 400, "no model: model: missing"),
        ("/load", b"[" * 1000, 400, "no model"),
        ("/load", b"x" * 70_000, 400, "at most 65536 bytes"),
        ("/other", {"model": "digits"}, 404, "there are /load and /unload"),
    ],
)
def test_what_cannot_be_changes_nothing(
    server: Server, tmp_path: Path, path: str, body: Any, status: int, error: str
) -> None:
    found, document = ask(server, "POST", path, body)
    assert found == status and error in document["error"]
    assert not (tmp_path / "serving").exists()


def test_only_boards_are_answered(server: Server) -> None:
    server.addresses = {"192.0.2.2"}
    assert ask(server, "POST", "/load", {"model": "digits"})[0] == 403
    assert ask(server, "GET", "/followed?revision=1")[0] == 403


def test_it_says_when_the_boards_have_followed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = (EngineState("0000:01:00.0", "ready"),)
    revisions = {"w1": [3, 3, 4], "w2": [4]}

    def said(host: str, place: str, seconds: float) -> BoardSaid:
        left = revisions[host]
        return BoardSaid(BoardState(host, left.pop(0) if len(left) > 1 else left[0], True, engines=ready))

    monkeypatch.setattr(control, "ask", said)
    monkeypatch.setattr(control, "_LOOK_SECONDS", 0.01)
    assert ask(server, "GET", "/followed?revision=4") == (200, {"done": True})
    monkeypatch.setattr(control, "_FOLLOW_SECONDS", 0.05)
    revisions["w1"] = [3]
    assert ask(server, "GET", "/followed?revision=4") == (200, {"done": False, "waits": ["w1 is at revision 3 of 4"]})
    # One that is away follows when it is back.
    monkeypatch.setattr(control, "ask", lambda *about: BoardSaid(error="timed out"))
    assert ask(server, "GET", "/followed?revision=4") == (200, {"done": True})
    assert ask(server, "GET", "/followed?revision=x")[0] == 404


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "does not answer"),
        (b"no HTTP\r\n\r\n", "does not answer"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"revision": ', "cut short"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{"revision": "nine"}', "damaged"),
    ],
)
def test_a_head_whose_answer_is_none_has_served_nothing(answer: bytes, text: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def once() -> None:
            connection, _ = listener.accept()
            with connection:
                while b"}" not in connection.recv(1 << 16):
                    pass
                connection.sendall(answer)

        thread = threading.Thread(target=once, daemon=True)
        thread.start()
        config = ServeConfig("w1", "127.0.0.1", "/nowhere", head="127.0.0.1")
        change = head.change(config, listener.getsockname()[1])
        assert change is not None
        with pytest.raises(Refusal, match=text) as caught:
            asyncio.run(change("digits", False))
        assert caught.value.kind == UNAVAILABLE
        thread.join(60)
