"""The desired state of serving on the head, HAProxy's maps, and what boards say of themselves."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from clusteradm.node.serve import balancer, desired, status
from clusteradm.node.spec.wire.fleet import ChangeDrains, DrainReason
from clusteradm.node.spec.wire.serving import (
    BoardState,
    BoardTpus,
    Canary,
    DesiredState,
    ServedModel,
    VersionPolicy,
)
from clusteradm.node.spec.wire.serving_requests import AskServing, ShowServing, StoreServing
from clusteradm.transport import Node, NodeError

DIGITS = ServedModel("digits", VersionPolicy("specific", versions=(1, 2)), default="1", canary=Canary(2, 5.0))


def test_a_state_is_stored_as_the_successor_of_the_one_it_was_made_of(
    start: Callable[[], Node], tmp_path: Path
) -> None:
    node, shared = start(), str(tmp_path)
    assert node.call(ShowServing(shared)).state == DesiredState(0)
    first = node.call(StoreServing(shared, DesiredState(0, (DIGITS,))))
    assert (first.stored, first.state.revision, first.ready) == (True, 1, False)
    # Two who began with the same: the second is told what there is now.
    late = start().call(StoreServing(shared, DesiredState(0, drained=("w1",))))
    assert (late.stored, late.state) == (False, first.state)
    second = node.call(StoreServing(shared, replace(late.state, boards=(BoardTpus("w1", (None,)),))))
    assert (second.stored, second.state.revision, second.state.models) == (True, 2, (DIGITS,))
    path = tmp_path / "serving/desired.json"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o644, 0o755)
    assert json.loads(path.read_text())["models"][0]["canary"] == {"percent": 5.0, "version": 2}


def test_drains_of_the_cluster_hold_for_serving(start: Callable[[], Node], tmp_path: Path) -> None:
    node, shared = start(), str(tmp_path)
    why = DrainReason("hot", "ann")
    node.call(ChangeDrains({"w3": why}, shared=shared))
    assert not (tmp_path / "serving").exists()  # nobody serves
    node.call(StoreServing(shared, DesiredState(0)))
    node.call(ChangeDrains({"w2:0001:01:00.0": why}, shared=shared))
    shown = node.call(ShowServing(shared)).state
    assert (shown.revision, shown.out_of_service) == (2, ("w2:0001:01:00.0", "w3"))
    # Not a matter of whoever changes what is served; and nothing new is no change.
    node.call(StoreServing(shared, replace(shown, out_of_service=(), drained=("w1",))))
    node.call(ChangeDrains(shared=shared))
    shown = node.call(ShowServing(shared)).state
    assert (shown.revision, shown.out_of_service, shown.drained) == (3, ("w2:0001:01:00.0", "w3"), ("w1",))
    node.call(ChangeDrains(undrain=("w3", "w2:0001:01:00.0"), shared=shared))
    assert node.call(ShowServing(shared)).state.out_of_service == ()


@pytest.mark.parametrize("text", ["{", '{"revision": 1, "format": 2}', '{"revision": 1, "models": [{"name": "a/b"}]}'])
def test_a_damaged_state_is_an_error_and_is_kept(start: Callable[[], Node], tmp_path: Path, text: str) -> None:
    path = tmp_path / "serving/desired.json"
    path.parent.mkdir()
    path.write_text(text)
    node = start()
    for request in (ShowServing(str(tmp_path)), StoreServing(str(tmp_path), DesiredState(0))):
        with pytest.raises(NodeError, match=r"desired\.json cannot be read .*Move it away"):
            node.call(request)
    assert path.read_text() == text


def test_the_canaries_entries_are_by_model() -> None:
    state = DesiredState(
        3, (DIGITS, replace(DIGITS, name="other", canary=Canary(7, 0.5)), replace(DIGITS, name="none", canary=None))
    )
    assert balancer.canaries(state) == {
        "canary-version.map": {"digits": "2", "other": "7"},
        "canary-percent.map": {"digits": "500", "other": "50"},
    }
    # None is as good as no canary at all.
    assert balancer.canaries(DesiredState(1, (replace(DIGITS, canary=Canary(2, 0.0)),)))["canary-version.map"] == {}


class Haproxy(threading.Thread):
    """A socket that answers as HAProxy's does, with maps of its own."""

    def __init__(self, path: Path, stat: str = "") -> None:
        super().__init__(daemon=True)
        self.maps: dict[str, dict[str, str]] = {}
        self.stat = stat
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.sendall(self.answer(connection.recv(4096).decode().split()).encode())

    def answer(self, words: list[str]) -> str:
        if words == ["show", "stat"]:
            return self.stat
        entries = self.maps.setdefault(words[2], {})
        if words[0] == "show":
            return "".join(f"0x55{n} {key} {value}\n" for n, (key, value) in enumerate(entries.items()))
        if words[0] == "del":
            return "\n" if entries.pop(words[3], None) else "Key not found.\n"
        if (words[0] == "add") == (words[3] in entries):
            return "refused\n"
        entries[words[3]] = words[4]
        return "\n"

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def haproxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Haproxy]:
    (tmp_path / "maps").mkdir()
    (tmp_path / "haproxy.cfg").write_text("# clusteradm\nglobal\n    tune.bufsize 262144\n")
    monkeypatch.setattr(balancer, "MAPS", str(tmp_path / "maps"))
    monkeypatch.setattr(balancer, "CONFIGURATION", str(tmp_path / "haproxy.cfg"))
    monkeypatch.setattr(balancer, "SOCKET", str(tmp_path / "socket"))
    one = Haproxy(tmp_path / "socket")
    one.start()
    yield one
    one.close()


