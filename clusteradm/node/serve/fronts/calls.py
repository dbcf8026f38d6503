"""Calls: one request of any protocol, from its first byte to its line in the log."""

import asyncio
import contextlib
import os
import re
import time
from typing import Any, Dict, List, Mapping, Optional, Tuple

from clusteradm.node.serve.fronts.access_log import AccessLog
from clusteradm.node.serve.fronts.known import KnownRequests
from clusteradm.node.serve.fronts.limits import MOST_BODIES, MOST_ID, MOST_SECONDS
from clusteradm.node.serve.fronts.metrics import Metrics
from clusteradm.node.serve.fronts.network import Network
from clusteradm.node.serve.fronts.rates import CLIENT_NAME, Rates
from clusteradm.node.serve.plane import INVALID, NOT_FOUND, OVERLOADED, Answer, ModelInfo, Plane, Refusal, Request
from clusteradm.node.spec.wire.versions import LABEL

OK = "ok"
# Of an answer, over HTTP as headers and over gRPC as metadata.
REQUEST_ID, BOARD, TPU, VERSION, SIMULATED = (
    "x-request-id",
    "clusteradm-board",
    "clusteradm-tpu",
    "clusteradm-model-version",
    "clusteradm-simulated",
)
# Of a request: the version that the head chose for one that names none, and what no protocol but KServe's has.
CANARY, TIMEOUT, PRIORITY = "clusteradm-version", "clusteradm-timeout", "clusteradm-priority"
# The model that the head looked a client's token up for, where that is not for all; over gRPC.
CHECKED = "clusteradm-model"
USUAL_PRIORITY = 100  # of 1, the soonest, and up

FORWARDED = "x-forwarded-for"

_SETTLE_SECONDS = 0.1

_NONE: Mapping[str, str] = {}
_ID = re.compile("[!-~]{1,%d}" % MOST_ID)
_VERSION = re.compile("[0-9]{1,10}")
_LABEL = re.compile(LABEL)


class Call:
    """One request. `id`: the client's, or a new one; `forwarded`: for whom the client asks, as it says; `client_name`:
    that of its token; `kind`: OK, or why there was no answer; times in seconds."""

    __slots__ = (
        "answer",
        "client",
        "client_name",
        "ended",
        "forwarded",
        "id",
        "kind",
        "model",
        "operation",
        "protocol",
        "received",
        "sent",
        "started",
        "text",
    )

    def __init__(self, protocol: str, operation: str, client: str, headers: Mapping[str, str] = _NONE) -> None:
        self.protocol, self.operation, self.client = protocol, operation, client
        id = headers.get(REQUEST_ID)
        self.forwarded = headers.get(FORWARDED, "")[:MOST_ID]
        self.client_name = headers.get(CLIENT_NAME, "")[:MOST_ID]
        self.id = id if id is not None and _ID.fullmatch(id) else os.urandom(8).hex()
        self.started = self.ended = time.monotonic()
        self.kind, self.text, self.model = OK, "", ""
        self.received = self.sent = 0
        self.answer: Optional[Answer] = None


class Desk:
    """What every front of a process shares: the plane, what is kept of calls, and the `network` that they come from."""

    def __init__(self, plane: Plane, metrics: Metrics, log: AccessLog, network: Optional[str] = None) -> None:
        self.plane, self.metrics, self.log = plane, metrics, log
        self.network = Network(network)
        self.known = KnownRequests()
        self.rates = Rates()
        self._ended: List[Call] = []
        metrics.settle = self.settle
        self._bodies = 0

    def hold(self, size: int) -> None:
        """Count bytes of a request that is read. Raises Refusal where those of all are too many."""
        if self._bodies + size > MOST_BODIES:
            text = "the requests that are being read here have %d bytes, and no more fit" % self._bodies
            raise Refusal(OVERLOADED, text, 1.0)
        self._bodies += size

    def release(self, size: int) -> None:
        """Count them no longer."""
        self._bodies -= size

    async def infer(self, call: Call, request: Request) -> Answer:
        """Ask the plane, for this call. Raises Refusal."""
        call.model = request.model
        answer = await self.plane.infer(request._replace(patient="grpc" in call.protocol))
        call.answer = answer._replace(outputs=(), result=None)
        return answer

    async def models(self) -> List[ModelInfo]:
        """The models that answer here now, by name: what a client may mean that names none. One that is not ready, or
        has just gone, is none of them, and costs no other."""
        found = []
        for name in sorted({each.name for each in await self.plane.states()}):
            with contextlib.suppress(Refusal):
                found.append(await self.plane.info(name))
        return found

    async def version(
        self, model: str, headers: Mapping[str, str], version: Optional[int], label: Optional[str]
    ) -> Optional[int]:
        """The version for a request: the one that it names. Where it names none, the one that the head chose for it
        (CANARY); but the default where this board does not have that, which is not the client's doing."""
        text = headers.get(CANARY)
        if version is not None or label is not None or text is None or not _VERSION.fullmatch(text):
            return version
        with contextlib.suppress(Refusal):
            if await self.plane.ready(model, int(text)):
                return int(text)
        return None

    def end(self, call: Call) -> None:
        """Have the call counted, and its line written: with others that end at about the same time, which takes a
        quarter of what each would take alone, between two requests."""
        call.ended = time.monotonic()
        self._ended.append(call)
        if len(self._ended) == 1:
            try:
                asyncio.get_running_loop().call_later(_SETTLE_SECONDS, self.settle)
            except RuntimeError:  # none runs any more
                self.settle()

    def settle(self) -> None:
        """Count the calls that have ended, and write their lines."""
        calls, self._ended = self._ended, []
        if not calls:
            return
        now, wall, lines = time.monotonic(), time.time(), []
        for call in calls:
            # A name that nobody serves is anybody's: it would be a new time series for each.
            model = call.model if self.plane.serves(call.model) else ""
            seconds = call.ended - call.started
            self.metrics.request(model, call.protocol, call.kind, seconds, call.answer, call.received, call.sent)
            lines.append(_line(call, seconds, wall - (now - call.ended)))
        self.log.write(lines)


