"""Frigate's detector over ZeroMQ: REQ to REP, a header in JSON and a tensor; 20 objects come back.

From 0.17 on, Frigate first asks for its model by the name of the file, sends that where it is not there, and detects
nothing at all where the answer is no. The socket is a ROUTER, to which a REQ may talk as to a REP, so that several
clients need not wait for each other.
"""

import asyncio
import contextlib
import time
import traceback
from collections import OrderedDict
from typing import Any, Dict, List, Optional, Set

import numpy as np
import zmq
import zmq.asyncio

from clusteradm.node.serve.fronts import detecting, numbers
from clusteradm.node.serve.fronts.calls import Call, Desk
from clusteradm.node.serve.fronts.exchange import dumps, loads
from clusteradm.node.serve.fronts.limits import MOST_BODY, MOST_TASKS
from clusteradm.node.serve.plane import DATATYPES, INTERNAL, INVALID, NOT_FOUND, OVERLOADED, Refusal, Runner, Tensor

OBJECTS = 20
_MOST_HEADER = 4096
_MOST_CLIENTS = 1024  # whose model is remembered
# For a detector to be there, when a client asks for its model: Frigate waits for 30, and asks once.
_READY_SECONDS = 25.0
_ASK_SECONDS = 0.5
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
        for network in [desk.network.text, "127.0.0.0/8"] if desk.network.text else []:
            self._socket.setsockopt(zmq.TCP_ACCEPT_FILTER, network.encode("ascii"))  # others are closed at once
        self._models: "OrderedDict[bytes, str]" = OrderedDict()
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
        held = 0
        try:
            if len(self._work) > MOST_TASKS:
                raise Refusal(OVERLOADED, "%d requests are at work" % len(self._work))
            self._desk.hold(call.received)
            held = call.received
            reply = [await self.reply(call, client, frames)]
        except Refusal as refusal:
            call.kind, call.text = refusal.kind, str(refusal)
            reply = _refused(call.text)
        except Exception:
            call.kind, call.text = INTERNAL, traceback.format_exc()[-_MOST_TRACE:]
            reply = _refused("internal error: see the log for request %s" % call.id)
        finally:
            self._desk.release(held)
        call.sent = sum(map(len, reply))
        self._desk.end(call)
        with contextlib.suppress(zmq.ZMQError):  # the client has gone
            await self._socket.send_multipart([client, b"", *reply])

    async def reply(self, call: Call, client: bytes, frames: List[bytes]) -> bytes:
        """The answer to one message of a client. Raises Refusal."""
        if len(frames[0]) > _MOST_HEADER:
            raise Refusal(INVALID, "a header of more than %d bytes" % _MOST_HEADER)
        header = loads(frames[0])
        if not isinstance(header, dict):
            raise Refusal(INVALID, "the header is no JSON object")
        if header.get("model_request"):
            return dumps(await self._model(call, client, header.get("model_name")))
        if header.get("model_data"):
            text = "models come by deploy-model, not over this protocol"
            call.kind, call.text = INVALID, text
            return dumps({"model_saved": False, "model_loaded": False, "error": text})
        if len(frames) != 2:
            raise Refusal(INVALID, "a request is a header in JSON and a tensor, not %d frames" % len(frames))
        return await self._detect(call, header, frames[1], self._models.get(client))

    async def _model(self, call: Call, client: bytes, name: Any) -> Dict[str, Any]:
        """Whether there is a detector for a client: the one with the name of its file, which it then gets; where there
        is none of that name, any. That it is "available" in any case keeps the client from sending its file."""
        call.operation = "model"
        end = time.monotonic() + _READY_SECONDS
        while True:
            known = [info.name for info in await detecting.detectors(self._desk)]
            if known or time.monotonic() > end:
                break
            await asyncio.sleep(_ASK_SECONDS)
        stem = name.rpartition(".")[0] or name if isinstance(name, str) else ""
        self._models.pop(client, None)
        if not known:
            call.kind, call.text = NOT_FOUND, "no model that finds objects is served here"
            return {"model_available": True, "model_loaded": False, "error": call.text}
        found = ", ".join(known)
        if stem in known:
            found = self._models[client] = stem
            if len(self._models) > _MOST_CLIENTS:
                self._models.popitem(last=False)
        return {"model_available": True, "model_loaded": True, "model_name": found}

    async def _detect(self, call: Call, header: Dict[str, Any], data: bytes, model: Optional[str]) -> bytes:
        datatype = _KSERVE.get(str(header.get("dtype"))[:30])
        if datatype is None:
            raise Refusal(INVALID, "the dtype %s is none that is served" % ascii(header.get("dtype"))[:30])
        shape = numbers.shape(header.get("shape"), "tensor")
        values = numbers.raw(data, datatype, shape, "tensor")
        info = await self._desk.plane.info(model) if model else await detecting.choose(self._desk, shape)
        tensor = Tensor(info.inputs[0].name, datatype, shape, values)
        found = await detecting.ask(self._desk, call, info, tensor, None)
        made: bytes = table(found).tobytes()
        return made


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