def test_haproxy_follows_live_and_after_a_reload(haproxy: Haproxy, tmp_path: Path) -> None:
    def now() -> dict[str, dict[str, str]]:
        return {Path(name).name: dict(entries) for name, entries in haproxy.maps.items()}

    for model in (DIGITS, replace(DIGITS, canary=Canary(3, 50.0)), replace(DIGITS, canary=None)):
        state = DesiredState(1, (model,))
        assert balancer.follow(state) == ""
        assert now() == {**balancer.canaries(state), "placed.map": {}}
        for name, entries in balancer.canaries(state).items():
            text = (tmp_path / "maps" / name).read_text()
            assert text == "".join(f"{key} {value}\n" for key, value in entries.items())


def test_a_dead_haproxy_is_said_and_costs_nothing_else(haproxy: Haproxy, tmp_path: Path) -> None:
    (tmp_path / "socket").unlink()
    assert "systemctl status haproxy" in balancer.follow(DesiredState(1, (DIGITS,)))
    # What it will read when it is back.
    assert (tmp_path / "maps/canary-version.map").read_text() == "digits 2\n"


class Board(BaseHTTPRequestHandler):
    """A board's server, which says `said`."""

    said = b""
    code = 200

    def do_GET(self) -> None:
        self.send_response(self.code)
        self.send_header("Content-Length", str(len(self.said)))
        self.end_headers()
        self.wfile.write(self.said)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def board() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Board)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def ask(**boards: str) -> dict[str, object]:
    reply = status.status(vars(AskServing(boards, 5.0)), lambda _: None)
    return dict(reply)


def test_boards_and_haproxy_are_asked(haproxy: Haproxy, board: str, monkeypatch: pytest.MonkeyPatch) -> None:
    haproxy.stat = (
        "# pxname,svname,scur,rate,status,\nboards,w1,2,90,UP,\nboards,BACKEND,2,90,UP,\n"
        "boards_grpc,w1,1,10,UP,\nboards,w2,0,0,DOWN 1/2,\nrest,FRONTEND,1,2,OPEN,\n"
    )
    monkeypatch.setattr(Board, "said", json.dumps({"host": "w1", "revision": 4, "balance": True}).encode())
    reply = ask(w1=board, w2="127.0.0.1:1")
    assert reply["balancer"] == ""
    boards = reply["boards"]
    assert isinstance(boards, dict)
    first, second = boards["w1"], boards["w2"]
    assert (first.state, first.error) == (BoardState("w1", 4, True), "")
    assert (first.balanced, first.sessions, first.rate) == ("UP", 3, 100)
    assert (second.state, second.balanced) == (None, "DOWN 1/2")
    assert second.error == "http://127.0.0.1:1 does not answer: Connection refused"


@pytest.mark.parametrize(
    ("said", "code", "error"),
    [
        (b'{"host": "w2", "revision": 1, "balance": true}', 200, "is the server of 'w2'"),
        (b"[" * 100_000, 200, "is no state of a board"),
        (b"{}", 200, "is no state of a board: host: missing"),
        (b"{}", 500, "answers 500"),
        (b" " * (5 << 20), 200, "answers more than"),
    ],
)
def test_what_a_board_says_is_data(
    board: str, said: bytes, code: int, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Board, "said", said)
    monkeypatch.setattr(Board, "code", code)
    monkeypatch.setattr(balancer, "CONFIGURATION", "/nonexistent")
    reply = ask(w1=board)
    boards = reply["boards"]
    assert isinstance(boards, dict)
    assert error in boards["w1"].error
    assert (boards["w1"].state, reply["balancer"]) == (None, "HAProxy is not set up on the head")


def test_a_state_that_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "serving/desired.json").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        desired.read(str(tmp_path))
