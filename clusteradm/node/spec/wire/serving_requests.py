"""Requests about serving: to the head, which keeps the desired state, and to a host, for its server's log."""

from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

from clusteradm.node.spec.wire import names
from clusteradm.node.spec.wire.decode import Record, limits
from clusteradm.node.spec.wire.request import Request
from clusteradm.node.spec.wire.serving import BoardState, DesiredState


@dataclass(eq=False, repr=False)
class Desired(Record):
    """The desired state. `stored`: whether it is the one that was to be stored; `balancer`: why HAProxy does not follow
    it, where it does not. `ready`: whether the head was set up for serving."""

    state: DesiredState
    stored: bool = False
    balancer: str = field(default="", metadata=limits(most=2000))
    ready: bool = False


@dataclass(eq=False, repr=False)
class ShowServing(Request[Desired]):
    """Ask for the desired state; revision 0 where nothing was ever stored."""

    shared: str
    do = names.SERVING_SHOW


@dataclass(eq=False, repr=False)
class StoreServing(Request[Desired]):
    """Store a state that was made of the one with its revision, as the next revision.

    Where there is another by now nothing is stored, and the reply has that. `out_of_service` is the head's own.
    """

    shared: str
    state: DesiredState
    do = names.SERVING_STORE


@dataclass(eq=False, repr=False)
class BoardSaid(Record):
    """What a board's server said of itself, or why there is no answer. `balanced`: HAProxy's word for it, as UP, DOWN,
    NOLB; None where HAProxy does not have it. `sessions`: requests that it has now; `rate`: a second, over HTTP and
    gRPC; since HAProxy's start: `requests`, `retries` elsewhere, and `errors` of connections and answers."""

    state: Optional[BoardState] = None
    error: str = field(default="", metadata=limits(most=2000))
    balanced: Optional[str] = field(default=None, metadata=limits(most=100))
    sessions: int = 0
    rate: int = 0
    requests: int = 0
    retries: int = 0
    errors: int = 0


@dataclass(eq=False, repr=False)
class ServingStatus(Record):
    """What the boards' servers say, by host. `balancer`: why HAProxy on the head does not answer, if it does not."""

    boards: Dict[str, BoardSaid]
    balancer: str = field(default="", metadata=limits(most=2000))


@dataclass(eq=False, repr=False)
class AskServing(Request[ServingStatus]):
    """Ask the boards' servers, at ADDRESS:PORT by host, and HAProxy; each has `seconds`."""

    boards: Dict[str, str]
    seconds: float = 2.0
    do = names.SERVING_STATUS


@dataclass(eq=False, repr=False)
class ServingLog(Record):
    """The last lines of the journal, with their time."""

    lines: Tuple[str, ...]


@dataclass(eq=False, repr=False)
class AskServingLog(Request[ServingLog]):
    """Ask for the last lines of the log of a host's server; `balancer`: of HAProxy."""

    lines: int
    balancer: bool = False
    do = names.SERVING_LOG
