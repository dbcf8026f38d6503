"""Link to a process of servables, as a front process sees it."""

import asyncio
import contextlib
import socket
import time
from typing import Any, Dict, NamedTuple, Optional, Sequence

from clusteradm.node.serve import paths
from clusteradm.node.serve.link import EngineGone, Link, Reply
from clusteradm.node.serve.loaded import Loaded
from clusteradm.node.serve.page import Page
from clusteradm.node.serve.plane import DEADLINE, INTERNAL, INVALID, OVERLOADED, Refusal
from clusteradm.node.serve.servables import frames
from clusteradm.node.serve.servables.work import Arrays

_MOST_SENT = 256  # requests of this front process that the other has
_MOST_BYTES = 256 << 20  # of those
_RETRY_SECONDS = 0.1
_ENDED = "its process has ended"


class Given(NamedTuple):
    """What a servable gave; times in seconds."""

    outputs: Arrays
    queued: float
    seconds: float


class Sent:
    """A request that the process has. `begun`: it is at work, and what ends the process now may be this request."""

    def __init__(self, size: int) -> None:
        self.future: "asyncio.Future[Given]" = asyncio.get_event_loop().create_future()
        self.size, self.begun = size, False


class ServableLink(Link):
    """Connection to one process. Without one, `ready` is False, and `connect` tries again."""

    simulated = models = False

    def __init__(self, number: int, device: str, front: int, runtime: str) -> None:
        self.number, self.device = number, device
        self._front, self._runtime = front, runtime
        self._page = Page(paths.page(runtime))
        self._writer: Optional[asyncio.StreamWriter] = None
        self._talk: "Optional[asyncio.Future[None]]" = None
        self._sent: Dict[int, Sent] = {}
        self._bytes = self._next = 0
        self._count()  # the front process before this one may have ended with requests

    @property
    def ready(self) -> bool:
        """Whether it is connected and in rotation."""
        return self._writer is not None and not self._page.closed(self.number)

    def load(self, key: int) -> float:
        """As there is no other process that has the same, nothing is to be chosen."""
        return 0.0

    async def call(self, version: Loaded, inputs: Sequence[Any], deadline: Optional[float], priority: int) -> Reply:
        """Not for what an engine has: `ask`."""
        raise NotImplementedError

    def connect(self) -> bool:
        """Try to connect, where there is no connection; whether there is one now."""
        if self._talk is not None:
            return True
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect(paths.engine(self._runtime, self.number))
        except OSError:
            connection.close()
            return False
        self._talk = asyncio.ensure_future(self._converse(connection))
        return True

    def give_up(self, reason: str) -> None:
        """Have what waits go elsewhere, as the process does not answer, and say so to those that are at work."""
        for sent in self._sent.values():
            if not sent.future.done():
                sent.future.set_exception(_lost(reason) if sent.begun else EngineGone(reason))

    def close(self, reason: str = _ENDED) -> None:
        """Let go of the connection."""
        if self._talk is not None:
            self._talk.cancel()
        self._let_go(reason)

    def _let_go(self, reason: str) -> None:
        writer, self._writer, self._talk = self._writer, None, None
        if writer is not None:
            writer.close()
        self.give_up(reason)
        self._sent.clear()
        self._bytes = 0
        self._count()

    def _count(self) -> None:
        self._page.set_waiting(self._front, self.number, len(self._sent))

    async def ask(
        self, version: Loaded, step: Optional[int], inputs: Arrays, deadline: Optional[float], priority: int
    ) -> Given:
        """The outputs of a servable, or of a step of an ensemble. Raises Refusal, EngineGone."""
        if self._writer is None:
            raise EngineGone("it is not connected")
        number = self._next
        self._next += 1
        document = {"do": frames.RUN, "id": number, "key": version.key, "step": step}
        pieces = frames.pack(dict(document, deadline=deadline or 0.0, priority=priority), inputs)
        size = sum(map(len, pieces))
        if size > frames.MOST_BODY:
            raise Refusal(INVALID, "its tensors take %d bytes, more than %d" % (size, frames.MOST_BODY))
        if len(self._sent) >= _MOST_SENT or self._bytes + size > _MOST_BYTES:
            raise Refusal(OVERLOADED, "%d requests of servables wait" % len(self._sent), _RETRY_SECONDS)
        sent = self._sent[number] = Sent(size)
        self._bytes += size
        self._count()
        self._writer.writelines(pieces)
        timer = None
        if deadline is not None:
            loop = asyncio.get_event_loop()
            timer = loop.call_at(loop.time() + deadline - time.monotonic(), _late, sent.future)
        try:
            return await sent.future
        except (Refusal, asyncio.CancelledError):
            self._cancel(number)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _cancel(self, number: int) -> None:
        """Tell the process that nobody waits for the answer."""
        if self._writer is not None and number in self._sent:
            self._writer.writelines(frames.pack({"do": frames.CANCEL, "id": number}, {}))

    async def _converse(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, frames.Damaged):
            reader, self._writer = await asyncio.open_unix_connection(sock=connection, limit=1 << 20)
            while True:
                text_size, size = frames.sizes(await reader.readexactly(frames.HEAD.size))
                text, body = await reader.readexactly(text_size), await reader.readexactly(size)
                self._hear(*frames.unpack(text, body))
        self._let_go(_ENDED)

    def _hear(self, document: Dict[str, Any], outputs: Arrays) -> None:
        number, status = document["id"], document["status"]
        if status == frames.BEGUN:
            if number in self._sent:
                self._sent[number].begun = True
            return
        sent = self._sent.pop(number, None)
        if sent is None:
            return
        self._bytes -= sent.size
        self._count()
        if sent.future.done():
            return
        if status == frames.DONE:
            sent.future.set_result(Given(outputs, float(document["queued"]), float(document["seconds"])))
        else:
            sent.future.set_exception(_refused(status, str(document.get("text", ""))))


def _refused(status: str, text: str) -> Exception:
    if status == frames.INVALID:
        return Refusal(INVALID, text)
    if status == frames.DEFECT:
        return Refusal(INTERNAL, text)
    if status == frames.LATE:
        return Refusal(DEADLINE, "its deadline was over before its turn")
    if status == frames.FULL:
        return Refusal(OVERLOADED, "the queue of its process is full", _RETRY_SECONDS)
    return EngineGone("it has this version no more")


def _lost(reason: str) -> Refusal:
    """Not to be tried again: the next process may be ended by it too."""
    return Refusal(INTERNAL, "its process was lost while it worked on this request: %s" % reason)


def _late(future: "asyncio.Future[Given]") -> None:
    if not future.done():
        future.set_exception(Refusal(DEADLINE, "its deadline was over before it was answered"))
