"""HAProxy with the shipped configuration before boards of this test: what it sends where, again, and not at all."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import http.client
import json
import os
import queue
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest

from clusteradm import shipped
from clusteradm.node.serve import balancer, buffers, places
from clusteradm.node.serve.balancer import command
from clusteradm.node.spec.wire.manifest import Manifest, Tensor
from clusteradm.node.spec.wire.serving import Canary, DesiredState, PlacedModel, ServedModel, VersionPolicy
from clusteradm.playbook.render.jinja import Templates

HAPROXY = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
if HAPROXY is None and os.environ.get("CI"):
    pytest.fail("CI has HAProxy: TEST_DEBS of the Makefile")
pytestmark = pytest.mark.skipif(HAPROXY is None, reason="no haproxy on this machine")

BODY = os.urandom(150_528)


class Board(ThreadingHTTPServer):
    """A board's server. `answer`: status of inferences; 0 cuts the connection; `balance`: that of its health."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.name, self.answer, self.balance = name, 200, 200
        self.seen: list[dict[str, str]] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Board

    def do_GET(self) -> None:
        self.reply(self.server.balance if self.path == "/clusteradm/balance" else 200)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.answer == 0:
            self.close_connection = True
            return
        self.server.seen.append({**dict(self.headers.items()), "whole": str(body == BODY)})
        self.reply(self.server.answer)

    def reply(self, status: int) -> None:
        text = self.server.name.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Endpoint:
    """A running HAProxy. `ports`: by the port of the configuration."""

    def __init__(self, ports: dict[int, int], boards: list[Board], folder: Path) -> None:
        self.ports, self.boards, self.folder = ports, boards, folder

    def ask(
        self, method: str, path: str, body: bytes = b"", *, port: int = 8000, tls: Any = None, **headers: str
    ) -> tuple[int, str]:
        place = ("127.0.0.1", self.ports[port])
        connection = http.client.HTTPSConnection(*place, context=tls) if tls else http.client.HTTPConnection(*place)
        with contextlib.closing(connection):
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def infer(self, model: str = "digits", **headers: str) -> tuple[int, str]:
        return self.ask("POST", f"/v2/models/{model}/infer", BODY, **headers)

    @property
    def seen(self) -> list[dict[str, str]]:
        return [one for board in self.boards for one in board.seen]

    def status(self) -> dict[str, str]:
        return {name: server.status for name, server in balancer.servers().items()}


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


PORTS = (8000, 8501, 80, 443, 8001, 8500, 8404)


