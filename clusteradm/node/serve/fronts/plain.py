"""Plain connections: requests of the plain form (head.py), one after the other, read and answered here.

aiohttp takes half a millisecond of processor for a request, of which this needs a tenth. The first byte that does not
belong to a plain request passes the connection to aiohttp, for as long as it lasts.
"""

import asyncio
import functools
import http
import time
from email.utils import formatdate
from typing import Any, Awaitable, Callable, List, NamedTuple, Optional, Sequence, Set, Tuple

from clusteradm.node.serve.fronts.calls import Call, Desk
from clusteradm.node.serve.fronts.connections import Connection, Connections
from clusteradm.node.serve.fronts.exchange import Asked, Exchange, Piece, Reply, dumps, late
from clusteradm.node.serve.fronts.head import Head, plain
from clusteradm.node.serve.fronts.limits import MOST_BODY
from clusteradm.node.serve.fronts.network import REFUSED
from clusteradm.node.serve.plane import TOO_LARGE, Refusal

_MOST_BEHIND = 1 << 16  # bytes behind a request that is being answered
_LOOK_SECONDS = 0.02
_STRANGE = Reply(dumps({"error": REFUSED}), status=403)

Fields = Sequence[Tuple[str, str]]


class Answered(NamedTuple):
    """What is answered to a call. `quiet`: whether the log is to be silent about it."""

    call: Call
    reply: Reply
    fields: Fields
    quiet: bool = False


_Found = Optional[Answered]


class PlainRequest(Asked):
    """One request, whose body has come. `failure`: why it has not."""

    def __init__(self, head: Head, body: List[Piece], held: int, failure: Optional[Exception]) -> None:
        self.method, self.target, self.headers, self.held = head.method, head.target, head.headers, held
        self.length, self.body, self.failure = head.length, body, failure

    async def pieces(self, exchange: Exchange, most: int) -> List[Piece]:
        """The body."""
        exchange.call.received = self.length
        if self.length > most:
            raise Refusal(TOO_LARGE, "a body of %d bytes, more than %d" % (self.length, most))
        if self.failure is not None:
            raise self.failure
        return self.body


class Plains:
    """All such connections of a front process. `work`: from a request and the address of its client to an answer;
    `direct`: the same without a task, where that can be: it returns what is to be called when the client has gone, or
    None, and hands over the answer, or None, where the other one is to be asked; `pass_on`: has aiohttp read a
    connection, from these bytes on."""

    def __init__(
        self,
        desk: Desk,
        connections: Connections,
        work: Callable[[PlainRequest, str], Awaitable[Answered]],
        direct: Callable[[PlainRequest, str, Callable[[Optional[Answered]], None]], Optional[Callable[[], None]]],
        pass_on: Callable[[Connection, bytes], None],
    ) -> None:
        self.desk, self.connections, self.work, self.direct = desk, connections, work, direct
        self.pass_on = pass_on
        self.all: Set["Plain"] = set()
        self.closing = False

    def __call__(self) -> "Plain":
        return Plain(self)

    async def close(self, seconds: float) -> None:
        """Let the requests that have come, or are coming, be answered within `seconds`."""
        self.closing = True
        end = time.monotonic() + seconds
        while True:
            for each in list(self.all):
                each.close_idle()
            if not self.all or time.monotonic() >= end:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        for each in list(self.all):
            each.connection.abort()


