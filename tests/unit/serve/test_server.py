"""The whole server of a board, as its unit starts it: what it serves, a new version, and its end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import serve_place as place
from serve_process import LIMIT, Server

pytest.importorskip("aiohttp")

LATEST = [{"name": "digits", "policy": {"kind": "latest", "latest": 1}}]


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
