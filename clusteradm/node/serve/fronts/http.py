"""HTTP of a front process: routes to the protocols, statuses of errors, connections."""

import asyncio
import logging
import socket
from typing import Any, Awaitable, Callable, Dict, Tuple

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from clusteradm.node.serve.fronts import board, deepstack, doods, errors, rest_tf, rest_v2
from clusteradm.node.serve.fronts.calls import REQUEST_ID, Call, Desk
from clusteradm.node.serve.fronts.connections import Connection, Connections
from clusteradm.node.serve.fronts.direct import Direct
from clusteradm.node.serve.fronts.exchange import SERVER, Asked, Exchange, HttpError, Reply
from clusteradm.node.serve.fronts.limits import KEEP_SECONDS
from clusteradm.node.serve.fronts.passed import Passed, PassedRequest, Server
from clusteradm.node.serve.fronts.plain import Answered, PlainRequest, Plains
from clusteradm.node.serve.plane import INVALID, Refusal, Runner

_MOST_LINGER = 5.0  # seconds of a body that nobody wants: a client reads the answer when it has sent all
_MOST_TARGET = 2000  # characters
_BACKLOG = 4096  # connections that the kernel keeps until one of the front processes accepts them


class _OwnFaults(logging.Filter):
    """Only faults of this program: aiohttp has a traceback for every damaged request, and anybody can send those."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError)


_LOGGER = logging.getLogger("clusteradm.serve.http")
_LOGGER.addFilter(_OwnFaults())

Handler = Callable[[Exchange], Awaitable[Reply]]
# By the first two parts of the path, or the first.
ROUTES: Dict[Tuple[str, ...], Tuple[str, Handler]] = {
    ("v2",): ("kserve-rest", rest_v2.answer),
    ("v1", "models"): ("tensorflow-rest", rest_tf.answer),
    ("v1", "vision"): ("deepstack", deepstack.answer),
    ("detect",): ("doods", doods.answer),
    ("detectors",): ("doods", doods.answer),
    ("metrics",): ("board", board.answer),
    ("clusteradm",): ("board", board.answer),
    ("",): ("board", board.answer),
}


class HttpFront(Runner):
    """The server."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._connections = Connections()
        desk.metrics.connections = lambda: len(self._connections.all)
        # What a browser or a balancer asks all the time is no request to a model, and no line in the log.
        self._passed = Server(
            self._handle,
            self._connections,
            access_log=None,
            logger=_LOGGER,
            auto_decompress=False,
            keepalive_timeout=KEEP_SECONDS,
            lingering_time=_MOST_LINGER,
        )
        direct = Direct(desk, self._answered)
        self._plains = Plains(desk, self._connections, self._plain, direct.begin, self._pass_on)
        self._server: Any = None

    async def start(self, listening: socket.socket) -> None:
        """Serve on a socket that listens already."""
        # asyncio accepts as many at once as this says; the others are for the other front processes.
        self._server = await asyncio.get_event_loop().create_server(self._plains, sock=listening, backlog=1)
        listening.listen(_BACKLOG)
        self._connections.watch()

    async def close(self, seconds: float) -> None:
        """Accept nothing more, and let what runs end; connections without a request are closed at once."""
        if self._server is not None:
            self._server.close()
        self._passed.close_idle()
        await asyncio.gather(self._plains.close(seconds), self._passed.shutdown(seconds))
        await self._connections.close()

    def _pass_on(self, connection: Connection, data: bytes) -> None:
        self._passed().take(connection, data)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request that aiohttp has read."""
        passed = request.protocol
        connection = passed.connection if isinstance(passed, Passed) else None
        if connection is not None:
            connection.busy()
        try:
            found = await self._answer(PassedRequest(request), request.raw_path, request.remote or "")
        finally:
            if connection is not None:
                connection.idle()
        if not found.quiet:
            self._desk.end(found.call)
        return web.Response(body=found.reply.body, status=found.reply.status, headers=found.fields)

    async def _plain(self, request: PlainRequest, client: str) -> Answered:
        return await self._answer(request, request.target, client)

    async def _answer(self, asked: Asked, target: str, client: str) -> Answered:
        call = Call("http", target[:_MOST_TARGET], client, asked.headers)
        return self._answered(call, *await self._reply(asked, call))

    def _answered(self, call: Call, reply: Reply, quiet: bool = False) -> Answered:
        fields = [("Content-Type", reply.kind), *reply.headers, (REQUEST_ID, call.id), ("Server", SERVER)]
        call.sent = len(reply.body)
        return Answered(call, reply, fields, quiet)

    async def _reply(self, asked: Asked, call: Call) -> Tuple[Reply, bool]:
        """What to answer, and whether the log is to be silent about it."""
        exchange = Exchange(self._desk, asked, call)
        quiet = False
        try:
            if len(call.operation) == _MOST_TARGET:
                raise HttpError(414, "an address of %d characters or more" % _MOST_TARGET)
            route = ROUTES.get(tuple(exchange.parts[:2])) or ROUTES.get(tuple(exchange.parts[:1]))
            if route is None:
                raise HttpError(404, "nothing is served at %s" % ascii(call.operation[:200]))
            call.protocol, handler = route
            quiet = handler is board.answer
            return await handler(exchange), quiet
        except Refusal as refusal:
            return errors.refused(call, refusal), False
        except HttpError as error:
            return errors.wrong(call, error), False
        except (asyncio.CancelledError, ConnectionError):
            call.kind, call.text = INVALID, "the client has gone"
            self._desk.end(call)
            raise
        except Exception as error:
            return errors.defect(call, error), False
        finally:
            exchange.end()
