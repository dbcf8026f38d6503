"""Connections over HTTP of one front process: how many there are, and how slow each may be."""

import asyncio
import contextlib
from collections import OrderedDict
from typing import Any, Optional, Tuple

from aiohttp import StreamReader, web
from aiohttp.web_protocol import RequestHandler

from clusteradm.node.serve.fronts.limits import (
    BODY_SECONDS,
    HEAD_SECONDS,
    KEEP_SECONDS,
    MOST_CONNECTIONS,
    MOST_PIPELINED,
    WRITE_SECONDS,
)

_LOOK = 1.0  # seconds between two looks at all of them


class Late(asyncio.TimeoutError):
    """A body that took too long to come. Of this kind, so that aiohttp, which reads on after the answer, is silent."""


class Connection(RequestHandler):
    """One connection. `began`: whether a part of a request's head has come; `since`: when it began to wait for that,
    or for its end; `body`: what is being read, and since when; `unsent`: bytes that the client does not take."""

    __slots__ = ("began", "body", "connections", "since", "unsent", "unsent_since")

    def __init__(self, connections: "Connections", **settings: Any) -> None:
        super().__init__(connections, **settings)
        self.connections = connections
        self.began, self.since = True, 0.0
        self.body: Optional[Tuple[StreamReader, float]] = None
        self.unsent, self.unsent_since = 0, 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come. From one that says nothing, the head of a request is waited for no longer than from one
        that has begun to send it."""
        super().connection_made(transport)
        self.began, self.since = True, asyncio.get_event_loop().time()
        self.connections.waiting[self] = None
        self.connections.make_room()

    def connection_lost(self, exc: Optional[BaseException]) -> None:
        """The client has gone."""
        self.connections.waiting.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes have come."""
        if not self.began:
            self.began, self.since = True, asyncio.get_event_loop().time()
        super().data_received(data)
        if len(self._messages) > MOST_PIPELINED:
            self.abort()

    def reading(self, body: StreamReader) -> None:
        """The body of a request is being read."""
        self.body = body, asyncio.get_event_loop().time()
        self.connections.waiting[self] = None

    def busy(self) -> None:
        """A request has come, as far as it is needed, and is being answered."""
        self.body = None
        self.connections.waiting.pop(self, None)

    def idle(self) -> None:
        """It has been answered; another one may come."""
        self.began, self.since = False, asyncio.get_event_loop().time()
        self.body = None
        if self.transport is not None:
            self.connections.waiting[self] = None

    def abort(self) -> None:
        """Close at once; what has not been sent is not."""
        transport: Any = self.transport
        if transport is not None:
            transport.abort()

    def look(self, now: float) -> None:
        """Close what takes too long."""
        transport: Any = self.transport
        if transport is None:
            return
        if self.body is not None:
            reader, since = self.body
            if now - since > BODY_SECONDS:
                self.busy()
                reader.set_exception(Late())
        elif self in self.connections.waiting and now - self.since > (HEAD_SECONDS if self.began else KEEP_SECONDS):
            self.abort()
            return
        unsent = transport.get_write_buffer_size()
        if unsent != self.unsent:
            self.unsent, self.unsent_since = unsent, now
        elif unsent and now - self.unsent_since > WRITE_SECONDS:
            self.abort()


class Connections(web.Server):
    """All of them. `waiting`: those whose next request has not come as a whole, who has waited longest first."""

    def __init__(self, handler: Any, **settings: Any) -> None:
        super().__init__(handler, **settings)
        self.waiting: "OrderedDict[Connection, None]" = OrderedDict()
        self._settings = settings
        self._task: Optional["asyncio.Task[None]"] = None

    def __call__(self) -> Connection:
        return Connection(self, loop=asyncio.get_event_loop(), **self._settings)

    def make_room(self) -> None:
        """Close the connection that has waited longest, where there are too many: it is the new one where all others
        have requests at work."""
        if len(self.connections) > MOST_CONNECTIONS and self.waiting:
            connection, _ = self.waiting.popitem(last=False)
            connection.abort()

    def watch(self) -> None:
        """Look at all connections from time to time."""
        self._task = asyncio.get_event_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            now = asyncio.get_event_loop().time()
            for each in list(self.connections):
                if isinstance(each, Connection):
                    each.look(now)

    async def close(self, seconds: float) -> None:
        """Let the requests at work end within `seconds`; connections without one are closed at once."""
        for waiting in list(self.waiting):
            if waiting.body is None:
                waiting.close()
        await self.shutdown(seconds)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