def rendered(
    folder: Path,
    boards: list[Board],
    ports: dict[int, int],
    rpc: int = 0,
    ours: str = "127.0.0.0/8",
    **more: Any,
) -> str:
    """The configuration. `rpc`: the port of all boards' gRPC; `ours`: whose addresses are the head's own."""
    scope = {
        "serve_managed": "",
        "balancer_folder": str(folder),
        "balancer_socket": str(folder / "socket"),
        "balancer_rest_ports": [8000, 8501],
        "balancer_grpc_ports": [8001, 8500],
        "balancer_page_port": 80,
        "balancer_tls_port": 443,
        "balancer_stats_port": 8404,
        "balancer_memory": 256,
        "serve_pem": str(folder / "server.pem"),
        "input_bytes": 150_528,
        "version": "2.6.12",
        "serve_tls": "",
        "serve_clients": [],
        "cluster_subnet": "192.0.2.0/24",
        "cluster_ip": "*",
        "workers": [board.name for board in boards],
        "head": "",
        "hostvars": {board.name: {"cluster_ip": board.name} for board in boards},
        **more,
    }
    text = (shipped.TEMPLATES / "head/etc/haproxy/haproxy.cfg.j2").read_text(encoding="utf-8")
    text = Templates().file(text, "haproxy.cfg.j2", scope)
    for line in ("    user haproxy\n", "    group haproxy\n", "    chroot /var/lib/haproxy\n"):
        assert line in text
        text = text.replace(line, "")
    text = text.replace(" log /dev/log local0 notice\n", " log stderr format raw local0 err\n")
    text = text.replace(" 127.0.0.0/8\n", f" {ours}\n")
    for port, mine in ports.items():
        text = text.replace(f"bind *:{port} ", f"bind 127.0.0.1:{mine} ").replace(
            f"bind *:{port}\n", f"bind 127.0.0.1:{mine}\n"
        )
    for board in boards:
        text = text.replace(f" {board.name}:8000", f" 127.0.0.1:{board.server_address[1]}")
        text = text.replace(f" {board.name}:8001", f" 127.0.0.1:{rpc or board.server_address[1]}")
    return text


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Endpoint]]:
    started: list[subprocess.Popen[bytes]] = []
    boards = [Board("b1"), Board("b2"), Board("b3")]

    def start(soon: str = "", **more: Any) -> Endpoint:
        """`soon`: the time for what is waited for 10 s, or 3."""
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        text = rendered(tmp_path, boards, ports, **more)
        if soon:
            text = text.replace("wait-for-body time 10s\n", f"wait-for-body time {soon}\n")
            text = text.replace("timeout http-request 3s", f"timeout http-request {soon}")
        (tmp_path / "haproxy.cfg").write_text("# clusteradm\n" + text)
        for name in ("canary-version", "canary-percent", "placed", "clients", "scopes", "rates"):
            (tmp_path / f"{name}.map").touch()
        monkeypatch.setattr(balancer, "MAPS", str(tmp_path))
        monkeypatch.setattr(balancer, "CONFIGURATION", str(tmp_path / "haproxy.cfg"))
        monkeypatch.setattr(balancer, "SOCKET", str(tmp_path / "socket"))
        (tmp_path / "placed.cfg").touch()
        files = ["-f", tmp_path / "haproxy.cfg", "-f", tmp_path / "placed.cfg"]

        def reload() -> str:
            # As the master process does it: another worker takes the listeners over, and the old one ends.
            old = started[-1]
            started.append(subprocess.Popen([HAPROXY, "-db", *files, "-x", tmp_path / "socket", "-sf", str(old.pid)]))
            old.wait(60)
            return ""

        monkeypatch.setattr(places, "reload", reload)
        assert HAPROXY is not None
        checked = subprocess.run([HAPROXY, "-c", *files], capture_output=True, text=True)
        assert (checked.returncode, [line for line in checked.stderr.splitlines() if "WARNING" in line]) == (0, []), (
            checked.stderr
        )
        started.append(subprocess.Popen([HAPROXY, "-db", *files]))
        one = Endpoint(ports, boards, tmp_path)

        def answers() -> bool:
            with contextlib.suppress(balancer.BalancerError):
                return set(one.status().values()) == {"UP"}
            return False

        wait_until(answers)
        return one

    yield start
    for process in started:
        process.kill()
        process.wait()
    for board in boards:
        board.shutdown()
        board.server_close()


def test_a_request_reaches_a_board_whole_with_an_id(endpoint: Callable[..., Endpoint]) -> None:
    one = endpoint()
    assert {one.infer()[0] for _ in range(12)} == {200}
    assert all(each["whole"] == "True" and len(each["x-request-id"]) == 36 for each in one.seen)
    assert all(board.seen for board in one.boards)  # least connections, and none has any
    # A client's own id goes through; what only HAProxy may say does not.
    one.infer(x_request_id="mine", clusteradm_version="9", clusteradm_client_name="root")
    mine = next(each for each in one.seen if each["x-request-id"] == "mine")
    assert not {"clusteradm-version", "clusteradm-client-name"} & set(mine)
    # Each of the protocols' ports, and none of the cluster's own matters.
    assert one.ask("GET", "/", port=80)[0] == one.ask("POST", "/v1/models/digits:predict", b"{}", port=8501)[0] == 200
    assert one.ask("GET", "/metrics", port=8404)[0] == 200


