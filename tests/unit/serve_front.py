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
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

from clusteradm.node.serve.fronts import starting
from clusteradm.node.serve.fronts.frigate import FrigateFront
from clusteradm.node.serve.fronts.grpc_calls import GrpcFront
from clusteradm.node.serve.plane import FrontConfig, Plane, Runner
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
    """The fronts, and where they are. `lines`: the access log so far."""

    def __init__(self, plane: Plane, log: Path) -> None:
        self.plane, self._log = plane, log
        self._loop = asyncio.new_event_loop()
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        self.http = listening.getsockname()[1]
        config = ServeConfig("board-1", "127.0.0.1", "/nowhere", self.http, 0, 0)
        self._config = FrontConfig(config, 0, listening, str(log.parent))
        self._running: list[Runner] = []
        began: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(began,), daemon=True)
        self._thread.start()
        began.result(60)
        (fronts,) = self._running
        assert isinstance(fronts, starting.Fronts)
        self.grpc = next(each.port for each in fronts.running if isinstance(each, GrpcFront))
        self.zmq = next(each.port for each in fronts.running if isinstance(each, FrigateFront))

    def _run(self, began: Future[None]) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._running = self._loop.run_until_complete(starting.start(self.plane, self._config))
        except BaseException as error:
            began.set_exception(error)
            return
        began.set_result(None)
        self._loop.run_forever()
        for each in self._running:
            self._loop.run_until_complete(each.close(30.0))
        self._loop.close()

    def end(self) -> None:
        """Stop serving, as a front process does that is told to end."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(90)
        assert not self._thread.is_alive()

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
    log = folder / "access.log"
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    before, starting._STDOUT = starting._STDOUT, descriptor
    try:
        server = Server(plane, log)
    finally:
        starting._STDOUT = before
    try:
        yield server
    finally:
        server.end()
        os.close(descriptor)
