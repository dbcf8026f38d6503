"""Direct inference over gRPC: a known request (known.py), whose message is not taken apart."""

import asyncio
from typing import List, Optional, Tuple, Union

from clusteradm.node.serve.fronts.calls import CANARY, CHECKED, PRIORITY, TIMEOUT
from clusteradm.node.serve.fronts.grpc_calls import Inquiry
from clusteradm.node.serve.fronts.known import Key, Known
from clusteradm.node.serve.plane import Again, Answer, Refusal

# Metadata of a request that differs by more than its numbers.
_MORE = frozenset((CANARY, CHECKED, PRIORITY, TIMEOUT))
_RAW = 7 << 3 | 2  # tag of ModelInferRequest.raw_input_contents
_LENGTH_DELIMITED = 2
_MOST_FIELDS = 256

_Found = Union[Answer, Refusal, None]


def parts(data: bytes) -> Optional[Tuple[bytes, List[memoryview]]]:
    """A message of KServe's ModelInferRequest: all of it but the numbers, and these, tensor by tensor.

    None for one that is damaged or has none.
    """
    view, raws, rest = memoryview(data), [], []
    at, length = 0, len(data)
    try:
        while at < length:
            start, tag = at, data[at]
            at += 1
            size = shift = 0
            while True:
                byte = data[at]
                at += 1
                size |= (byte & 127) << shift
                shift += 7
                if byte < 128 or shift > 28:
                    break
            # Of fields up to 15, all are texts, messages or bytes.
            if tag > 127 or tag & 7 != _LENGTH_DELIMITED or byte > 127 or at + size > length:
                return None
            if tag == _RAW:
                raws.append(view[at : at + size])
                rest.append(data[start:at])
            else:
                rest.append(data[start : at + size])
            if len(rest) > _MOST_FIELDS:
                return None
            at += size
    except IndexError:
        return None
    return (b"".join(rest), raws) if raws else None


def key(inquiry: Inquiry, data: bytes, rest: bytes) -> Optional[Key]:
    """By which the request would be known; None for one that says more than its message does."""
    if inquiry.deadline is not None or not _MORE.isdisjoint(inquiry.metadata):
        return None
    return "grpc", rest, len(data)


async def again(known: Known, raws: List[memoryview]) -> Optional[Answer]:
    """The answer to a known request with these numbers; None where it is to be looked at. Raises Refusal."""
    future: "asyncio.Future[_Found]" = asyncio.get_event_loop().create_future()

    def done(found: _Found) -> None:
        if not future.done():
            future.set_result(found)

    leave = known.again.begin(raws, done)
    if leave is None:
        return None
    try:
        found = await future
    except BaseException:
        leave()
        raise
    if isinstance(found, Refusal):
        raise found
    return found


def keep(inquiry: Inquiry, key: Key, model: str, found: Optional[Again]) -> None:
    """Know a request that was answered."""
    if found is not None:
        inquiry.desk.known.keep(key, Known(model, found, []))
