"""Again: an inference that was answered, asked for once more with other numbers: all but these has been checked."""

import sys
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

import numpy as np

from clusteradm.node.serve.link import Bytes, EngineGone, Link, Reply
from clusteradm.node.serve.plane import BYTES, DATATYPES, Again, Answer, Refusal, Request, Tensor
from clusteradm.node.serve.routing import Entry, Routing
from clusteradm.node.serve.signature import Signature

_Ended = Union[Reply, Refusal, EngineGone]


class Repeated(Again):
    """Of one version, as long as a request for it means that one. `find`: the entry and a free engine for it."""

    def __init__(
        self, request: Request, signature: Signature, board: str, find: Callable[[], Tuple[Entry, Optional[Link]]]
    ) -> None:
        self._signature, self._board, self._find = signature, board, find
        self._model, self._id, self._priority = request.model, request.id, request.priority
        ends, at = {}, 0
        for tensor in request.inputs:
            ends[tensor.name] = (at, at + _size(tensor))
            at = ends[tensor.name][1]
        self._places = [ends[each.name] for each in signature.inputs]
        rows = request.inputs[0].shape[0] if signature.loaded.batches > 1 else 0
        self._rows = rows
        names = [each.name for each in signature.outputs]
        wanted = [names.index(name) for name in request.outputs] or list(range(len(names)))
        self._outputs: List[Tuple[int, str, str, Tuple[int, ...]]] = []
        for number in wanted:
            info, loaded = signature.outputs[number], signature.loaded.outputs[number]
            shape = (rows, *loaded.shape[1:]) if rows else tuple(loaded.shape)
            self._outputs.append((number, info.name, info.datatype, shape))

    def begin(
        self, pieces: Sequence[Bytes], done: Callable[[Union[Answer, Refusal, None]], None]
    ) -> Optional[Callable[[], None]]:
        """Begin it."""
        try:
            entry, link = self._find()
            if link is None or entry.signature is not self._signature:
                return None
            return link.begin(entry.loaded, self._rows, self._inputs(pieces), self._priority, self._over(link, done))
        except (Refusal, EngineGone):
            return None

    def _inputs(self, pieces: Sequence[Bytes]) -> List[Sequence[Bytes]]:
        if len(self._places) == 1:
            return [pieces]
        whole = memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        return [[whole[at:end]] for at, end in self._places]

    def _over(self, link: Link, done: Callable[[Union[Answer, Refusal, None]], None]) -> Callable[[_Ended], None]:
        def over(reply: _Ended) -> None:
            if isinstance(reply, EngineGone):
                done(None)
                return
            if isinstance(reply, Refusal):
                done(reply)
                return
            found, queued, seconds, batch = reply
            outputs = [Tensor(name, kind, shape, found[at]) for at, name, kind, shape in self._outputs]
            loaded = self._signature.loaded
            where = (self._board, *link.ran_on(loaded))
            done(Answer(self._model, loaded.version, outputs, self._id, *where, queued, seconds, None, batch))

        return over


def repeated(request: Request, entry: Entry, board: str, routing: Any, free: Any) -> Optional[Again]:
    """The inference of a request that was answered; None where a look at the numbers is needed again. `routing`: of
    now; `free`: the engine for an entry."""
    loaded = entry.loaded
    if loaded.servable is not None:  # it is in no engine, and its shapes are open
        return None
    plain = all(each.datatype not in (BYTES, "BOOL") for each in request.inputs)
    at_once = loaded.batches == 1 or request.inputs[0].shape[0] <= loaded.batches
    if sys.byteorder != "little" or not plain or not at_once:
        return None
    if request.deadline is not None or request.answer or request.rows or request.patient:
        return None
    model, version, label = request.model, request.version, request.label

    def find() -> Tuple[Entry, Optional[Link]]:
        now: Routing = routing()
        found = now.find(model, version, label)
        return found, free(found)

    return Repeated(request, entry.signature, board, find)


def _size(tensor: Tensor) -> int:
    return int(np.prod(tensor.shape, dtype=np.int64)) * np.dtype(DATATYPES[tensor.datatype]).itemsize
