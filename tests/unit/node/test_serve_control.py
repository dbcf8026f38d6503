"""Control of serving on the head: what boards may change, and what nobody else may."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import serve_place as place

from clusteradm import shipped
from clusteradm.node.serve import balancer, control, desired, head, placing
from clusteradm.node.serve.control import ControlConfig, Server
from clusteradm.node.serve.dispatch import Dispatch
from clusteradm.node.serve.fronts import kserve
from clusteradm.node.serve.index import detectors
from clusteradm.node.serve.plane import UNAVAILABLE, Refusal
from clusteradm.node.serve.routing import Routing
from clusteradm.node.spec.wire.serving import (
    AVAILABLE,
    END,
    LOADING,
    BoardState,
    Canary,
    DesiredState,
    EngineState,
    PlacedModel,
    ServeConfig,
    ServedModel,
    VersionPolicy,
    VersionState,
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


def test_of_others_than_boards_nothing_is_read(server: Server) -> None:
    server.addresses = {"192.0.2.2"}
    with socket.create_connection(server.server_address[:2], 60) as peer:
        assert peer.recv(1) == b""  # before it has sent anything
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(server, "POST", "/load", {"model": "digits"})
    server.addresses = {"127.0.0.1"}
    assert ask(server, "POST", "/unload", {"model": "digits"})[0] == 404


def test_requests_above_the_bound_wait_until_one_has_ended(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.BoundedSemaphore(2)
    monkeypatch.setattr(server, "_free", free)
    before = threading.active_count()
    held = [socket.create_connection(server.server_address[:2], 60) for _ in range(2)]
    answers: list[int] = []
    later = [
        threading.Thread(target=lambda: answers.append(ask(server, "POST", "/load", {"model": "digits"})[0]))
        for _ in range(3)
    ]
    for thread in later:
        thread.start()
    end = time.monotonic() + 60
    while free._value:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert threading.active_count() <= before + 2 + len(later) and answers == []
    for connection in held:
        connection.close()
    for thread in later:
        thread.join(60)
    assert answers == [200, 200, 200]


@pytest.mark.parametrize("trouble", ["", "HAProxy does not divide the requests as it should: \x1b[31m"])
def test_haproxy_follows_what_a_client_changes(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], trouble: str
) -> None:
    told: list[DesiredState] = []

    def follow(state: DesiredState, models: Any) -> str:
        told.append(state)
        return trouble

    monkeypatch.setattr(balancer, "follow", follow)
    canary = ServedModel("digits", VersionPolicy(), canary=Canary(7, 40.0))
    desired.write(server.config.shared, DesiredState(0, (canary,)))
    assert ask(server, "POST", "/load", {"model": "digits"}) == (200, {"revision": 2})
    assert ask(server, "POST", "/unload", {"model": "digits"}) == (200, {"revision": 3})
    assert [(state.revision, state.models) for state in told] == [(2, (canary,)), (3, ())]
    assert ask(server, "POST", "/unload", {"model": "digits"})[0] == 404 and len(told) == 2
    written = capsys.readouterr().err
    assert ("\\x1b[31m" in written) is bool(trouble) and "\x1b" not in written


def test_all_that_wait_share_one_look_at_the_boards(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def said(host: str, place: str, seconds: float) -> BoardSaid:
        asked.append(host)
        return BoardSaid(error="timed out")

    monkeypatch.setattr(control, "ask", said)
    monkeypatch.setattr(control, "_LOOK_SECONDS", 3600.0)
    server._said_at = -3600.0 * 24 * 365
    assert [control.waits(server.said(), 4) for _ in range(5)] == [[]] * 5
    assert sorted(asked) == ["w1", "w2"]


def test_it_says_when_the_boards_have_followed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = (EngineState("0000:01:00.0", "ready"),)
    revisions = {"w1": [3, 3, 4], "w2": [4]}

    def said(host: str, place: str, seconds: float) -> BoardSaid:
        left = revisions[host]
        return BoardSaid(BoardState(host, left.pop(0) if len(left) > 1 else left[0], True, engines=ready))

    monkeypatch.setattr(control, "ask", said)
    monkeypatch.setattr(control, "_LOOK_SECONDS", 0.0)
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
        asked = head.of(config, listener.getsockname()[1])
        assert asked is not None
        with pytest.raises(Refusal, match=text) as caught:
            asyncio.run(asked.change("digits", False))
        assert caught.value.kind == UNAVAILABLE
        thread.join(60)


def test_a_board_gives_up_before_haproxy_does_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (shipped.TEMPLATES / "head/etc/haproxy/haproxy.cfg.j2").read_text()
    cut = re.findall(r"\n *timeout server ([0-9]+)s", text.partition("'repository_grpc'")[2])
    assert len(cut) == 1 and int(cut[0]) >= head.MOST_SECONDS + 15
    asked: list[str] = []

    async def ask(url: str, body: bytes | None) -> dict[str, Any]:
        asked.append(url)
        if body is None and len(asked) > 2:
            await asyncio.Event().wait()  # for ever
        return {"revision": 4} if body else {"done": False, "waits": ["w1 is at revision 3 of 4"]}

    monkeypatch.setattr(head, "_ask", ask)
    clock = iter((1000.0, 1001.0, 1279.99))
    monkeypatch.setattr(head, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    its = head.of(ServeConfig("w1", "127.0.0.1", "/nowhere", head="127.0.0.1"))
    assert its is not None
    with pytest.raises(
        Refusal, match="not all boards have followed in 280 s: w1 is at revision 3 of 4; they go on"
    ) as caught:
        asyncio.run(asyncio.wait_for(its.change("digits", False), 60))
    assert caught.value.kind == UNAVAILABLE and len(asked) == 3


def test_the_index_is_that_of_the_whole_cluster(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Path(server.config.shared)
    (shared / "models/spare/1").mkdir(parents=True)
    desired.write(
        str(shared), DesiredState(0, tuple(ServedModel(name, VersionPolicy()) for name in ("digits", "lost")))
    )
    engines = (EngineState("0000:01:00.0", "ready"),)
    one = (
        VersionState("digits", 1, END, "too large"),
        VersionState("digits", 2, LOADING),
        VersionState("c", 1, AVAILABLE),
    )
    other = (VersionState("digits", 1, AVAILABLE, "it stays", tpus=("0000:01:00.0",)),)
    boards = {
        "w1": BoardSaid(BoardState("w1", 1, False, one, engines)),
        "w2": BoardSaid(BoardState("w2", 1, True, other, engines)),
        "w3": BoardSaid(error="it does not answer"),
    }
    monkeypatch.setattr(control, "said_by", lambda places: boards)
    asked = head.of(ServeConfig("w1", "127.0.0.1", str(shared), head="127.0.0.1"), server.server_address[1])
    board = Dispatch("w1", lambda: BoardState("w1", 1, True), asked)
    board.routing = Routing({}, one, {"digits": "w2"})

    async def ask_all() -> list[Any]:
        return await asyncio.gather(*(kserve.index(board, ready) for ready in (False, True, False)))

    whole, ready, again = asyncio.run(ask_all())
    assert [(each["name"], each["version"], each["state"]) for each in whole] == [
        ("c", "1", "UNAVAILABLE"),
        ("digits", "1", "READY"),
        ("digits", "2", "LOADING"),
        ("lost", "", "UNAVAILABLE"),
        ("spare", "", "UNAVAILABLE"),
    ]
    reasons = {(each["name"], each["version"]): each["reason"] for each in whole}
    assert "w1, which has it, takes no new requests" in reasons["c", "1"] and reasons["digits", "1"] == ""
    assert "clusteradm serve deploy spare" in reasons["spare", ""] and "serve status" in reasons["lost", ""]
    assert [each["name"] for each in ready] == ["digits"] and again == whole
    # Where the head says nothing a board says what it knows.
    (shared / "serving/desired.json").write_text("{")
    found = {(each["name"], each["version"]): each for each in asyncio.run(kserve.index(board, False))}
    assert found["c", "1"]["state"] == "READY" and "other boards (w2)" in found["digits", ""]["reason"]


def test_the_index_says_which_of_the_models_find_objects(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    manifests = []
    for name, version, task in (("cars", 1, "detector"), ("cars", 2, "detector"), ("digits", 1, "classifier")):
        folder = place.deploy(shared, name, version)
        document = {**json.loads((folder / "manifest.json").read_text()), "task": task}
        (folder / "manifest.json").write_text(json.dumps(document))
        manifests.append(VersionState(name, version, AVAILABLE))
    place.label(shared, "cars", {"stable": 1})

    def found(**about: Any) -> list[tuple[str, int, tuple[str, ...], tuple[int, ...]]]:
        models = (ServedModel("digits", VersionPolicy()), ServedModel("cars", VersionPolicy(), **about))
        return [(each.name, each.version, each.labels, each.shape) for each in detectors(str(shared), models, states)]

    states = [*manifests, VersionState("lost", 1, AVAILABLE)]
    labels, shape = tuple(map(str, range(10))), (1, 28, 28, 1)
    assert found() == [("cars", 2, labels, shape)]
    assert found(default="stable") == found(default="1") == [("cars", 1, labels, shape)]
    assert found(canary=Canary(2, 5.0)) == [("cars", 1, labels, shape)]
    # Of what is not there, or damaged, nothing is said.
    assert found(default="9") == found(default="other") == []
    (shared / "models/cars/2/manifest.json").write_text("{")
    assert found() == []
    states = [VersionState("cars", 1, LOADING)]
    assert found() == []


def said(host: str, devices: tuple[str, ...], revision: int = 1) -> BoardSaid:
    """A board with two TPUs, which has the model digits on some."""
    engines = tuple(EngineState(f"000{number}:01:00.0", "ready") for number in range(2))
    versions = (VersionState("digits", 1, AVAILABLE, tpus=devices),) if devices else ()
    return BoardSaid(BoardState(host, revision, True, versions, engines))


def test_the_head_says_where_models_are_and_haproxy_hears_it_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTERADM_STATE", str(tmp_path / "state"))
    followed: list[tuple[int, dict[str, tuple[str, ...]]]] = []

    def follow(state: DesiredState, models: Any) -> str:
        there = desired.read(str(tmp_path)).revision
        followed.append((there, {each.name: each.balanced for each in state.placement}))
        return ""

    monkeypatch.setattr(balancer, "follow", follow)
    both = ("0000:01:00.0", "0001:01:00.0")
    boards = {"w1": said("w1", both), "w2": said("w2", ())}
    monkeypatch.setattr(control, "said_by", lambda places: boards)
    config, placer = ControlConfig("127.0.0.1", 0, str(tmp_path), {}), placing.Placer(str(tmp_path))
    control.place(config, placer)  # nothing is served: nobody is asked
    served = ServedModel("digits", VersionPolicy(), hosts=("w2",))
    desired.write(str(tmp_path), DesiredState(0, (served,), placement=(PlacedModel("digits", ("w1", "w2")),)))
    control.place(config, placer)
    state = desired.read(str(tmp_path))
    assert (state.revision, followed) == (2, [(1, {"digits": ("w1",)})])
    assert [each.tpus for each in state.placement] == [tuple(f"{host}:{tpu}" for host in ("w1", "w2") for tpu in both)]
    control.place(config, placer)
    assert desired.read(str(tmp_path)).revision == 2  # it waits for w2
    boards["w2"] = said("w2", both)
    control.place(config, placer)
    state = desired.read(str(tmp_path))
    assert state.placement == (PlacedModel("digits", tuple(f"w2:{tpu}" for tpu in both)),)
    # Somebody else's change meanwhile is not undone.
    assert desired.place(str(tmp_path), state.revision - 1, ()) == ""
    assert desired.read(str(tmp_path)) == state


def test_haproxy_is_told_again_where_it_did_not_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what somebody else has changed meanwhile: a disk is full, or HAProxy starts, for a while."""
    monkeypatch.setenv("CLUSTERADM_STATE", str(tmp_path / "state"))
    told: list[int] = []
    wrong = ["the disk is full"]

    def follow(state: DesiredState, models: Any) -> str:
        told.append(state.revision)
        return wrong[0]

    monkeypatch.setattr(balancer, "follow", follow)
    keeper = control.Keeper(ControlConfig("127.0.0.1", 0, str(tmp_path), {}))
    assert [keeper.look(), keeper.look()] == wrong * 2
    wrong[0] = ""
    assert [keeper.look(), keeper.look()] == [""] * 2 and told == [0, 0, 0]
    state = desired.write(str(tmp_path), desired.read(str(tmp_path)))  # as a command stores it
    assert [keeper.look(), keeper.look()] == [""] * 2 and told == [0, 0, 0, 1]
    Path(desired.path_of(str(tmp_path))).write_text("{")
    assert "models stay where they are: " in keeper.look()
    Path(desired.path_of(str(tmp_path))).unlink()
    desired.write(str(tmp_path), state)
    assert keeper.look() == "" and told[-1] == 2