def _line(call: Call, seconds: float, ended: float) -> Dict[str, Any]:
    """The line of a call in the log."""
    line: Dict[str, Any] = {
        "time": round(ended, 3),
        "id": call.id,
        "protocol": call.protocol,
        "operation": call.operation,
        "client": call.client,
        "outcome": call.kind,
        "seconds": round(seconds, 6),
        "received": call.received,
        "sent": call.sent,
    }
    if call.forwarded:
        line["forwarded"] = call.forwarded
    if call.client_name:
        line["client_name"] = call.client_name
    if call.text:
        line["error"] = call.text
    if call.model:
        line["model"] = call.model[:MOST_ID]
    answer = call.answer
    if answer is not None:
        line.update(version=answer.version, board=answer.board, tpu=answer.device)
        line.update(queued=round(answer.queued_seconds, 6), inference=round(answer.seconds, 6))
        if answer.simulated:
            line["simulated"] = True
    return line


def about(answer: Answer) -> List[Tuple[str, str]]:
    """Headers that say where an answer comes from."""
    found = [(BOARD, answer.board), (TPU, answer.device), (VERSION, str(answer.version))]
    if answer.simulated:
        found.append((SIMULATED, "true"))
    return found


def version_or_label(text: str) -> Tuple[Optional[int], Optional[str]]:
    """What a path or a field names as the version: a number, or a label; ("" for none). Raises Refusal."""
    if not text:
        return None, None
    if _VERSION.fullmatch(text):
        return int(text), None
    if _LABEL.fullmatch(text):
        return None, text
    if text.isascii() and text.isdigit():  # more digits than a version has
        raise Refusal(NOT_FOUND, "there is no version %s" % text[:60])
    raise Refusal(INVALID, "no version or label: %s" % ascii(text[:60]))


def patience(headers: Mapping[str, str]) -> Tuple[Optional[float], int]:
    """The deadline by time.monotonic(), and the priority, that the headers say. Raises Refusal."""
    deadline, priority = None, 0
    if TIMEOUT in headers:
        deadline = deadline_of(number(headers[TIMEOUT], TIMEOUT))
    if PRIORITY in headers:
        priority = priority_of(number(headers[PRIORITY], PRIORITY))
    return deadline, priority


def number(value: Any, name: str) -> float:
    """A number that a client sends, as such or as text. Raises Refusal."""
    try:
        if isinstance(value, (str, int, float)) and not isinstance(value, bool) and len(str(value)) < 40:
            found = float(value)
            if found - found == 0.0:
                return found
    except (ValueError, OverflowError):
        pass
    raise Refusal(INVALID, "%s: no number: %s" % (name, ascii(value)[:60]))


def deadline_of(seconds: float) -> float:
    """The deadline in so many seconds. Raises Refusal."""
    if seconds <= 0:
        raise Refusal(INVALID, "a time limit is a positive number of seconds, not %g" % seconds)
    return time.monotonic() + min(seconds, MOST_SECONDS)


def priority_of(level: float) -> int:
    """The plane's priority for KServe's: 1 is the soonest, 0 the usual one. Raises Refusal."""
    if level < 0 or level != int(level):
        raise Refusal(INVALID, "a priority is a whole number: 1 is the soonest, %d the usual one" % USUAL_PRIORITY)
    return int(min(level, 1e6)) - USUAL_PRIORITY if level else 0
