"""Inference job: its spec, the places of its ranks, its progress and its status."""

from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

from clusteradm.node.spec.wire.decode import Record, WireError, limits
from clusteradm.node.spec.wire.job_names import COMPLETE, ID, SLURM_NAME, STATES
from clusteradm.node.spec.wire.manifest import RAW, TASKS, Feed
from clusteradm.node.spec.wire.pipeline import Pipeline, Stage


@dataclass(eq=False, repr=False)
class InputForm(Record):
    """The tensor that the model takes. Without a scale: values as they are; without `feed`: pictures by the type;
    `name`: where there are several."""

    dtype: str
    shape: Tuple[int, ...]
    scale: Optional[float] = None
    zero_point: int = 0
    feed: Optional[Feed] = None
    name: str = ""


@dataclass(eq=False, repr=False)
class ModelFile(Record):
    """The model of a job. `path`: on every host; `task`: what its outputs are read as, None for what they seem; `more`:
    inputs besides the first; `batch`: how many inputs it takes at once, where `input` is the form of one; `pipeline`:
    its segments, where each rank runs one of them."""

    name: str
    version: int
    path: str
    sha256: str
    input: InputForm
    threshold: Optional[float] = None
    task: Optional[str] = field(default=None, metadata=limits(choices=(*TASKS, RAW)))
    more: Tuple[InputForm, ...] = ()
    batch: int = 1
    pipeline: Optional[Pipeline] = None


@dataclass(eq=False, repr=False)
class Slot(Record):
    """The TPUs of one host that a job may use, by PCI address; None: that host's CPU."""

    host: str
    tpus: Tuple[Optional[str], ...]


@dataclass(eq=False, repr=False)
class JobSpec(Record):
    """Work of a job. `slots`: the head first if it computes; `ranks`: the most to use; `top`: classes per result."""

    model: ModelFile
    head: str
    slots: Tuple[Slot, ...]
    ranks: Optional[int]
    top: int
    python: str


@dataclass(eq=False, repr=False)
class Watching(Record):
    """Where the inputs of a job come from that stays open for more. `folder`: on the head, of which the new files with
    one of `suffixes` are taken; None: the command sends them."""

    folder: Optional[str] = None
    suffixes: Tuple[str, ...] = ()


@dataclass(eq=False, repr=False)
class SlurmOrder(Record):
    """What Slurm is asked for, besides the hosts and TPUs of the slots. `whole`: all of them at once, else what of them
    is free when it is the job's turn."""

    partition: Optional[str] = field(default=None, metadata=limits(SLURM_NAME))
    account: Optional[str] = field(default=None, metadata=limits(SLURM_NAME))
    whole: bool = False


@dataclass(eq=False, repr=False)
class StoredSpec(JobSpec):
    """spec.json: the spec with the job's id, its number of inputs, and its folder on the shared file system. `watch`:
    of a job that stays open, whose number of inputs is 0; `slurm`: what Slurm is asked for, where its ranks are to be
    in an allocation of Slurm's."""

    job: str = field(metadata=limits(ID))
    inputs: int
    folder: str
    watch: Optional[Watching] = None
    slurm: Optional[SlurmOrder] = None


@dataclass(eq=False, repr=False)
class RankPlace(Record):
    """Place of one rank: a TPU of a host, or its CPU; and of which pipeline it is which stage, from 0."""

    rank: int
    host: str
    pci_address: Optional[str]
    pipeline: Optional[int] = None
    stage: int = 0


@dataclass(eq=False, repr=False)
class AttemptPlan(Record):
    """attempt-N.json."""

    attempt: int
    ranks: Tuple[RankPlace, ...]


@dataclass(eq=False, repr=False)
class Assignment(Record):
    """Work of one rank, from rank 0. `here`: the ranks on its host; `folder`: the job's, on the shared file system;
    `warm_up`: whether the model is tried on made-up input first. Of a stage `model` has the path of its segment."""

    place: RankPlace
    here: int
    model: ModelFile
    top: int
    folder: str
    warm_up: bool = True
    stage: Optional[Stage] = None


SILENT, TPU, OTHER, PARTNER = "silent", "tpu", "other", "partner"


@dataclass(eq=False, repr=False)
class RankProgress(Record):
    """One rank at work. Seconds: its working time, of which busy in the TPU; waiting for input, and decoding and
    reading that beside; waiting for another chunk of rank 0. `queue`: inputs that it has; `kills`: processes that its
    host's kernel had ended for lack of memory as the rank began."""

    rank: int
    host: str
    pci_address: Optional[str]
    images: int = 0
    seconds: float = 0.0
    busy: float = 0.0
    decode: float = 0.0
    wait: float = 0.0
    read: float = 0.0
    idle: float = 0.0
    queue: int = 0
    state: str = field(default="starting", metadata=limits(choices=("starting", "ready", "failed")))
    error: Optional[str] = None
    version: Optional[str] = None  # of its library
    tpu: Optional[str] = None  # its device
    # Of one that has failed: SILENT, or by its own word; with its TPU after it had worked, or else. PARTNER: it is
    # another stage of its pipeline that has failed.
    fault: Optional[str] = field(default=None, metadata=limits(choices=(SILENT, TPU, OTHER, PARTNER)))
    pipeline: Optional[int] = None
    stage: int = 0
    kills: Optional[int] = None


@dataclass(eq=False, repr=False)
class Progress(Record):
    """progress.json. Times: seconds since 1970, by the head; `done` counts earlier attempts too."""

    attempt: int
    phase: str = field(metadata=limits(choices=("starting", "running", "finished")))
    total: int
    done: int
    errors: int
    first_dispatch: Optional[float]
    last_result: Optional[float]
    now: float
    ranks: Tuple[RankProgress, ...]


@dataclass(eq=False, repr=False)
class Counted(Record):
    """counted.json: the results of the batches that are done with, of which `batch` was the last."""

    batch: int
    done: int
    errors: int


@dataclass(eq=False, repr=False)
class Suspects(Record):
    """suspects.json: inputs that a rank may have been lost by."""

    inputs: Tuple[int, ...]


CUT_OFF = -1


@dataclass(eq=False, repr=False)
class Attempt(Record):
    """One run of mpirun. `status`: its exit status, None while it runs, CUT_OFF where its supervisor ended first.

    `back`: what the next attempt takes back, where this one was ended for that.
    """

    attempt: int
    started: float
    hosts: Tuple[str, ...]
    first_dispatch: Optional[float] = None
    last_result: Optional[float] = None
    ranks: Tuple[RankProgress, ...] = ()
    status: Optional[int] = None
    back: Optional[str] = None


@dataclass(eq=False, repr=False)
class TpusOfJob(Record):
    """tpus.json. `ill`: HOST:PCI-ADDRESS -> why it has failed; `well`: those that have worked again since."""

    ill: Dict[str, str]
    well: Tuple[str, ...] = ()


@dataclass(eq=False, repr=False)
class Status(Record):
    """status.json. `started`: seconds since 1970; `images`, `errors`: of a complete job; `log`: its end; `ahead`: the
    jobs that it waits for; `slurm`: its job in Slurm and that one's state, as Slurm says it; `kills`: processes that
    the head's kernel had ended for lack of memory as the job began."""

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
    ahead: Tuple[str, ...] = ()
    slurm: Optional[str] = None
    kills: Optional[int] = None

    def __post_init__(self) -> None:
        if self.state == COMPLETE:
            for name in ("model", "started"):
                if getattr(self, name) is None:
                    raise WireError("missing", "." + name)