def test_what_is_lost_with_a_board_is_sent_to_another(endpoint: Callable[..., Endpoint]) -> None:
    one = endpoint()
    one.boards[0].answer = 0  # it takes the request, and ends without an answer
    one.boards[1].answer = 503
    assert Counter(one.infer() for _ in range(20)) == {(200, "b3"): 20}
    # Not what changes something, which may have been done.
    statuses = {one.ask("POST", "/v2/repository/models/digits/load", b"{}")[0] for _ in range(9)}
    assert statuses == {200, 502, 503}


def test_a_board_that_wants_nothing_new_gets_nothing_and_comes_back(endpoint: Callable[..., Endpoint]) -> None:
    one = endpoint()
    one.boards[0].balance = 404
    wait_until(lambda: one.status()["b1"] == "NOLB")
    assert "b1" not in {one.infer()[1] for _ in range(9)}
    one.boards[0].balance = 500
    wait_until(lambda: one.status()["b1"].startswith("DOWN"))
    for board in one.boards:
        board.balance = 503
    wait_until(lambda: all(status.startswith("DOWN") for status in one.status().values()))
    status, text = one.infer()
    assert (status, json.loads(text)) == (503, {"error": "no board can take the request now"})
    for board in one.boards:
        board.balance = 200
    wait_until(lambda: set(one.status().values()) == {"UP"})
    assert one.infer()[0] == 200


@pytest.mark.parametrize("begin", [b"POST /v2 HTTP/1.1\r\nX: ", b"POST /v2 HTTP/1.1\r\nContent-Length: 9\r\n\r\nx"])
def test_who_is_slow_takes_the_buffers_of_nobody_else(endpoint: Callable[..., Endpoint], begin: bytes) -> None:
    one = endpoint(soon="400ms", balancer_memory=16)  # 64 buffers
    slow: list[socket.socket] = []
    for _ in range(80):
        with contextlib.suppress(ConnectionError):
            slow.append(socket.create_connection(("127.0.0.1", one.ports[8000]), 60, ("127.0.0.9", 0)))
            slow[-1].sendall(begin)
    begun = time.monotonic()
    assert one.infer()[0] == 200 and command("show info")
    assert time.monotonic() - begun < 8  # a slow body had 10 s, and so each of those that wait for a buffer
    became: Counter[bytes] = Counter()
    for each in slow:
        with contextlib.closing(each), contextlib.suppress(ConnectionError):
            answer = each.recv(1 << 16)
            became[answer[:12]] += 1
            # Of a head that does not come HAProxy's reader speaks, whose words are its own.
            assert b"<html" not in answer or begin.endswith(b"X: ")
    # The protocol's answer to as many as one machine may have, none to the others.
    del became[b""]
    assert became == {b"HTTP/1.1 408": 56}
    assert one.infer()[0] == 200


def test_a_canary_gets_its_share_live_and_as_asked(endpoint: Callable[..., Endpoint]) -> None:
    one = endpoint()
    served = ServedModel("digits", VersionPolicy(), canary=Canary(7, 40.0))
    assert balancer.follow(DesiredState(1, (served,))) == ""

    def versions(count: int, path: str = "/v2/models/digits/infer", **headers: str) -> Counter[str | None]:
        for board in one.boards:
            board.seen.clear()
        for _ in range(count):
            one.ask("POST", path, b"{}", **headers)
        return Counter(each.get("clusteradm-version") for each in one.seen)

    found = versions(200)
    assert set(found) == {None, "7"} and 40 <= found["7"] <= 120  # 80, and 6 deviations
    # A request that names a version, and another model's, is not the canary's.
    assert versions(20, "/v2/models/digits/versions/2/infer") == {None: 20}
    assert versions(20, "/v2/models/other/infer") == {None: 20}
    assert versions(20, "/v1/models/digits:predict", clusteradm_canary="always") == {"7": 20}
    assert versions(20, clusteradm_canary="never") == {None: 20}
    # A client stays where it is, and of many some are on each side.
    each = [versions(3, clusteradm_client=f"client {number}") for number in range(30)]
    assert {len(one) for one in each} == {1} and {next(iter(one)) for one in each} == {None, "7"}
    assert balancer.follow(DesiredState(2, (ServedModel("digits", VersionPolicy()),))) == ""
    assert versions(20, clusteradm_canary="always") == {None: 20}


