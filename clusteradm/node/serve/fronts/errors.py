"""Errors over HTTP: statuses and texts of what is refused."""

import traceback
from typing import Any, Dict, Sequence, Tuple

from clusteradm.node.serve.fronts.calls import Call
from clusteradm.node.serve.fronts.exchange import JSON, HttpError, Reply, dumps
from clusteradm.node.serve.plane import (
    DEADLINE,
    FORBIDDEN,
    INTERNAL,
    INVALID,
    NOT_FOUND,
    OVERLOADED,
    TOO_LARGE,
    UNAVAILABLE,
    Refusal,
)

# 429 for a full queue: those of the other boards are as full, and a balancer must not try one after the other.
STATUS = {
    NOT_FOUND: 404,
    INVALID: 400,
    TOO_LARGE: 413,
    OVERLOADED: 429,
    DEADLINE: 504,
    UNAVAILABLE: 503,
    INTERNAL: 500,
    FORBIDDEN: 403,
}
_MOST_TRACE = 4000


def refused(call: Call, refusal: Refusal) -> Reply:
    """The answer to a request that the plane, or the reader of a protocol, refuses."""
    call.kind, call.text = refusal.kind, str(refusal)
    headers = []
    if refusal.kind in (OVERLOADED, UNAVAILABLE):
        headers.append(("Retry-After", "%d" % max(1, round(refusal.retry_after or 1))))
    return error(call, STATUS.get(refusal.kind, 500), headers)


def wrong(call: Call, found: HttpError) -> Reply:
    """The answer to what is wrong by HTTP itself."""
    call.kind, call.text = (NOT_FOUND if found.status == 404 else INVALID), str(found)
    return error(call, found.status, found.headers)


def defect(call: Call, found: Exception) -> Reply:
    """The answer where this program is at fault: the log has the details."""
    call.kind, call.text = INTERNAL, "".join(traceback.format_exception(type(found), found, found.__traceback__))
    call.text = call.text[-_MOST_TRACE:]
    text = "internal error (%s): see the log for request %s" % (type(found).__name__, call.id)
    return error(call, 500, (), text)


def error(call: Call, status: int, headers: Sequence[Tuple[str, str]], text: str = "") -> Reply:
    """An answer with an error's text, that of the call where none is given."""
    document: Dict[str, Any] = {"error": text or call.text}
    if call.protocol == "deepstack":
        document = {"success": False, "code": status, **document}
    return Reply(dumps(document), JSON, status, headers)
