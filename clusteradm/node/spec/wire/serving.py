"""Serving: the state that the head wants, CLUSTER_SHARED/serving/desired.json, and what a board says of its own.

The requests about it are in serving_requests.py.
"""

import ipaddress
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence, Tuple

from clusteradm.node.spec.wire.decode import Record, WireError, limits
from clusteradm.node.spec.wire.manifest import NAME
from clusteradm.node.spec.wire.versions import LABEL

SERVING, DESIRED = "serving", "desired.json"
MOST_BYTES = 4 << 20  # of desired.json, for all who write or read it
# On the head, where HAProxy is set up.
MAPS = "/etc/haproxy/clusteradm"
# Ports of a board's server: every protocol over HTTP; both gRPC services; Frigate's detector over ZeroMQ.
HTTP_PORT, GRPC_PORT, ZMQ_PORT = 8000, 8001, 5555
# The same on the head, where HAProxy has the first two.
HEAD_HTTP_PORT, HEAD_GRPC_PORT = 18000, 18001
LATEST, SPECIFIC, ALL = "latest", "specific", "all"
# Upper bounds of the histogram of requests' times.
REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# As TensorFlow Serving's ModelVersionStatus.State.
STATES = START, LOADING, AVAILABLE, UNLOADING, END = ("START", "LOADING", "AVAILABLE", "UNLOADING", "END")
FORMAT = 1


@dataclass(eq=False, repr=False)
class VersionPolicy(Record):
    """Versions to serve: the `latest` N, those that are named, or all. Labelled versions are served besides."""

    kind: str = field(default=LATEST, metadata=limits(choices=(LATEST, SPECIFIC, ALL)))
    latest: int = 1
    versions: Tuple[int, ...] = ()


@dataclass(eq=False, repr=False)
class Canary(Record):
    """A version that gets `percent` of the requests that name none."""

    version: int
    percent: float

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= 100:
            raise WireError("no percentage", ".percent")


@dataclass(eq=False, repr=False)
class ServedModel(Record):
    """One model to serve. `default`: the label or version (as text) of requests that name none, None for the highest
    version that is available. Where it may be: `hosts`, none for all; `tpus`, HOST:DEVICE, none for all of those hosts;
    `each`: so many of each host, None for all."""

    name: str = field(metadata=limits(NAME))
    policy: VersionPolicy
    default: Optional[str] = field(default=None, metadata=limits("(%s|[0-9]{1,10})" % LABEL))
    canary: Optional[Canary] = None
    hosts: Tuple[str, ...] = ()
    tpus: Tuple[str, ...] = ()
    each: Optional[int] = None

    def __post_init__(self) -> None:
        if self.each is not None and not 0 < self.each < 1000:
            raise WireError("no number of TPUs", ".each")

    def wanted(self, there: Sequence[int], labels: Dict[str, int]) -> List[int]:
        """The versions that are to be available, highest last, of those that are `there`; what is named is in it, there
        or not. `labels`: the model's."""
        if self.policy.kind == SPECIFIC:
            found = set(self.policy.versions)
        elif self.policy.kind == ALL:
            found = set(there)
        else:
            found = set(sorted(there)[-max(1, self.policy.latest) :])
        found |= {version for version in labels.values() if version in there}
        if self.canary is not None:
            found.add(self.canary.version)
        if self.default is not None and self.default.isdigit():
            found.add(int(self.default))
        return sorted(found)


@dataclass(eq=False, repr=False)
class BoardTpus(Record):
    """The TPUs of one host that serving has, by PCI address; None: its CPU. `infer` does not use them meanwhile."""

    host: str
    tpus: Tuple[Optional[str], ...]


@dataclass(eq=False, repr=False)
class PlacedModel(Record):
    """Where a model is: `tpus`, each HOST:DEVICE, or HOST for all there; none for everywhere. `balanced`: the hosts
    that requests to the head are sent to, none for all of those."""

    name: str = field(metadata=limits(NAME))
    tpus: Tuple[str, ...] = field(default=(), metadata=limits(most=300))
    balanced: Tuple[str, ...] = ()


@dataclass(eq=False, repr=False)
class DesiredState(Record):
    """desired.json. `revision` grows with every change; `drained`: hosts that are to get no new requests.

    `out_of_service`: the drains of the whole cluster, HOST or HOST:PCI-ADDRESS, which hold for serving as well.
    `placement`: the head's own, of models that are not everywhere.
    """

    revision: int
    models: Tuple[ServedModel, ...] = ()
    boards: Tuple[BoardTpus, ...] = ()
    drained: Tuple[str, ...] = ()
    out_of_service: Tuple[str, ...] = ()
    placement: Tuple[PlacedModel, ...] = ()
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise WireError("format %d; this program reads %d" % (self.format, FORMAT), ".format")


