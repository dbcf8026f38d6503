"""Frigate's detector over ZeroMQ: REQ to REP, a header in JSON and a tensor; 20 objects come back.

The socket is a ROUTER, to which a REQ may talk as to a REP, so that several clients need not wait for each other.
"""

import asyncio
import contextlib
import traceback
from typing import Any, List, Optional, Set

import numpy as np
import zmq
import zmq.asyncio

from clusteradm.node.serve.fronts import detecting, numbers
from clusteradm.node.serve.fronts.calls import Call, Desk
from clusteradm.node.serve.fronts.exchange import dumps, loads
from clusteradm.node.serve.fronts.limits import MOST_BODY, MOST_TASKS
from clusteradm.node.serve.plane import DATATYPES, INTERNAL, INVALID, OVERLOADED, Refusal, Runner, Tensor

OBJECTS = 20
_MOST_HEADER = 4096
_MOST_WAITING = 64  # messages of one client
_KSERVE = {dtype: name for name, dtype in DATATYPES.items()}
_MOST_TRACE = 4000


class FrigateFront(Runner):
    """The server."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.MAXMSGSIZE, MOST_BODY),
            (zmq.RCVHWM, _MOST_WAITING),
            (zmq.SNDHWM, _MOST_WAITING),
            (zmq.ROUTER_HANDOVER, 1),
            (zmq.HEARTBEAT_IVL, 30000),
            (zmq.HEARTBEAT_TIMEOUT, 60000),
        ):
            self._socket.setsockopt(option, value)
        self._work: Set["asyncio.Task[None]"] = set()
        self._task: Optional["asyncio.Task[None]"] = None
        self.port = 0

    async def start(self, address: str) -> None:
        """Listen on "ADDRESS:PORT". Raises OSError where that cannot be."""
        try:
            self._socket.bind("tcp://" + address)
        except zmq.ZMQError as error:
            self._socket.close()
            raise OSError("ZeroMQ cannot listen on %s: %s" % (address, error)) from None
        endpoint: Any = self._socket.getsockopt(zmq.LAST_ENDPOINT)
        self.port = int(endpoint.rstrip(b"\0").rsplit(b":", 1)[1])
        self._task = asyncio.get_event_loop().create_task(self._serve())

    async def close(self, seconds: float) -> None:
        """Take nothing more, and let what runs end."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._work:
            await asyncio.wait(self._work, timeout=seconds)
        self._socket.close()
        self._context.term()

    async def _serve(self) -> None:
        while True:
            frames: List[bytes] = await self._socket.recv_multipart()
            # Who it is from, an empty frame, what a REQ has sent.
            if len(frames) < 3 or frames[1]:
                continue
            task = asyncio.get_event_loop().create_task(self._answer(frames[0], frames[2:]))
            self._work.add(task)
            task.add_done_callback(self._work.discard)

    async def _answer(self, client: bytes, frames: List[bytes]) -> None:
        call = Call("frigate-zmq", "detect", client.hex())
        call.received = sum(map(len, frames))
        reply: List[bytes]
        try:
            if len(self._work) > MOST_TASKS:
                raise Refusal(OVERLOADED, "%d requests are at work" % len(self._work))
            reply = [await self._detect(call, frames)]
        except Refusal as refusal:
            call.kind, call.text = refusal.kind, str(refusal)
            reply = _refused(call.text)
        except Exception:
            call.kind, call.text = INTERNAL, traceback.format_exc()[-_MOST_TRACE:]
            reply = _refused("internal error: see the log for request %s" % call.id)
        call.sent = sum(map(len, reply))
        self._desk.end(call)
        with contextlib.suppress(zmq.ZMQError):  # the client has gone
            await self._socket.send_multipart([client, b"", *reply])

    async def _detect(self, call: Call, frames: List[bytes]) -> bytes:
        if len(frames) != 2 or len(frames[0]) > _MOST_HEADER:
            raise Refusal(INVALID, "a request is a header in JSON and a tensor, not %d frames" % len(frames))
        header = loads(frames[0])
        if not isinstance(header, dict):
            raise Refusal(INVALID, "the header is no JSON object")
        if header.get("model_request") or header.get("model_data"):
            raise Refusal(INVALID, "models come by deploy-model, not over this protocol")
        datatype = _KSERVE.get(str(header.get("dtype"))[:30])
        if datatype is None:
            raise Refusal(INVALID, "the dtype %s is none that is served" % ascii(header.get("dtype"))[:30])
        shape = numbers.shape(header.get("shape"), "tensor")
        values = numbers.raw(frames[1], datatype, shape, "tensor")
        info = await detecting.choose(self._desk, shape)
        tensor = Tensor(info.inputs[0].name, datatype, shape, values)
        found = await detecting.ask(self._desk, call, info, tensor, None)
        data: bytes = table(found).tobytes()
        return data


def table(found: detecting.Detection) -> Any:
    """Objects as Frigate reads them: class, score, ymin, xmin, ymax, xmax of each, places from 0 to 1, and zeros."""
    made = np.zeros((OBJECTS, 6), np.float32)
    width, height = found.size
    if width and height:
        for row, each in enumerate(found.objects[:OBJECTS]):
            left, top, right, bottom = each.box
            made[row] = [each.number, each.score, top / height, left / width, bottom / height, right / width]
        made[:, 2:] = made[:, 2:].clip(0, 1)
    return made


def _refused(text: str) -> List[bytes]:
    """The protocol has no errors: no objects, and the reason in the header, which Frigate passes over."""
    header = {"shape": [OBJECTS, 6], "dtype": "float32", "error": text}
    return [dumps(header), np.zeros((OBJECTS, 6), np.float32).tobytes()]
