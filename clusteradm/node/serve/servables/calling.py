"""Calls of servables that are no models: given to their process, or, of an ensemble, step by step to its members."""

import time
from concurrent.futures import Executor
from typing import Any, Optional, Sequence, Tuple

from clusteradm.node.serve.link import CPU, EngineGone
from clusteradm.node.serve.plane import UNAVAILABLE, Answer, Refusal, Request
from clusteradm.node.serve.servables.ensemble import Ensemble, Part, Surroundings
from clusteradm.node.serve.servables.link import Given, ServableLink
from clusteradm.node.serve.servables.work import Arrays
from clusteradm.node.spec.servables.ensembles import MOST_DEPTH
from clusteradm.node.spec.wire.servables import ENSEMBLE, reference

_ATTEMPTS = 4


class Calling(Surroundings):
    """`dispatch`: the data plane, whose models ensembles ask."""

    def __init__(self, board: str, dispatch: Any, executor: Executor) -> None:
        self._board, self._dispatch, self.executor = board, dispatch, executor

    async def infer(self, request: Request, entry: Any, above: Tuple[str, ...] = ()) -> Answer:
        """The answer of a servable. `above`: the ensembles that it is a member of. Raises Refusal."""
        signature, loaded = entry.signature, entry.loaded
        inputs = signature.named(request)
        if loaded.servable.kind != ENSEMBLE:
            done = await self.ask(entry, None, inputs, request)
            part = Part(done.outputs, (CPU,), False, done.queued, done.seconds)
        elif len(above) >= MOST_DEPTH or loaded.name in above:
            raise Refusal(UNAVAILABLE, "ensembles in each other: %s" % " -> ".join((*above, loaded.name)))
        else:
            began = time.monotonic()
            part = await Ensemble(self, entry, request, (*above, loaded.name)).run(inputs)
            part = part._replace(seconds=max(0.0, time.monotonic() - began - part.queued))
        return Answer(
            request.model,
            loaded.version,
            signature.tensors([part.outputs.get(each.name) for each in signature.outputs], request.outputs),
            request.id,
            self._board,
            _device(part.devices),
            part.simulated,
            part.queued,
            part.seconds,
        )

    async def ready(self, entry: Any) -> bool:
        """Whether the members of an ensemble would take a request now; True for what has none."""
        servable = entry.loaded.servable
        for text in servable.members if servable is not None else ():
            try:
                member = self.find(*reference(text))
            except Refusal:
                return False
            if not await self._dispatch.ready(member.loaded.name, member.loaded.version):
                return False
        return True

    async def ask(self, entry: Any, step: Optional[int], inputs: Arrays, request: Request) -> Given:
        """What the process of a servable gives; again, where it has ended before it began. Raises Refusal."""
        reason = ""
        for _ in range(_ATTEMPTS):
            links = [self._dispatch.links.get(number) for number in entry.engines]
            link = next((each for each in links if isinstance(each, ServableLink) and each.ready), None)
            if link is None:
                break
            try:
                return await link.ask(entry.loaded, step, inputs, request.deadline, request.priority)
            except EngineGone as error:
                reason = str(error)
        text = "the process of %s is not ready" % request.model
        raise Refusal(UNAVAILABLE, "%s (%s)" % (text, reason) if reason else text, 1.0)

    async def member(self, request: Request, entry: Any, above: Tuple[str, ...]) -> Answer:
        """The answer of a member of an ensemble."""
        if entry.loaded.servable is not None:
            return await self.infer(request, entry, above)
        answer: Answer = await self._dispatch.infer(request)
        return answer

    def find(self, name: str, version: Optional[int], label: Optional[str]) -> Any:
        """The version that a step means. Raises Refusal."""
        return self._dispatch.routing.find(name, version, label)


def _device(devices: Sequence[str]) -> str:
    """The devices of an answer: the TPUs that had a part in it, else the CPU."""
    return ",".join(sorted({each for each in devices if each != CPU})) or CPU
