"""Inference job: its spec, the places of its ranks, its progress and its status."""

from dataclasses import dataclass, field
from typing import Optional, Tuple

from clusteradm.node.spec.wire.decode import WireError, limits
from clusteradm.node.spec.wire.job_names import COMPLETE, ID, STATES


@dataclass(frozen=True)
class InputForm:
    """The tensor that the model takes."""

    dtype: str
    shape: Tuple[int, ...]


@dataclass(frozen=True)
class ModelFile:
    """The model of a job. `path`: on every host."""

    name: str
    version: int
    path: str
    sha256: str
    input: InputForm


@dataclass(frozen=True)
class Slot:
    """The TPUs of one host that a job may use, by PCI address; None: that host's CPU."""

    host: str
    tpus: Tuple[Optional[str], ...]


@dataclass(frozen=True)
class JobSpec:
    """What is to be done. `slots`: the head first if it computes; `ranks`: the most to use; `top`: classes a result."""

    model: ModelFile
    head: str
    slots: Tuple[Slot, ...]
    ranks: Optional[int]
    top: int
    python: str


@dataclass(frozen=True)
class StoredSpec(JobSpec):
    """spec.json: the same with the job's id and its number of inputs."""

    job: str = field(metadata=limits(ID))
    inputs: int


@dataclass(frozen=True)
class RankPlace:
    """Where one rank sits."""

    rank: int
    host: str
    pci_address: Optional[str]


@dataclass(frozen=True)
class AttemptPlan:
    """attempt-N.json."""

    attempt: int
    ranks: Tuple[RankPlace, ...]


@dataclass
class RankProgress:
    """One rank at work. Seconds: its working time, of which busy in the TPU; decoding beside; waiting for input."""

    rank: int
    host: str
    pci_address: Optional[str]
    images: int = 0
    seconds: float = 0.0
    busy: float = 0.0
    decode: float = 0.0
    wait: float = 0.0
    state: str = field(default="starting", metadata=limits(choices=("starting", "ready", "failed")))
    error: Optional[str] = None
    version: Optional[str] = None  # of its library
    tpu: Optional[str] = None  # its device


@dataclass(frozen=True)
class Progress:
    """progress.json. Times: the head's monotonic clock; `done` counts earlier attempts too."""

    attempt: int
    phase: str = field(metadata=limits(choices=("starting", "running", "finished")))
    total: int
    done: int
    errors: int
    first_dispatch: Optional[float]
    last_result: Optional[float]
    now: float
    ranks: Tuple[RankProgress, ...]


@dataclass(frozen=True)
class Attempt:
    """One run of mpirun. `status`: its exit status, None while it runs."""

    attempt: int
    started: float
    hosts: Tuple[str, ...]
    first_dispatch: Optional[float] = None
    last_result: Optional[float] = None
    ranks: Tuple[RankProgress, ...] = ()
    status: Optional[int] = None


@dataclass(frozen=True)
class Status:
    """status.json. `started`: the head's monotonic clock; `images`, `errors`: of a complete job; `log`: its end."""

    state: str = field(metadata=limits(choices=STATES))
    model: Optional[ModelFile] = None
    top: int = 0
    total: int = 0
    started: Optional[float] = None
    attempts: Tuple[Attempt, ...] = ()
    images: int = 0
    errors: int = 0
    error: Optional[str] = None
    log: Tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.state == COMPLETE:
            for name in ("model", "started"):
                if getattr(self, name) is None:
                    raise WireError("missing", "." + name)