class Plain(asyncio.Protocol):
    """One connection."""

    connection: Connection

    def __init__(self, plains: Plains) -> None:
        self._plains = plains
        self._client = ""
        self._head: Optional[Head] = None
        self._last: Optional[Head] = None
        self._last_bytes = b"\0"  # with which no head begins
        self._body: List[Piece] = []
        self._missing = self._held = 0
        self._leave: Optional[Callable[[], Any]] = None  # of the request at work
        self._paused = False
        self._behind = b""
        self._strange = False  # from another network

    def connection_made(self, transport: Any) -> None:
        """A client has come."""
        peer = transport.get_extra_info("peername")
        self._client = str(peer[0]) if peer else ""
        self._strange = not self._plains.desk.network.has(self._client)
        self._plains.all.add(self)
        self.connection = self._plains.connections.join(transport, self._late)

    def connection_lost(self, exc: Optional[BaseException]) -> None:
        """The client has gone: nobody waits for the answer."""
        self._plains.all.discard(self)
        self._plains.connections.leave(self.connection)
        self._plains.desk.release(self._held)
        self._held = 0
        if self._leave is not None:
            self._leave()

    def pause_writing(self) -> None:
        """The client takes no answers."""
        self._paused = True

    def resume_writing(self) -> None:
        """It does again."""
        self._paused = False
        self._go_on()

    def data_received(self, data: bytes) -> None:
        """Some bytes have come. While a request is being answered, what is behind it waits."""
        if self._strange:
            self.connection.transport.write(response(_STRANGE, (("Content-Type", _STRANGE.kind),), True))
            self.connection.transport.close()
            return
        if self._leave is None and not self._paused:
            self._take(data)
            return
        self._behind += data
        if len(self._behind) > _MOST_BEHIND:
            self.connection.transport.pause_reading()

    def _take(self, data: bytes) -> None:
        head = self._head
        rest: Piece = data
        if head is None:
            # A connection's requests often have the same head, byte for byte.
            head = self._last if data.startswith(self._last_bytes) else plain(data)
            if head is None or head.length > MOST_BODY:
                self._plains.all.discard(self)
                self._plains.pass_on(self.connection, data)
                return
            if head is not self._last:
                self._last, self._last_bytes = head, data[: head.size]
            self._head, self._missing = head, head.length
            rest = memoryview(data)[head.size :]
        if len(rest) > self._missing:
            self._behind = bytes(rest[self._missing :])
            rest = rest[: self._missing]
        size = len(rest)
        if size:
            try:
                self._plains.desk.hold(size)
            except Refusal as refusal:
                self._begin(head, refusal)
                return
            self._held += size
            self._body.append(rest)
            self._missing -= size
        if not self._missing:
            self._begin(head)
        elif not self.connection.body_since:
            self.connection.reading()

    def _late(self) -> None:
        if self._head is not None:
            self._begin(self._head, late())

    def _begin(self, head: Head, failure: Optional[Exception] = None) -> None:
        """Have the request answered. `failure`: why its body is not there; nothing behind it can be read then."""
        request = PlainRequest(head, self._body, self._held, failure)
        self._head, self._body, self._held = None, [], 0
        self.connection.busy()
        if failure is None:

            def done(found: _Found) -> None:
                if found is not None:
                    self._send(found, False)
                else:
                    self._work(request)

            self._leave = self._plains.direct(request, self._client, done)
        if self._leave is None:
            self._work(request)

    def _work(self, request: PlainRequest) -> None:
        self._leave = asyncio.get_event_loop().create_task(self._answer(request)).cancel

    async def _answer(self, request: PlainRequest) -> None:
        self._send(await self._plains.work(request, self._client), request.failure is not None)

    def _send(self, found: Answered, last: bool) -> None:
        self._leave = None
        transport = self.connection.transport
        last = last or self._plains.closing
        transport.write(response(found.reply, found.fields, last))
        if last:
            transport.close()
        else:
            self.connection.idle()
            self._go_on()
        if not found.quiet:
            self._plains.desk.end(found.call)

    def _go_on(self) -> None:
        """Take what has come meanwhile."""
        if self._behind and self._leave is None and not self._paused:
            behind, self._behind = self._behind, b""
            self._take(behind)
            if len(self._behind) <= _MOST_BEHIND:
                self.connection.transport.resume_reading()

    def close_idle(self) -> None:
        """Close it where no request is at work, or has begun to come."""
        if self._leave is None and self._head is None:
            self.connection.transport.close()


def response(reply: Reply, fields: Fields, last: bool) -> bytes:
    """The bytes of an answer. `last`: whether the connection is closed after it."""
    lines = [_status(reply.status), "Content-Length: %d" % len(reply.body), "Date: " + _date(int(time.time()))]
    for field in fields:
        lines.append("%s: %s" % field)
    if last:
        lines.append("Connection: close")
    lines.append("\r\n")
    return "\r\n".join(lines).encode("latin-1", "replace") + reply.body


@functools.lru_cache(maxsize=64)
def _status(status: int) -> str:
    return "HTTP/1.1 %d %s" % (status, http.HTTPStatus(status).phrase)


@functools.lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
