"""The whole server of a board in tests, as its unit starts it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIMIT = 90.0


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return found


class Server:
    def __init__(self, folder: Path, **more: Any) -> None:
        self.shared, self.config = folder / "shared", folder / "serve.json"
        self.http, grpc, zmq = free_ports(3)
        document = {"host": "b1", "address": "127.0.0.1", "shared": str(self.shared), "cache": str(folder / "cache")}
        ports = {"http_port": self.http, "grpc_port": grpc, "zmq_port": zmq}
        self.config.write_text(json.dumps({**document, **ports, "fronts": 1, **more}))
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
