"""Connections over HTTP of one front process: how many there are, and how slow each may be."""

import asyncio
import contextlib
import time
from collections import OrderedDict
from typing import Any, Callable, Optional, Set

from clusteradm.node.serve.fronts.limits import (
    BODY_SECONDS,
    HEAD_SECONDS,
    KEEP_SECONDS,
    MOST_CONNECTIONS,
    WRITE_SECONDS,
)

_LOOK = 1.0  # seconds between two looks at all of them


class Connection:
    """One connection. `began`: whether a part of a request's head has come; `since`: when it began to wait for that,
    or for its end; `body_since`: when it began to wait for a body, 0 for none; `unsent`: bytes that the client does not
    take; `late`: what is to be done where the body does not come."""

    __slots__ = ("_connections", "began", "body_since", "late", "since", "transport", "unsent", "unsent_since")

    def __init__(self, connections: "Connections", transport: Any, late: Callable[[], None]) -> None:
        self._connections, self.transport, self.late = connections, transport, late
        # From a client that says nothing, the head of a request is waited for no longer than from one that has begun
        # to send it.
        self.began, self.since = True, time.monotonic()
        self.body_since = 0.0
        self.unsent, self.unsent_since = 0, 0.0

    def begin(self) -> None:
        """Some bytes have come."""
        if not self.began:
            self.began, self.since = True, time.monotonic()
            self._connections.comes(self)

    def reading(self) -> None:
        """The body of a request is being read."""
        self.body_since = time.monotonic()
        self._connections.comes(self)

    def busy(self) -> None:
        """A request has come, as far as it is needed, and is being answered."""
        self.body_since = 0.0
        self._connections.works(self)

    def idle(self) -> None:
        """It has been answered; another one may come."""
        self.began, self.since = False, time.monotonic()
        self.body_since = 0.0
        self._connections.rests(self)

    def abort(self) -> None:
        """Close at once; what has not been sent is not."""
        self.transport.abort()

    def look(self, now: float) -> None:
        """Close what takes too long."""
        if self.body_since:
            if now - self.body_since > BODY_SECONDS:
                self.busy()
                self.late()
        elif self._connections.waits(self) and now - self.since > (HEAD_SECONDS if self.began else KEEP_SECONDS):
            self.abort()
            return
        unsent = self.transport.get_write_buffer_size()
        if unsent != self.unsent:
            self.unsent, self.unsent_since = unsent, now
        elif unsent and now - self.unsent_since > WRITE_SECONDS:
            self.abort()


class Connections:
    """All of them. Those that wait are of two kinds, who has waited longest first: `coming`, whose request has not come
    as a whole, and `resting`, which have had an answer. Where there are too many, those that come have half of
    the places at most: a crowd that connects and says nothing drives out nobody who asks as usual."""

    def __init__(self) -> None:
        self.all: Set[Connection] = set()
        self.coming: "OrderedDict[Connection, None]" = OrderedDict()
        self.resting: "OrderedDict[Connection, None]" = OrderedDict()
        self._task: Optional["asyncio.Task[None]"] = None

    def join(self, transport: Any, late: Callable[[], None]) -> Connection:
        """A client has come. Where there are too many, one is closed: it is the new one where all others have requests
        at work."""
        found = Connection(self, transport, late)
        self.all.add(found)
        self.coming[found] = None
        if len(self.all) > MOST_CONNECTIONS:
            many = len(self.coming) > MOST_CONNECTIONS // 2
            oldest, _ = (self.coming if many or not self.resting else self.resting).popitem(last=False)
            oldest.abort()
        return found

    def leave(self, connection: Connection) -> None:
        """The client has gone."""
        self.all.discard(connection)
        self.works(connection)

    def comes(self, connection: Connection) -> None:
        """A request, or its body, begins to come."""
        self.resting.pop(connection, None)
        self.coming[connection] = None

    def works(self, connection: Connection) -> None:
        """It has come as a whole."""
        self.coming.pop(connection, None)
        self.resting.pop(connection, None)

    def rests(self, connection: Connection) -> None:
        """It has been answered."""
        if connection in self.all:
            self.resting[connection] = None

    def waits(self, connection: Connection) -> bool:
        """Whether it has no request at work."""
        return connection in self.coming or connection in self.resting

    def watch(self) -> None:
        """Look at all connections from time to time."""
        self._task = asyncio.get_event_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            now = time.monotonic()
            for each in list(self.all):
                each.look(now)

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