def test_a_model_that_is_not_everywhere_is_asked_where_it_is(endpoint: Callable[..., Endpoint]) -> None:
    one = endpoint()
    models = tuple(ServedModel(name, VersionPolicy()) for name in ("digits", "faces", "people"))

    def follow(placed: dict[str, tuple[str, ...]], balanced: tuple[str, ...] = ()) -> None:
        placement = tuple(PlacedModel(name, tpus, balanced) for name, tpus in placed.items())
        asked = balancer.Models(firsts={"detector": "faces"})
        assert balancer.follow(DesiredState(1, models, placement=placement), asked) == ""

    def pid() -> str:
        return next(line for line in command("show info").splitlines() if line.startswith("Pid:"))

    def answered(path: str) -> set[str]:
        answers = [one.ask("POST", path, b"{}") for _ in range(12)]
        assert {status for status, _ in answers} == {200}
        return {name for _, name in answers}

    follow({"faces": ("b1:0000:01:00.0", "b2:cpu"), "people": ("b3",)})
    for path, wanted in (
        ("/v2/models/digits/infer", {"b1", "b2", "b3"}),
        ("/v2/models/faces/infer", {"b1", "b2"}),
        ("/v2/models/faces/versions/3/infer", {"b1", "b2"}),
        ("/v1/models/faces:predict", {"b1", "b2"}),
        ("/v1/vision/custom/people", {"b3"}),
        # The first detector.
        ("/v1/vision/detection", {"b1", "b2"}),
        ("/detect", {"b1", "b2"}),
        ("/v1/vision/scene", {"b1", "b2", "b3"}),
        # What changes the cluster goes to any.
        ("/v2/repository/models/people/load", {"b1", "b2", "b3"}),
    ):
        assert answered(path) == wanted, path
    # What is lost with one of them is sent to another of them; and what HAProxy knows of a board counts here too.
    one.boards[0].answer = 0
    assert answered("/v2/models/faces/infer") == {"b2"}
    one.boards[0].answer = 200
    one.boards[0].balance = 404
    wait_until(lambda: one.status()["b1"] == "NOLB")
    assert answered("/v2/models/faces/infer") == {"b2"}
    one.boards[0].balance = 200
    wait_until(lambda: one.status()["b1"] == "UP")
    # Elsewhere, first on a board that does not have it yet; and everywhere again.
    process = pid()
    follow({"faces": ("b1", "b2", "b3"), "people": ("b3",)}, ("b3",))
    assert answered("/v2/models/faces/infer") == {"b3"}
    assert pid() == process  # b3's backend was there: no reload
    follow({})
    assert answered("/v2/models/faces/infer") == answered("/v1/vision/custom/people") == {"b1", "b2", "b3"}


