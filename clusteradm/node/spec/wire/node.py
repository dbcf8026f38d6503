"""Requests that every host answers: who it is, file bodies, batches of tasks, probes."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

from clusteradm.node.spec.wire import names
from clusteradm.node.spec.wire.decode import Record, WireError, limits
from clusteradm.node.spec.wire.request import Request, Streaming

SHA256 = "[0-9a-f]{64}"

EVENTS = ("waiting", "start", "line", "result", "end")
STATUSES = ("ok", "changed", "skipped", "failed", "unknown")
_LINE = 1000  # characters of a line of a task's output; a node sends 200
END, COMPLETE, CANCELLED, FAILED = "end", "complete", "cancelled", "failed"


@dataclass(eq=False, repr=False)
class Empty(Record):
    """A reply that says only that the request was done."""


@dataclass(eq=False, repr=False)
class Identity(Record):
    """The node program and its host. `time`: seconds since 1970, by its clock; `boot`: the kernel's id of this boot."""

    protocol: int
    python: str
    time: float
    boot: str


@dataclass(eq=False, repr=False)
class Hello(Request[Identity]):
    """Ask which program answers."""

    do = names.HELLO


@dataclass(eq=False, repr=False)
class Facts(Record):
    """The host's facts, under Ansible's names."""

    facts: Dict[str, Any]


@dataclass(eq=False, repr=False)
class GatherFacts(Request[Facts]):
    """Ask for the facts that cost nothing to know."""

    do = names.FACTS


@dataclass(eq=False, repr=False)
class Lacking(Record):
    """The file bodies, by their sha256, that the host does not have. `begun`: those of which it has the first bytes."""

    missing: Tuple[str, ...] = field(metadata=limits(SHA256))
    begun: Dict[str, int] = field(default_factory=dict)


@dataclass(eq=False, repr=False)
class FindBlobs(Request[Lacking]):
    """Ask which of these file bodies the host lacks."""

    sha256: Tuple[str, ...]
    do = names.BLOBS


@dataclass(eq=False, repr=False)
class PutBlob(Request[Empty]):
    """Announce a file body, or a chunk of one of `total` bytes, from `offset` on: `size` bytes follow the request.

    Chunks come in order. What has come of a body is kept for the next connection; the last chunk has it verified.
    """

    sha256: str
    size: int
    offset: int = 0
    total: Optional[int] = None
    do = names.BLOB


@dataclass(eq=False, repr=False)
class BatchEvent(Record):
    """One event of a batch. Those of a task have its index, a result its status too; `batch`: the one waited for."""

    n: int
    kind: str = field(metadata=limits(choices=EVENTS))
    task: Optional[int] = None
    status: str = field(default="ok", metadata=limits(choices=(*STATUSES, COMPLETE, CANCELLED)))
    result: Dict[str, Any] = field(default_factory=dict)
    text: str = field(default="", metadata=limits(most=_LINE))
    msg: str = ""
    batch: str = ""

    def __post_init__(self) -> None:
        if self.task is None and self.kind in ("start", "line", "result"):
            raise WireError("missing", ".task")
        if self.result:
            _check_result(self.result)
            for number, each in enumerate(_objects(self.result.get("results"), ".result.results")):
                try:
                    _check_result(each)
                except WireError as error:
                    raise WireError(error.what, ".result.results[%d]" % number + error.path[len(".result") :]) from None


def _check_result(result: Dict[str, Any]) -> None:
    """The keys of a result that a run reads; the others are for the playbook, which may expect anything of them."""
    for key in ("changed", "failed", "skipped", "unknown"):
        if type(result.get(key, False)) is not bool:
            raise WireError("expected true or false", ".result." + key)
    if type(result.get("ansible_facts", {})) is not dict:
        raise WireError("expected an object", ".result.ansible_facts")
    diff = result.get("diff")
    if diff is not None and type(diff) is not dict:
        _objects(diff, ".result.diff")


def _objects(value: Any, path: str) -> List[Any]:
    """A list of objects; empty where there is none."""
    if value is None:
        return []
    if type(value) is not list or any(type(each) is not dict for each in value):
        raise WireError("expected a list of objects", path)
    return value


@dataclass(eq=False, repr=False)
class BatchReply(Record):
    """A reply before the last: one event."""

    event: BatchEvent


@dataclass(eq=False, repr=False)
class BatchEnd(Record):
    """The end of a batch's events."""

    batch: str
    ok: bool


@dataclass(eq=False, repr=False)
class Apply(Streaming[BatchReply, BatchEnd]):
    """Run a batch of tasks, detached, and tell its events. `notified`: handlers that earlier batches notified."""

    batch: str
    tasks: List[Any]
    notified: List[Any] = field(default_factory=list)
    do = names.APPLY


@dataclass(eq=False, repr=False)
class Follow(Streaming[BatchReply, BatchEnd]):
    """Tell the events of a batch from number `after` + 1 on."""

    batch: str
    after: int = 0
    do = names.FOLLOW


@dataclass(eq=False, repr=False)
class Cancel(Request[Empty]):
    """Have a batch stop before its next task. Has no reply."""

    batch: str
    do = names.CANCEL


@dataclass(eq=False, repr=False)
class Document(Record):
    """Findings of probes; health/reading.py reads them leniently, as a host may be half dead."""

    document: Dict[str, Any]


@dataclass(eq=False, repr=False)
class Probe(Request[Document]):
    """Run the named sections of the host's probes (all, where none is named)."""

    sections: Tuple[str, ...]
    options: Dict[str, Any]
    do = names.PROBE


@dataclass(eq=False, repr=False)
class ClusterProbe(Request[Document]):
    """Run the probes between hosts, on the head as the cluster user. `writers`: hosts that can use the share."""

    user: str
    shared: str
    hosts: Tuple[str, ...]
    writers: Tuple[str, ...]
    do = names.CLUSTER_PROBE
