"""Direct inference: a known request (known.py) of KServe's binary form, answered without a task or a second look."""

from typing import Callable, Optional, Union

from clusteradm.node.serve.fronts import errors, rest_v2
from clusteradm.node.serve.fronts.calls import CANARY, PRIORITY, TIMEOUT, Call, Desk
from clusteradm.node.serve.fronts.exchange import Reply
from clusteradm.node.serve.fronts.plain import Answered, PlainRequest
from clusteradm.node.serve.plane import INVALID, Answer, Refusal

_HEADER = rest_v2.HEADER.lower()
# Of a request that differs by more than its numbers.
_MORE = frozenset((CANARY, PRIORITY, TIMEOUT))

_Found = Union[Answer, Refusal, None]
Done = Callable[[Optional[Answered]], None]


class Direct:
    """`answered`: from a call and its reply to what is sent."""

    def __init__(self, desk: Desk, answered: Callable[[Call, Reply], Answered]) -> None:
        self._desk, self._answered = desk, answered

    def begin(self, request: PlainRequest, client: str, done: Done) -> Optional[Callable[[], None]]:
        """Begin to answer; `done` gets the answer, or None where the request is to be answered as others are. What is
        returned is to be called when the client has gone; None: it is a request as others."""
        text = request.headers.get(_HEADER)
        if text is None or not _MORE.isdisjoint(request.headers) or not request.body:
            return None
        first = memoryview(request.body[0])
        size = int(text) if text.isdigit() and len(text) < 5 else 0
        if not 0 < size <= len(first):
            return None
        key = request.key = (request.target, bytes(first[:size]), request.length)
        known = self._desk.known.get(key)
        if known is None:
            return None
        desk, held = self._desk, request.held
        call = Call("kserve-rest", request.target, client, request.headers)
        call.model, call.received = known.model, request.length

        def over(found: _Found) -> None:
            if found is None:
                done(None)
                return
            desk.release(held)
            try:
                if isinstance(found, Refusal):
                    raise found
                reply = rest_v2.repeated(found, known.outputs)
                call.answer = found
            except Refusal as refusal:
                reply = errors.refused(call, refusal)
            except Exception as error:
                reply = errors.defect(call, error)
            done(self._answered(call, reply))

        leave = known.again.begin([first[size:], *request.body[1:]], over)
        if leave is None:
            return None
        leaving = leave

        def gone() -> None:
            leaving()
            desk.release(held)
            call.kind, call.text = INVALID, "the client has gone"
            desk.end(call)

        return gone