def test_a_reload_that_failed_is_made_up_for(
    endpoint: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = endpoint()
    state = DesiredState(1, (ServedModel("faces", VersionPolicy()),), placement=(PlacedModel("faces", ("b2",)),))
    with monkeypatch.context() as patch:
        patch.setattr(places, "reload", lambda: "Job for haproxy.service failed")
        assert "Job for haproxy.service failed" in balancer.follow(state)
    assert one.infer("faces")[0] == 200  # by any board, as before
    assert balancer.follow(state) == ""
    assert {one.infer("faces") for _ in range(6)} == {(200, "b2")}


def test_grpc_goes_where_the_model_is(endpoint: Callable[..., Endpoint]) -> None:
    class EveryMethod(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(lambda request, context: b"")

    board = grpc.server(ThreadPoolExecutor(2), handlers=[EveryMethod()])
    port = board.add_insecure_port("127.0.0.1:0")
    board.start()
    try:
        one = endpoint(rpc=port)
        placed = (PlacedModel("faces", ("b2",)),)
        assert balancer.follow(DesiredState(1, (ServedModel("faces", VersionPolicy()),), placement=placed)) == ""
        with grpc.insecure_channel(f"127.0.0.1:{one.ports[8001]}") as channel:
            for method, message in (
                ("inference.GRPCInferenceService/ModelInfer", b"\x0a\x05faces"),
                ("tensorflow.serving.PredictionService/Predict", b"\x0a\x07\x0a\x05faces"),
                ("inference.GRPCInferenceService/ModelInfer", b"\x0a\x05other"),
            ):
                channel.unary_unary(f"/{method}")(message, timeout=60)
        rows = csv.DictReader(command("show stat").lstrip("# ").splitlines())
        found = {row["pxname"]: row["stot"] for row in rows if row["svname"] == "BACKEND"}
        assert [found[name] for name in sorted(found) if name.startswith("placed_")] == ["0", "2"]
        assert found["boards_grpc"] == "1"
    finally:
        board.stop(None)


def test_a_stream_of_grpc_goes_on_both_ways_where_its_first_model_is(endpoint: Callable[..., Endpoint]) -> None:
    class Echo(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            return grpc.stream_stream_rpc_method_handler(lambda requests, context: requests)

    board = grpc.server(ThreadPoolExecutor(4), handlers=[Echo()])
    port = board.add_insecure_port("127.0.0.1:0")
    board.start()
    try:
        one = endpoint(rpc=port)
        state = DesiredState(1, (ServedModel("faces", VersionPolicy()),), placement=(PlacedModel("faces", ("b2",)),))
        assert balancer.follow(state) == ""
        with grpc.insecure_channel(f"127.0.0.1:{one.ports[8001]}") as channel:
            for model in (b"faces", b"other"):
                requests: queue.Queue[bytes | None] = queue.Queue()
                call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
                answers = call(iter(requests.get, None), timeout=60)
                for number in range(3):  # each is answered while the stream goes on
                    message = b"\x0a\x05" + model + b"%d" % number
                    requests.put(message)
                    assert next(answers) == message
                requests.put(None)
                assert list(answers) == []
        rows = csv.DictReader(command("show stat").lstrip("# ").splitlines())
        found = {row["pxname"]: row["stot"] for row in rows if row["svname"] == "BACKEND" and "_grpc" in row["pxname"]}
        assert sorted(found.values()) == ["0", "1", "1"] and found["boards_grpc"] == "1"
    finally:
        board.stop(None)


def test_clients_by_their_tokens(endpoint: Callable[..., Endpoint], tmp_path: Path) -> None:
    tokens = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("all", "one", "few")}
    (tmp_path / "clients.map").write_text("".join(f"{digest} {name}\n" for name, digest in tokens.items()))
    (tmp_path / "scopes.map").write_text("all/* 1\none/digits 1\nfew/* 1\n")
    (tmp_path / "rates.map").write_text("few 5\n")
    one = endpoint(serve_clients=[{"name": name, "sha256": digest} for name, digest in tokens.items()])

    def status(method: str, path: str, token: str | None) -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return one.ask(method, path, b"{}" if method == "POST" else b"", **headers)[0]

    infer, other = "/v2/models/digits/infer", "/v2/models/other/infer"
    assert [status("POST", infer, token) for token in ("all", "one", "none", None)] == [200, 200, 401, 401]
    assert [status("POST", other, token) for token in ("all", "one")] == [200, 403]
    assert [status("POST", path, "one") for path in ("/v1/models/digits:predict", "/v1/models/other:predict")] == [
        200,
        403,
    ]
    # What names no model may be about any.
    detect = "/v1/vision/detection"
    assert [status("POST", detect, token) for token in ("all", "one")] == [200, 403]
    load = "/v2/repository/models/other/load"
    assert [status("POST", load, token) for token in ("all", "one")] == [200, 403]
    assert [status("GET", "/v2/health/ready", None), status("GET", "/v2", None), status("GET", "/v2", "one")] == [
        200,
        401,
        200,
    ]
    # The boards learn the name, and never the token.
    assert {each.get("clusteradm-client-name") for each in one.seen} == {"all", "one"}
    assert not any("Authorization" in each for each in one.seen)
    # DeepStack's address of a model names it; every client may see the names of all.
    custom = "/v1/vision/custom"
    assert [status("POST", f"{custom}/digits", token) for token in ("all", "one", None)] == [200, 200, 401]
    assert [status("POST", f"{custom}/other", token) for token in ("all", "one")] == [200, 403]
    assert [status("POST", f"{custom}/list", token) for token in ("all", "one")] == [200, 200]
    assert Counter(status("POST", infer, "few") for _ in range(40))[429] > 0


def test_a_client_above_its_rate_has_as_many_answers_as_below_it(
    endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    digest = hashlib.sha256(b"few").hexdigest()
    (tmp_path / "clients.map").write_text(f"{digest} few\n")
    (tmp_path / "scopes.map").write_text("few/* 1\n")
    (tmp_path / "rates.map").write_text("few 5\n")
    one = endpoint(serve_clients=[{"name": "few", "sha256": digest}])
    end, statuses = time.monotonic() + 5, []
    while time.monotonic() < end:  # twenty a second
        statuses.append(one.infer(Authorization="Bearer few")[0])
        time.sleep(0.05)
    count = Counter(statuses)
    assert set(count) == {200, 429} and 15 <= count[200] <= 31, count


def form(**fields: bytes) -> bytes:
    """A form as `requests` sends it: texts first, then files."""
    parts = []
    for name, value in fields.items():
        file = f'; filename="{name}"' if name == "image" else ""
        parts.append(f'--limit\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + value)
    return b"\r\n".join([*parts, b"--limit--\r\n"])


def test_cameras_send_their_tokens_as_they_can(endpoint: Callable[..., Endpoint], tmp_path: Path) -> None:
    """DeepStack's clients (Frigate, Home Assistant) in the form, those of DOODS in a header of its own."""
    token = secrets.token_urlsafe(32).encode()
    (tmp_path / "clients.map").write_text(f"{hashlib.sha256(token).hexdigest()} camera\n")
    (tmp_path / "scopes.map").write_text("camera/* 1\n")
    one = endpoint(serve_clients=[{"name": "camera", "sha256": ""}])
    kind = "multipart/form-data; boundary=limit"
    picture = b"\xff\xd8\xff\xe0\x00\x10JFIF" + BODY
    path = "/v1/vision/detection"
    typed = form(api_key=token, image=picture).replace(b'"api_key"', b"api_key\r\nContent-Type: text/plain")
    for body in (form(api_key=token, image=picture), form(min_confidence=b"0.4", api_key=token, image=picture), typed):
        assert one.ask("POST", path, body, Content_Type=kind)[0] == 200
    for body in (form(api_key=b"wrong", image=picture), form(api_key=b"", image=picture), form(image=picture)):
        assert one.ask("POST", path, body, Content_Type=kind)[0] == 401
    assert one.ask("POST", "/v2/models/digits/infer", form(api_key=token), Content_Type=kind)[0] == 401
    assert one.ask("POST", path, form(api_key=token), Content_Type=kind, Authorization="Bearer wrong")[0] == 401
    key = token.decode()
    assert one.ask("POST", "/detect", b"{}", doods_auth_key=key)[0] == 200
    assert one.ask("GET", "/detectors", doods_auth_key=key)[0] == 200
    assert one.ask("POST", "/detect", b"{}", doods_auth_key="wrong")[0] == 401
    assert {each.get("clusteradm-client-name") for each in one.seen} == {"camera"}
    assert not {"authorization", "doods-auth-key"} & {name.lower() for each in one.seen for name in each}


def test_a_token_for_one_model_goes_with_its_name(endpoint: Callable[..., Endpoint], tmp_path: Path) -> None:
    """Over gRPC, whose messages HAProxy reads a little of: a board is told what it has read."""
    seen: list[dict[str, str]] = []

    def answer(request: bytes, context: Any) -> bytes:
        seen.append(dict(context.invocation_metadata()))
        return b""

    class EveryMethod(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(answer)

    (tmp_path / "clients.map").write_text(
        "".join(f"{hashlib.sha256(name.encode()).hexdigest()} {name}\n" for name in ("all", "one"))
    )
    (tmp_path / "scopes.map").write_text("all/* 1\none/digits 1\n")
    board = grpc.server(ThreadPoolExecutor(2), handlers=[EveryMethod()])
    port = board.add_insecure_port("127.0.0.1:0")
    board.start()
    try:
        one = endpoint(rpc=port, serve_clients=[{"name": "all", "sha256": ""}])
        with grpc.insecure_channel(f"127.0.0.1:{one.ports[8001]}") as channel:

            def ask(token: str, model: bytes, method: str = "ModelInfer") -> Any:
                call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
                message = b"\x0a" + bytes([len(model)]) + model
                metadata = (("authorization", f"Bearer {token}"), ("clusteradm-model", "mine"))
                try:
                    call(message, timeout=60, metadata=metadata)
                except grpc.RpcError as error:
                    return error.code()
                return seen[-1].get("clusteradm-model")

            assert (ask("one", b"digits"), ask("all", b"digits")) == ("digits", None)
            assert ask("one", b"other") is grpc.StatusCode.PERMISSION_DENIED
            assert ask("one", b"", "ServerMetadata") is None
            # Of a compressed message HAProxy cannot read the model: it says so.
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            with pytest.raises(grpc.RpcError) as refused:
                more = {"timeout": 60, "metadata": (("authorization", "Bearer one"),)}
                call(b"\x0a\x06digits" * 100, compression=grpc.Compression.Gzip, **more)
            assert "without compression" in refused.value.details()
            # Whether the server is there is for all to ask, whoever asks so.
            for method in ("inference.GRPCInferenceService/ServerReady", "grpc.health.v1.Health/Check"):
                channel.unary_unary(f"/{method}")(b"", timeout=60)
            with pytest.raises(grpc.RpcError):
                channel.unary_unary("/other/ServerReady")(b"", timeout=60)
    finally:
        board.stop(None)


def test_metrics_are_for_the_cluster_however_they_are_written(endpoint: Callable[..., Endpoint]) -> None:
    one = endpoint(ours="192.0.2.1")
    paths = ("/metrics", "/%6detrics", "/metrics?x=1", "/%6D%65trics")
    answers = [one.ask("GET", each) for each in paths]
    assert [status for status, _ in answers] == [403] * 4 and "cluster alone" in json.loads(answers[0][1])["error"]
    assert one.ask("GET", "/clusteradm/overview")[0] == 200
    # The statistics' own address is reached through the head's other networks as well.
    assert [one.ask("GET", each, port=8404)[0] for each in ("/metrics", "/", "/;csv")] == [403] * 3


def test_the_statistics_are_for_the_cluster(endpoint: Callable[..., Endpoint]) -> None:
    one = endpoint()
    assert "haproxy_frontend_http_requests_total" in one.ask("GET", "/metrics", port=8404)[1]
    assert one.ask("GET", "/", port=8404)[0] == 200


def test_tls_everywhere_and_the_page_leads_there(endpoint: Callable[..., Endpoint], tmp_path: Path) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", tmp_path / "key", "-out", tmp_path / "crt"),
        ],
        check=True,
        capture_output=True,
    )
    (tmp_path / "server.pem").write_text((tmp_path / "crt").read_text() + (tmp_path / "key").read_text())
    one = endpoint(serve_tls="cluster")
    context = ssl.create_default_context(cafile=str(tmp_path / "crt"))
    for port in (443, 8000, 8501):
        assert one.ask("POST", "/v2/models/digits/infer", BODY, port=port, tls=context)[0] == 200
    assert one.ask("GET", "/", port=80)[0] == 307
    with pytest.raises((http.client.HTTPException, OSError)):
        one.ask("GET", "/", port=8000)


@pytest.mark.parametrize(
    ("input_bytes", "bufsize", "buffers"),
    [(0, 262_144, 1024), (245_760, 262_144, 1024), (245_761, 524_288, 512), (1 << 30, 8_388_608, 32)],
)
def test_a_buffer_holds_the_largest_input_that_memory_allows(
    tmp_path: Path, input_bytes: int, bufsize: int, buffers: int
) -> None:
    text = rendered(tmp_path, [], {}, input_bytes=input_bytes)
    assert f"    tune.bufsize {bufsize}\n    tune.buffers.limit {buffers}\n" in text


def with_input(size: int) -> Manifest:
    """A model with an input of so many bytes."""
    tensor = Tensor("in", (1, size), "uint8")
    fields: dict[str, Any] = dict.fromkeys(("labels", "labels_sha256", "min_runtime", "compiler"))
    fields.update(manifest_version=1, name="m", sha256="", bytes=1, inputs=(tensor,), outputs=(), description="")
    return Manifest(**fields, tpu_operations=0, cpu_operations={}, cached_bytes=0, streamed_bytes=0)


@pytest.mark.parametrize("size", [245_761, 600_000, 5_000_000, 30_000_000])
def test_the_head_makes_buffers_larger_as_serve_up_would(tmp_path: Path, size: int) -> None:
    text = rendered(tmp_path, [], {}, input_bytes=150_528)
    assert buffers.widened(text, [with_input(9), with_input(size)]) == rendered(tmp_path, [], {}, input_bytes=size)


@pytest.mark.parametrize("size", [0, 1, 245_760, (32 << 20) + 1, 1 << 60])
def test_buffers_that_are_large_enough_stay_and_so_do_they_for_what_no_request_may_have(
    tmp_path: Path, size: int
) -> None:
    text = rendered(tmp_path, [], {}, input_bytes=150_528)
    assert buffers.widened(text, [with_input(size)]) is None and buffers.widened(text, []) is None
    assert buffers.widened("# somebody's own", [with_input(1 << 20)]) is None


def test_a_model_with_a_larger_input_is_sent_again_too(endpoint: Callable[..., Endpoint]) -> None:
    one = endpoint()
    one.boards[0].answer = 0
    one.boards[1].answer = 503
    body = os.urandom(600_000)
    state = DesiredState(1, (ServedModel("large", VersionPolicy()),))
    assert balancer.follow(state, balancer.Models([with_input(len(body))])) == ""
    assert Counter(one.ask("POST", "/v2/models/large/infer", body) for _ in range(12)) == {(200, "b3"): 12}


@pytest.mark.parametrize(("version", "cuts"), [("2.6.12", True), ("3.0.11", False)])
def test_with_a_board_that_is_down_only_haproxy_that_sends_them_elsewhere_ends_requests(
    tmp_path: Path, version: str, cuts: bool
) -> None:
    boards = [Board("b1"), Board("b2")]
    text = rendered(tmp_path, boards, {}, version=version)
    lines = re.findall(r"^    default-server (.*)$", text, re.MULTILINE)
    assert len(lines) == 4 and {"on-marked-down shutdown-sessions" in line for line in lines} == {cuts}
    assert ("srvtcpka-idle 1s" in text) is not cuts and {"tcp-ut 2s" in line for line in lines} == {not cuts}
    # So it is in the backends of models that are not on all boards.
    text = text.replace("127.0.0.1:", "10.0.0.1:")
    assert places.set_backends(str(tmp_path), [("b1",)], text)
    placed = re.findall(r"^    default-server (.*)$", (tmp_path / "placed.cfg").read_text(), re.MULTILINE)
    assert placed == [lines[1]] * 2 and lines[1].startswith("slowstart 2s maxconn 64 ")
