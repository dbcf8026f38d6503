"""Engine's socket, as a front process sees it: requests out, answers in, tensors through the arena."""

import array
import asyncio
import contextlib
import socket
import struct
import time
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import numpy as np

from clusteradm.node.serve import messages, paths
from clusteradm.node.serve.arena import SIZE, Arena, Layout, layout
from clusteradm.node.serve.link import Bytes, Done, EngineGone, Link, Reply
from clusteradm.node.serve.loaded import Loaded
from clusteradm.node.serve.messages import Ended, Run
from clusteradm.node.serve.page import Page
from clusteradm.node.serve.plane import DEADLINE, INVALID, OVERLOADED, TOO_LARGE, Refusal

_RETRY_SECONDS = 0.05

_Ended = Optional[Ended]
_Gone = Optional[EngineGone]


class Sent:
    """A request that an engine has. `done`: who waits for its end, or for the engine's; None for nobody. `offset`: of
    its block, which is the front's again when the engine has ended it."""

    __slots__ = ("done", "number", "offset")

    def __init__(self, number: int, offset: int, done: Callable[[_Ended, _Gone], None]) -> None:
        self.number, self.offset = number, offset
        self.done: Optional[Callable[[_Ended, _Gone], None]] = done


class EngineLink(Link):
    """Connection to one engine process. Without one, `ready` is False, and `connect` tries again."""

    def __init__(self, number: int, device: str, simulated: bool, front: int, fronts: int, runtime: str) -> None:
        self.number, self.device, self.simulated = number, device, simulated
        self._front, self._fronts, self._runtime = front, fronts, runtime
        self._page = Page(paths.page(runtime))
        self._socket: Optional[socket.socket] = None
        self._arena = Arena()
        self._sent: Dict[int, Sent] = {}
        self._layouts: Dict[Tuple[int, int], Layout] = {}
        self._seconds: Dict[int, float] = {}
        self._next = 0
        self._count()  # the front process before this one may have ended with requests

    @property
    def ready(self) -> bool:
        """Whether it is connected and in rotation."""
        return self._socket is not None and not self._page.closed(self.number)

    def load(self, key: int) -> float:
        """Its requests at their measured time, and the swap where another version ran last."""
        each = self._seconds.get(key, 0.0)
        swap = each if self._page.last(self.number) not in (0, key) else 0.0
        return self._page.waiting(self.number, self._fronts) * max(each, 1e-4) + swap

    def connect(self) -> bool:
        """Try to connect, where there is no connection; whether there is one now."""
        if self._socket is not None:
            return True
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.setblocking(False)
            connection.connect(paths.engine(self._runtime, self.number))
            fds = array.array("i", [self._arena.fd])
            connection.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        except OSError:
            connection.close()
            return False
        self._socket = connection
        asyncio.get_event_loop().add_reader(connection.fileno(), self._read)
        return True

    def give_up(self, reason: str) -> None:
        """Have all requests go elsewhere, as the engine does not answer; their blocks are its until it ends them."""
        for sent in list(self._sent.values()):
            done, sent.done = sent.done, None
            if done is not None:
                done(None, EngineGone(reason))

    def close(self, reason: str = "its process has ended") -> None:
        """Let go of the connection; the requests go elsewhere."""
        if self._socket is not None:
            asyncio.get_event_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        self.give_up(reason)
        for sent in self._sent.values():
            self._arena.give(sent.offset)
        self._sent.clear()
        self._count()

    async def call(self, version: Loaded, inputs: Sequence[Any], deadline: Optional[float], priority: int) -> Reply:
        """One inference."""
        rows = len(inputs[0]) if version.batches > 1 else 0
        plan = self._layout(version, rows)
        offset = self._block(plan.size, version)
        for (at, shape, dtype), values in zip(plan.inputs, inputs):
            self._arena.array(offset + at, shape, dtype)[...] = values
        loop = asyncio.get_event_loop()
        future: "asyncio.Future[Ended]" = loop.create_future()

        def done(ended: _Ended, gone: _Gone) -> None:
            if ended is None:
                if not future.done():
                    future.set_exception(gone or EngineGone())
            elif not future.done():
                future.set_result(ended)
            else:
                self._arena.give(offset)

        sent = self._send(version, rows, offset, deadline, priority, done)
        timer = None if deadline is None else loop.call_at(loop.time() + deadline - time.monotonic(), _late, future)
        try:
            ended = await future
        except BaseException:
            if sent.number in self._sent:
                self._drop(sent)
            elif future.done() and not future.cancelled() and future.exception() is None:
                self._arena.give(offset)  # it was answered, and whoever asked has gone at the same time
            raise
        finally:
            if timer is not None:
                timer.cancel()
        try:
            self._check(version, ended)
            outputs = [np.array(self._arena.array(offset + at, shape, dtype)) for at, shape, dtype in plan.outputs]
        finally:
            self._arena.give(offset)
        return Reply(outputs, ended.queued, ended.seconds, ended.batch)

    def begin(
        self, version: Loaded, rows: int, inputs: Sequence[Sequence[Bytes]], priority: int, done: Done
    ) -> Callable[[], None]:
        """One inference on bytes."""
        plan = self._layout(version, rows)
        offset = self._block(plan.size, version)
        memory = self._arena.memory
        for (place, _, _), pieces in zip(plan.inputs, inputs):
            at = offset + place
            for piece in pieces:
                memory[at : at + len(piece)] = piece
                at += len(piece)

        def over(ended: _Ended, gone: _Gone) -> None:
            if ended is None:
                done(gone or EngineGone())
                return
            try:
                self._check(version, ended)
                outputs = [memory[offset + at : offset + at + size] for at, size in plan.output_bytes]
            except (Refusal, EngineGone) as error:
                self._arena.give(offset)
                done(error)
                return
            self._arena.give(offset)
            done(Reply(outputs, ended.queued, ended.seconds, ended.batch))

        sent = self._send(version, rows, offset, None, priority, over)
        return lambda: self._drop(sent)

    def _send(
        self, version: Loaded, rows: int, offset: int, deadline: Optional[float], priority: int, done: Any
    ) -> Sent:
        """Send a request whose inputs are in its block."""
        number = self._next
        self._next += 1
        try:
            if self._socket is None:
                raise EngineGone("it is not connected")
            self._socket.send(Run(messages.RUN, number, version.key, rows, offset, deadline or 0.0, priority).pack())
        except BlockingIOError:
            self._arena.give(offset)
            raise Refusal(OVERLOADED, "the engine's queue is full", _RETRY_SECONDS) from None
        except (OSError, EngineGone):
            self._arena.give(offset)
            raise EngineGone("its process has ended, or is not connected") from None
        sent = self._sent[number] = Sent(number, offset, done)
        self._count()
        return sent

    def _check(self, version: Loaded, ended: Ended) -> None:
        """Raise Refusal, EngineGone where there are no outputs."""
        if ended.status == messages.DONE:
            self._seconds[version.key] = 0.9 * self._seconds.get(version.key, ended.seconds) + 0.1 * ended.seconds
            return
        if ended.status == messages.FAILED:
            raise Refusal(INVALID, "the model fails on it: %s" % ended.text)
        if ended.status == messages.LATE:
            raise Refusal(DEADLINE, "its deadline was over before its turn")
        if ended.status == messages.FULL:
            raise Refusal(OVERLOADED, "the model's queue is full", max(_RETRY_SECONDS, ended.seconds))
        raise EngineGone(ended.text or "it has this version no more")

    def _block(self, size: int, version: Loaded) -> int:
        if size > SIZE // 2:
            raise Refusal(TOO_LARGE, "the tensors take %d bytes, more than %d" % (size, SIZE // 2))
        offset = self._arena.take(size)
        if offset is None:
            raise Refusal(OVERLOADED, "%d requests of model %s wait" % (len(self._sent), version.name), _RETRY_SECONDS)
        return offset

    def _layout(self, loaded: Loaded, rows: int) -> Layout:
        found = self._layouts.get((loaded.key, rows))
        if found is None:
            found = self._layouts[loaded.key, rows] = layout(loaded, rows)
        return found

    def _drop(self, sent: Sent) -> None:
        """Tell the engine that nobody waits for the answer; it ends the request, whose block is free then."""
        sent.done = None
        if self._socket is not None and sent.number in self._sent:
            with contextlib.suppress(OSError):
                self._socket.send(Run(messages.CANCEL, sent.number).pack())

    def _read(self) -> None:
        """Take an answer that has come; this is called again where there is another one."""
        if self._socket is None:
            return
        try:
            data = self._socket.recv(messages.MOST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            ended = messages.read_ended(data)
        except struct.error:
            self.close()
            return
        sent = self._sent.pop(ended.id, None)
        self._count()
        if sent is None:
            return
        if sent.done is None:
            self._arena.give(sent.offset)
        else:
            sent.done(ended, None)

    def _count(self) -> None:
        self._page.set_waiting(self._front, self.number, len(self._sent))


def _late(future: "asyncio.Future[Ended]") -> None:
    if not future.done():
        future.set_exception(Refusal(DEADLINE, "its deadline was over before it was answered"))
