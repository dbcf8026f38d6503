"""Dispatch: the data plane of a board, from a request to an engine and back."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from clusteradm.node.edgetpu.tensors import Fed
from clusteradm.node.serve import again
from clusteradm.node.serve.head import Head
from clusteradm.node.serve.index import Index
from clusteradm.node.serve.link import EngineGone, Link, Reply
from clusteradm.node.serve.plane import (
    DEADLINE,
    INVALID,
    MOST_ROWS,
    NOT_FOUND,
    UNAVAILABLE,
    Again,
    Answer,
    ModelInfo,
    Plane,
    Refusal,
    Request,
)
from clusteradm.node.serve.routing import Entry, Routing
from clusteradm.node.serve.servables.calling import Calling
from clusteradm.node.spec.wire.serving import BoardState, VersionState

_ATTEMPTS = 4  # engines that a request is given to, where they end under it
# Seconds that a request waits for an engine: a patient one; any other; and between two looks. To a balancer, a board
# that refuses at once is the one with the fewest requests, to which it sends the next ones, and those of the other
# such boards again: four of these waits are longer than HAProxy takes to hear that it has no engine (haproxy.cfg.j2).
_PATIENCE, _MOMENT, _LOOK = 4.0, 0.25, 0.05
_DECODERS = 2  # threads for pictures in a front process


class _NoEngine(Refusal):
    """No engine is ready for a version that is here, and why."""

    def __init__(self, model: str, reason: str = "") -> None:
        text = "no engine of this board is ready for model %s" % model
        super().__init__(UNAVAILABLE, "%s (%s)" % (text, reason) if reason else text, 1.0)


class Dispatch(Plane):
    """`routing` and `links` are replaced and changed by whoever knows of the engines; `state` asks for the board's."""

    def __init__(
        self,
        board: str,
        state: Callable[[], BoardState],
        head: Optional[Head] = None,
    ) -> None:
        self.routing = Routing({})
        self.links: Dict[int, Link] = {}
        self._board, self._state, self._head = board, state, head
        self._decoders = ThreadPoolExecutor(_DECODERS)
        self._servables = Calling(board, self, self._decoders)

    async def infer(self, request: Request) -> Answer:
        """Run one inference, or one for each row where the model takes one row at a time."""
        end = time.monotonic() + (_PATIENCE if request.patient else _MOMENT)
        first: Optional[_NoEngine] = None  # which says what became of an engine
        while True:
            try:
                return await self._infer(request)
            except Refusal as refusal:
                if isinstance(refusal, _NoEngine):
                    first = refusal = first or refusal
                elif first is not None and refusal.kind == NOT_FOUND:
                    raise first from None  # the model has left this board meanwhile, and is on others
                elif not (request.patient and refusal.kind == UNAVAILABLE):
                    raise
                if time.monotonic() + _LOOK >= min(end, request.deadline or end):
                    raise refusal from None
            await asyncio.sleep(_LOOK)

    async def _infer(self, request: Request) -> Answer:
        entry = self.routing.find(request.model, request.version, request.label)
        signature = entry.signature
        signature.check_outputs(request.outputs)
        self._check(request, entry)
        if entry.loaded.servable is not None:
            return await self._servables.infer(request, entry)
        if not self._ready(entry):
            raise _NoEngine(request.model)
        pictures = signature.encoded(request)
        picture: Optional[Tuple[int, int]] = None
        if pictures is None:
            arrays = signature.arrays(request)
        else:
            fed = await self._decoded(entry, pictures)
            arrays, picture = [fed.tensor], fed.size
        has_rows = entry.loaded.batches > 1 or (request.rows and signature.rows)
        size = len(arrays[0]) if arrays and has_rows else 0
        if size > max(1, entry.loaded.batches):
            link, reply = await self._rows(entry, arrays, size, request)
        else:
            link, reply = await self._run(entry, arrays, request)
        return Answer(
            request.model,
            entry.loaded.version,
            signature.tensors(reply.outputs, request.outputs),
            request.id,
            self._board,
            *link.ran_on(entry.loaded),
            reply.queued,
            reply.seconds,
            signature.result(reply.outputs, picture, request.parameters) if request.answer else None,
            reply.batch,
        )

    def _check(self, request: Request, entry: Entry) -> None:
        if request.deadline is not None and request.deadline <= time.monotonic():
            raise Refusal(DEADLINE, "the deadline was over when the request came")
        if request.parameters.get("sequence_id"):
            state = (
                "keeps no state from one request to the next"
                if entry.loaded.stateless
                else ("has variables, which begin anew with every request")
            )
            raise Refusal(INVALID, "model %s %s: send no sequence_id" % (request.model, state))

    async def _decoded(self, entry: Entry, pictures: Sequence[bytes]) -> Fed:
        if len(pictures) > MOST_ROWS:
            raise Refusal(INVALID, "%d pictures, more than %d" % (len(pictures), MOST_ROWS))
        loop = asyncio.get_event_loop()
        work = [loop.run_in_executor(self._decoders, entry.signature.decoded, data) for data in pictures]
        found = await asyncio.gather(*work)
        return found[0] if len(found) == 1 else Fed(np.concatenate([each.tensor for each in found]))

    async def _rows(self, entry: Entry, arrays: List[Any], size: int, request: Request) -> Tuple[Link, Reply]:
        """The rows one by one, or as many at once as the model takes; over all engines that are free."""
        if size > MOST_ROWS:
            raise Refusal(INVALID, "%d instances, more than %d" % (size, MOST_ROWS))
        step = max(1, entry.loaded.batches)
        parts = [[each[at : at + step] for each in arrays] for at in range(0, size, step)]
        width = max(1, len(entry.engines)) + 1
        done: List[Any] = []
        for at in range(0, len(parts), width):
            done += await asyncio.gather(*(self._run(entry, part, request) for part in parts[at : at + width]))
        replies = [reply for _, reply in done]
        outputs = [np.concatenate(each) for each in zip(*(reply.outputs for reply in replies))]
        whole = Reply(outputs, max(reply.queued for reply in replies), sum(reply.seconds for reply in replies))
        return done[0][0], whole

    async def _run(self, entry: Entry, arrays: List[Any], request: Request) -> Tuple[Link, Reply]:
        """One inference, on the engine that is free first; on another where that one ends."""
        reason = ""
        for _ in range(_ATTEMPTS):
            link = self._free(entry)
            if link is None:
                break
            try:
                return link, await link.call(entry.loaded, arrays, request.deadline, request.priority)
            except EngineGone as error:
                reason = str(error)
        raise _NoEngine(request.model, reason)

    def again(self, request: Request) -> Optional[Again]:
        """A request that was answered, for others of which only the numbers differ."""
        try:
            entry = self.routing.find(request.model, request.version, request.label)
        except Refusal:
            return None
        return again.repeated(request, entry, self._board, lambda: self.routing, self._free)

    def _ready(self, entry: Entry) -> List[Link]:
        return [self.links[number] for number in entry.engines if number in self.links and self.links[number].ready]

    def _free(self, entry: Entry) -> Optional[Link]:
        ready = self._ready(entry)
        if len(ready) < 2:
            return ready[0] if ready else None
        return min(ready, key=lambda link: link.load(entry.loaded.key))

    def serves(self, model: str) -> bool:
        """Whether the desired state has it."""
        return model in self.routing.models or model in self.routing.elsewhere

    async def info(self, model: str, version: Optional[int] = None, label: Optional[str] = None) -> ModelInfo:
        """The properties of a version."""
        entry = self.routing.find(model, version, label)
        signature, loaded, known = entry.signature, entry.loaded, self.routing.models[model]
        return ModelInfo(
            model,
            loaded.version,
            sorted(known.versions),
            signature.inputs,
            signature.outputs,
            {name: number for name, number in known.labels.items() if number in known.versions},
            loaded.task,
            signature.picture,
            loaded.class_names,
            loaded.servable.kind if loaded.servable is not None else "",
        )

    async def ready(self, model: str, version: Optional[int] = None) -> bool:
        """Whether the version would take a request now. Raises Refusal for a model that nobody wants served."""
        try:
            entry = self.routing.find(model, version)
            return bool(self._ready(entry)) and await self._servables.ready(entry)
        except Refusal as refusal:
            if refusal.kind != UNAVAILABLE:
                raise
            return False

    async def states(self, model: Optional[str] = None) -> List[VersionState]:
        """The states of every version, or of one model's."""
        return [each for each in self.routing.states if model in (None, each.name)]

    async def index(self) -> Index:
        """As the head says; what is known here where it says nothing."""
        found = await self._head.index() if self._head is not None else None
        if found is not None:
            return found
        text = "it is on other boards (%s), and the head does not say how it is there"
        return Index(tuple(self.routing.states), {name: text % at for name, at in self.routing.elsewhere.items()})

    async def load(self, model: str, unload: bool = False) -> None:
        """Ask the head."""
        if self._head is None:
            raise Refusal(UNAVAILABLE, "this board asks no head: change the models with clusteradm serve deploy")
        await self._head.change(model, unload)

    async def board(self) -> BoardState:
        """What the board says of itself."""
        return self._state()

    @property
    def balance(self) -> bool:
        """Whether a balancer is to send new requests here."""
        return self._state().balance

    @property
    def able(self) -> bool:
        """Whether an engine is ready."""
        return any(link.ready for link in self.links.values() if link.models)
