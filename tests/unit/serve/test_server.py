"""The whole server of a board, as its unit starts it: what it serves, a new version, and its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import serve_place as place

pytest.importorskip("aiohttp")

LIMIT = 90.0
LATEST = [{"name": "digits", "policy": {"kind": "latest", "latest": 1}}]


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return found


class Server:
    def __init__(self, folder: Path) -> None:
        self.shared, self.config = folder / "shared", folder / "serve.json"
        self.http, grpc, zmq = free_ports(3)
        document = {"host": "b1", "address": "127.0.0.1", "shared": str(self.shared), "cache": str(folder / "cache")}
        ports = {"http_port": self.http, "grpc_port": grpc, "zmq_port": zmq}
        self.config.write_text(json.dumps({**document, **ports, "fronts": 1}))
        self.command = [sys.executable, "-m", "clusteradm.node.serve", "--config", str(self.config)]
        (folder / "run").mkdir()
        self.environment = {**os.environ, "RUNTIME_DIRECTORY": str(folder / "run")}
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self.command, env=self.environment, stdout=log, stderr=log)

    def ask(self, path: str, body: bytes | None = None) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", body, timeout=20) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def until(self, true: Callable[[], Any]) -> Any:
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            try:
                found = true()
                if found:
                    return found
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def versions(self) -> list[tuple[int, str]]:
        return [(each["version"], each["state"]) for each in self.ask("/clusteradm/state")[1]["versions"]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    place.deploy(tmp_path / "shared")
    place.desire(tmp_path / "shared", LATEST)
    server = Server(tmp_path)
    yield server
    server.process.kill()
    server.process.wait()


def test_a_server_from_its_start_to_its_end(server: Server) -> None:
    server.until(lambda: server.ask("/clusteradm/balance")[0] == 200)
    assert server.versions() == [(1, "AVAILABLE")]
    tensor = {"name": place.INPUT, "datatype": "UINT8", "shape": [1, 28, 28, 1], "data": place.drawn().ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    status, answer = server.ask("/v2/models/digits/infer", body)
    assert (status, answer["model_version"], int(np.argmax(answer["outputs"][0]["data"]))) == (200, "1", 1)

    place.deploy(server.shared, version=2)
    server.until(lambda: server.versions() == [(2, "AVAILABLE")])
    assert server.ask("/v2/models/digits/infer", body)[1]["model_version"] == "2"

    taken = subprocess.run(server.command, env=server.environment, capture_output=True, text=True, check=False)
    assert taken.returncode == 1
    assert "is taken by" in taken.stderr
    assert "Traceback" not in taken.stderr

    server.process.send_signal(signal.SIGTERM)
    server.until(lambda: server.ask("/clusteradm/balance")[0] == 404)
    assert server.ask("/v2/models/digits/infer", body)[0] == 200
    assert server.process.wait(LIMIT) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "not a JSON document"), ('{"host": "b1"}', "address: missing"), (None, "No such file")],
)
def test_a_configuration_that_is_none_is_said_in_a_line(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "serve.json"
    if text is not None:
        path.write_text(text)
    command = [sys.executable, "-m", "clusteradm.node.serve", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == (1 if text is None else 2)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
