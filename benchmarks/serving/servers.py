"""Servers under measurement: ours, and those of others (peers.py), with what they cost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path

HERE = Path(__file__).parent
_START_SECONDS = 90.0


class Server:
    """A server and all processes below it. `http`, `grpc`: its ports on `host`."""

    def __init__(
        self, command: Sequence[object], env: dict[str, str], log: Path, ports: Sequence[int], ready: str, host: str
    ) -> None:
        self.http, self.grpc, self.host = ports[0], ports[1], host
        self._log, self._ready = log, ready
        with log.open("wb") as file:
            self.process = subprocess.Popen([*map(str, command)], env=env, stdout=file, stderr=file)

    def wait(self) -> None:
        """Wait until it is ready."""
        end = time.monotonic() + _START_SECONDS
        while not self._is_ready():
            if time.monotonic() > end or self.process.poll() is not None:
                self.end()
                raise SystemExit(f"the server does not start:\n{self._log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.host}:{self.http}{self._ready}", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def processes(self) -> list[int]:
        """The process ids of all of it."""
        found = [self.process.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    with contextlib.suppress(OSError):
                        found += map(int, (thread / "children").read_text().split())
        return found

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        return spent(self.processes())

    def memory(self) -> float:
        """Megabytes, shared pages counted once."""
        lines: list[str] = []
        for pid in self.processes():
            with contextlib.suppress(OSError):
                lines += Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000

    def end(self) -> None:
        """Have it drain and end."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def spent(pids: Iterable[int]) -> float:
    """Seconds of processor time so far, as the scheduler counts them: stat has hundredths of a second."""
    nanoseconds = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    nanoseconds += int((thread / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def ours(
    folder: Path, shared: Path, env: dict[str, str], host: str, tpus: Sequence[str | None] | None = None
) -> Server:
    """A board's server, on the usual ports of an address of its own. `tpus`: as ServeConfig has them."""
    config = {"host": folder.name, "address": host, "shared": str(shared), "cache": str(folder / "cache")}
    path = folder / "serve.json"
    path.write_text(json.dumps({**config, "tpus": tpus}))
    command = [sys.executable, "-m", "clusteradm.node.serve", "--config", path]
    return Server(command, env, folder / "log", (8000, 8001), "/v2/models/m/ready", host)


def peer(name: str, python: Path, model: Path, folder: Path, env: dict[str, str]) -> Server:
    """A server of others, in its own virtual environment."""
    ports = free_ports(2)
    command = [python, HERE / "peers.py", name, model, folder, *ports]
    env = {key: value for key, value in env.items() if key != "PYTHONPATH"}
    return Server(command, env, folder / "log", ports, "/v2/models/m/ready", "127.0.0.1")


def free_ports(count: int) -> list[int]:
    """Ports that nobody has."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return found


def environment(**more: str) -> dict[str, str]:
    """That of this process, and more."""
    return {**os.environ, **more}