def test_requests_go_past_a_board_that_cannot_get_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that started with a full disk: over gRPC each request that came there would wait, and then fail."""
    monkeypatch.setenv("CLUSTERADM_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(balancer, "follow", lambda state, models: "")
    both = ("0000:01:00.0", "0001:01:00.0")
    w2 = said("w2", ()).state
    assert w2 is not None
    boards = {"w1": said("w1", both), "w2": BoardSaid(w2), "w3": said("w3", both)}
    monkeypatch.setattr(control, "said_by", lambda places: boards)
    config, placer = ControlConfig("127.0.0.1", 0, str(tmp_path), {}), placing.Placer(str(tmp_path))
    desired.write(str(tmp_path), DesiredState(0, (ServedModel("digits", VersionPolicy()),)))

    def placed(*versions: VersionState, balance: bool = True) -> tuple[PlacedModel, ...]:
        boards["w2"] = BoardSaid(BoardState("w2", 1, balance, versions, w2.engines))
        control.place(config, placer)
        return desired.read(str(tmp_path)).placement

    failed = VersionState("digits", 1, END, "no room")
    assert placed(VersionState("digits", 1, LOADING)) == ()
    assert placed(failed, balance=False) == ()  # HAProxy knows
    assert placed(failed, VersionState("digits", 2, AVAILABLE, tpus=both)) == ()
    past = (PlacedModel("digits", (), ("w1", "w3")),)
    assert placed(failed) == past
    assert placed(VersionState("digits", 1, LOADING)) == past
    assert placed(VersionState("digits", 1, AVAILABLE, tpus=both)) == ()
    # What no board can get is no reason to leave out any.
    boards["w1"] = boards["w3"] = BoardSaid(BoardState("w", 1, True, (failed,), w2.engines))
    assert placed(failed) == ()