@dataclass(eq=False, repr=False)
class VersionState(Record):
    """A version on a board. `reason`: why it is not available, in words; `tpus`: by PCI address, "cpu" for the CPU.
    `seconds`: of one inference; `swap_seconds`: what the first after another model takes more, 0 where all fit the TPU;
    `batches`: the most rows of an inference; `busy_seconds`: of all inferences since the server's start."""

    name: str = field(metadata=limits(NAME))
    version: int
    state: str = field(metadata=limits(choices=STATES))
    reason: str = field(default="", metadata=limits(most=2000))
    labels: Tuple[str, ...] = field(default=(), metadata=limits(LABEL))
    tpus: Tuple[str, ...] = ()
    load_seconds: Optional[float] = None
    seconds: Optional[float] = None
    swap_seconds: Optional[float] = None
    batches: int = 1
    busy_seconds: float = 0.0


@dataclass(eq=False, repr=False)
class EngineState(Record):
    """One engine process. `state`: ready, starting, or failed with a reason; `temperature`: degrees Celsius;
    `megahertz`: the TPU's clock, where the driver sets it; since the server's start: `requests`, `busy_seconds` of all
    inferences, `swaps` of one model for another and the `swap_seconds` that those took more. `servables`: which these
    are, of one that has no models: "servables", or "python NAME:VERSION"."""

    pci_address: Optional[str]
    state: str = field(metadata=limits(choices=("starting", "ready", "failed")))
    reason: str = field(default="", metadata=limits(most=2000))
    simulated: bool = False
    temperature: Optional[float] = None
    queued: int = 0
    requests: int = 0
    servables: str = field(default="", metadata=limits(most=300))
    megahertz: Optional[float] = None
    busy_seconds: float = 0.0
    swaps: int = 0
    swap_seconds: float = 0.0


@dataclass(eq=False, repr=False)
class ModelTraffic(Record):
    """Requests for a model that the board has, as its metrics count them since its server's start.

    `outcomes`: how many, by outcome: ok, or the kind of error. Of those with an answer, `times`: how many took up to
    each of REQUEST_SECONDS and longer than the one before, and longer than all; `seconds`: that they took together.
    """

    model: str = field(metadata=limits(NAME))
    outcomes: Dict[str, int] = field(default_factory=dict)
    times: Tuple[int, ...] = (0,) * (len(REQUEST_SECONDS) + 1)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if len(self.times) != len(REQUEST_SECONDS) + 1:
            raise WireError("not %d counts" % (len(REQUEST_SECONDS) + 1), ".times")


@dataclass(eq=False, repr=False)
class BoardState(Record):
    """GET /clusteradm/state of a board. `revision`: of the desired state that it has followed to the end;
    `balance`: whether it wants new requests; `memory`: bytes of the board's, 0 where that is not known."""

    host: str
    revision: int
    balance: bool
    versions: Tuple[VersionState, ...] = ()
    engines: Tuple[EngineState, ...] = ()
    error: str = field(default="", metadata=limits(most=2000))
    memory: int = 0
    traffic: Tuple[ModelTraffic, ...] = ()


@dataclass(eq=False, repr=False)
class ServeConfig(Record):
    """/etc/clusteradm/serve.json of a board. `address`: the only one to listen on; `network`: whose clients alone
    are answered, None for all; `fronts`: processes for HTTP; `tpus`: as BoardTpus has them, None for every one there
    is, or the CPU of a host without; `cache`: of the models; `packages`: the folder of installed packages, whose entry
    points may be served."""

    host: str
    address: str
    shared: str
    http_port: int = HTTP_PORT
    grpc_port: int = GRPC_PORT
    zmq_port: int = ZMQ_PORT
    head: Optional[str] = None
    fronts: int = 2
    tpus: Optional[Tuple[Optional[str], ...]] = None
    cache: str = "/var/lib/clusteradm-serve"
    packages: Optional[str] = None
    network: Optional[str] = None

    def __post_init__(self) -> None:
        for name in ("http_port", "grpc_port", "zmq_port"):
            if not 0 <= getattr(self, name) < 1 << 16:
                raise WireError("no port", "." + name)
        if not 1 <= self.fronts <= 64:
            raise WireError("no number of processes from 1 to 64", ".fronts")
        try:
            ipaddress.ip_network(self.network or "0.0.0.0/0")
        except ValueError:
            raise WireError("no network", ".network") from None
