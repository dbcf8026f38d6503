"""A board's fronts in tests: all protocols on ports of their own, in a thread of this process, over a real model."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from clusteradm.node.serve.fronts import starting
from clusteradm.node.serve.fronts.frigate import FrigateFront
from clusteradm.node.serve.fronts.grpc_calls import GrpcFront
from clusteradm.node.serve.plane import FrontConfig, Plane
from clusteradm.node.spec.wire.serving import ServeConfig


class Got(NamedTuple):
    """An answer over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """Where the fronts are. `lines`: the access log so far."""

    def __init__(self, loop: asyncio.AbstractEventLoop, plane: Plane, log: Path) -> None:
        self.loop, self.plane, self._log = loop, plane, log
        self.http = self.grpc = self.zmq = 0

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.http}"

    @property
    def rpc(self) -> str:
        return f"127.0.0.1:{self.grpc}"

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Got:
        """One request; a body that is neither bytes nor None is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=60)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, data, dict(headers or {}))
            answer = connection.getresponse()
            return Got(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()


def until(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for something to be true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come")


@contextlib.contextmanager
def serving(plane: Plane, folder: Path) -> Iterator[Server]:
    """The fronts, at work."""
    loop = asyncio.new_event_loop()
    log = folder / "access.log"
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    server = Server(loop, plane, log)
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    server.http = listening.getsockname()[1]
    config = FrontConfig(ServeConfig("board-1", "127.0.0.1", "/nowhere", server.http, 0, 0), 0, listening, str(folder))
    began = threading.Event()
    failed: list[BaseException] = []
    before, starting._STDOUT = starting._STDOUT, descriptor

    async def start() -> Any:
        return await starting.start(plane, config)

    def run() -> None:
        asyncio.set_event_loop(loop)
        try:
            server.running = loop.run_until_complete(start())  # type: ignore[attr-defined]
        except BaseException as error:
            failed.append(error)
            began.set()
            return
        began.set()
        loop.run_forever()
        for each in server.running:  # type: ignore[attr-defined]
            loop.run_until_complete(each.close(1.0))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    began.wait(60)
    starting._STDOUT = before
    if failed:
        raise failed[0]
    for each in server.running:  # type: ignore[attr-defined]
        if isinstance(each, GrpcFront):
            server.grpc = each.port
        if isinstance(each, FrigateFront):
            server.zmq = each.port
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        os.close(descriptor)
        assert not thread.is_alive()
