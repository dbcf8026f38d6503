"""Passed connections: those that aiohttp reads, once a request has come that does not have the plain form (head.py)."""

import asyncio
import zlib
from typing import Any, List, Optional

from aiohttp import StreamReader, web
from aiohttp.web_protocol import RequestHandler

from clusteradm.node.serve.fronts.connections import Connection, Connections
from clusteradm.node.serve.fronts.exchange import JSON, SERVER, Asked, Exchange, HttpError, Piece, dumps, late
from clusteradm.node.serve.fronts.limits import MOST_PIPELINED
from clusteradm.node.serve.plane import INVALID, TOO_LARGE, Refusal

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PIECE = 1 << 16


class Late(asyncio.TimeoutError):
    """A body that took too long to come. Of this kind, so that aiohttp, which reads on after the answer, is silent."""


class Passed(RequestHandler):
    """One connection. `body`: what is being read."""

    __slots__ = ("body", "connection", "connections")

    def __init__(self, server: web.Server, connections: Connections, **settings: Any) -> None:
        super().__init__(server, loop=asyncio.get_event_loop(), **settings)
        self.connections = connections
        self.connection: Optional[Connection] = None
        self.body: Optional[StreamReader] = None

    def take(self, connection: Connection, data: bytes) -> None:
        """Take a connection over, with what has come on it."""
        self.connection = connection
        connection.late = self._late
        connection.transport.set_protocol(self)
        self.connection_made(connection.transport)
        self.data_received(data)

    def _late(self) -> None:
        if self.body is not None:
            self.body.set_exception(Late())

    def handle_error(self, request: Any, status: int = 500, exc: Any = None, message: Any = None) -> web.StreamResponse:
        """The answer to what is no request: JSON, as every other."""
        if status >= 500:  # which is logged there
            return super().handle_error(request, status, exc, message)
        body = dumps({"error": "the request is damaged, or its head too long: " + _shown(exc)})
        response = web.Response(body=body, status=status, content_type=JSON, headers={"Server": SERVER})
        response.force_close()
        return response

    def connection_lost(self, exc: Optional[BaseException]) -> None:
        """The client has gone."""
        if self.connection is not None:
            self.connections.leave(self.connection)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes have come."""
        if self.connection is not None:
            self.connection.begin()
        super().data_received(data)
        if len(self._messages) > MOST_PIPELINED and self.connection is not None:
            self.connection.abort()


def _shown(error: Any) -> str:
    """The first line of what aiohttp says of it."""
    lines = str(getattr(error, "message", None) or error).split("\n")
    return ascii(lines[0])[1:-1][:100]


class Server(web.Server):
    """All of them."""

    def __init__(self, handler: Any, connections: Connections, **settings: Any) -> None:
        super().__init__(handler, **settings)
        self._settings, self._own = settings, connections

    def __call__(self) -> Passed:
        return Passed(self, self._own, **self._settings)

    def close_idle(self) -> None:
        """Close those that have no request."""
        for passed in self.connections:
            connection = passed.connection if isinstance(passed, Passed) else None
            if connection is not None and self._own.waits(connection) and not connection.body_since:
                passed.close()


class PassedRequest(Asked):
    """One request, as aiohttp has it."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self.method, self.headers = request.method, request.headers

    async def pieces(self, exchange: Exchange, most: int) -> List[Piece]:
        """The body, read here."""
        request = self._request
        length = request.content_length
        if length is not None and length > most:
            raise Refusal(TOO_LARGE, "a body of %d bytes, more than %d" % (length, most))
        unpack = self._unpacker()
        if self.headers.get("expect", "").lower() == "100-continue":
            await request.writer.write(_CONTINUE)
            request.writer.output_size = 0
        found: List[Piece] = []
        size = 0
        passed = request.protocol
        connection = passed.connection if isinstance(passed, Passed) else None
        if isinstance(passed, Passed) and connection is not None:
            passed.body = request.content
            connection.reading()
        try:
            while True:
                piece = await request.content.readany()
                if not piece:
                    break
                exchange.call.received += len(piece)
                for part in [piece] if unpack is None else unpack.parts(piece):
                    size += len(part)
                    if size > most:
                        raise Refusal(TOO_LARGE, "a body of more than %d bytes" % most)
                    exchange.hold(len(part))
                    found.append(part)
            if unpack is not None:
                unpack.end()
        except Late:
            raise late() from None
        except web.RequestPayloadError:
            raise Refusal(INVALID, "the body of the request is damaged, or ended early") from None
        finally:
            if connection is not None:
                connection.busy()
        return found

    def _unpacker(self) -> Optional["_Unpacker"]:
        coding = self.headers.get("content-encoding", "identity").strip().lower()
        if coding == "identity":
            return None
        if coding not in ("gzip", "x-gzip", "deflate"):
            text = "the Content-Encoding %s is none of gzip, deflate" % ascii(coding[:60])
            raise HttpError(415, text, [("Accept-Encoding", "gzip, deflate")])
        return _Unpacker(coding)


class _Unpacker:
    """A packed body, unpacked in pieces, so that a small one that unfolds to gigabytes is noticed."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._zlib: Any = None

    def parts(self, data: bytes) -> Any:
        """Generator of the unpacked pieces. Raises Refusal for what is damaged."""
        try:
            if self._zlib is None:
                # deflate is zlib's format (RFC 9110 section 8.4.1.2); some send it without that header.
                bare = self._coding == "deflate" and data[0] & 15 != 8
                self._zlib = zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS | 32)
            while data:
                yield self._zlib.decompress(data, _PIECE)
                data = self._zlib.unconsumed_tail
                if self._zlib.eof and self._zlib.unused_data:
                    raise Refusal(INVALID, "there is more behind the end of the %s body" % self._coding)
        except zlib.error as error:
            raise Refusal(INVALID, "the body is no %s: %s" % (self._coding, str(error)[:100])) from None

    def end(self) -> None:
        """Raise Refusal where the end is missing."""
        if self._zlib is None or not self._zlib.eof:
            raise Refusal(INVALID, "the %s body is cut short" % self._coding)
