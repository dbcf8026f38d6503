"""Requests about inference jobs, to the head."""

from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

from clusteradm.node.spec.wire import names
from clusteradm.node.spec.wire.copying import FilePiece
from clusteradm.node.spec.wire.decode import Record, limits
from clusteradm.node.spec.wire.job import JobSpec, Progress, SlurmOrder, Status, StoredSpec, Watching
from clusteradm.node.spec.wire.job_names import ID, STATES
from clusteradm.node.spec.wire.node import Empty
from clusteradm.node.spec.wire.request import Request, Streaming
from clusteradm.node.spec.wire.timeline import Timeline

DAMAGED = "damaged"  # the state of a job whose files cannot be read


@dataclass(eq=False, repr=False)
class Piece(Record):
    """One input file: what the results call it, and its bytes. `member`: the array that is meant of an .npz file."""

    name: str
    size: int
    member: Optional[str] = None


@dataclass(eq=False, repr=False)
class Created(Record):
    """The id of a new job."""

    job: str = field(metadata=limits(ID))


@dataclass(eq=False, repr=False)
class CreateJob(Request[Created]):
    """Make an empty job, which no listing shows until it is started.

    Before it, jobs that ended more than `keep_seconds` ago are removed, and then the oldest ended ones until the others
    take no more than `keep_bytes`; None: no limit.
    """

    shared: str
    user: str
    keep_seconds: Optional[float] = None
    keep_bytes: Optional[int] = None
    do = names.JOB_CREATE


@dataclass(eq=False, repr=False)
class PartTaken(Record):
    """Outcome of AddPart: not taken where another job has used up the bytes before."""

    taken: bool


@dataclass(eq=False, repr=False)
class AddPart(Request[PartTaken]):
    """Append a file body to the job's inputs and remove it: a board's storage is small.

    `files` are those that begin in this part; a large one goes on in the next. `failed`: why the bytes of a file, of
    this part or one before, are not to be used.
    """

    shared: str
    user: str
    job: str = field(metadata=limits(ID))
    blob: str
    files: Tuple[Piece, ...]
    failed: Dict[str, str] = field(default_factory=dict)
    do = names.JOB_PART


@dataclass(eq=False, repr=False)
class InputsAdded(Record):
    """Inputs found on the head, or why they are no use."""

    files: int = 0
    bytes: int = 0
    refused: Optional[str] = None


@dataclass(eq=False, repr=False)
class AddPaths(Request[InputsAdded]):
    """Append inputs that are on the head: files, and in folders the files with one of `suffixes`."""

    shared: str
    user: str
    job: str = field(metadata=limits(ID))
    paths: Tuple[str, ...]
    suffixes: Tuple[str, ...]
    do = names.JOB_PATHS


@dataclass(eq=False, repr=False)
class Started(Record):
    """The number of inputs, or why the inputs are no use."""

    inputs: int = 0
    refused: Optional[str] = None


@dataclass(eq=False, repr=False)
class StartJob(Request[Started]):
    """Index the inputs, make the job visible, start its supervisor.

    `wait`: the job waits for others that have some of its TPUs; else it gets those that they leave. `watch`: it stays
    open for inputs, and begins with none; `after`: the job before it whose record of taken files it takes over. With
    `slurm` Slurm says when it runs, and on which of the slots.
    """

    shared: str
    user: str
    job: str = field(metadata=limits(ID))
    spec: JobSpec
    wait: bool = False
    watch: Optional[Watching] = None
    after: Optional[str] = field(default=None, metadata=limits(ID))
    slurm: Optional[SlurmOrder] = None
    do = names.JOB_START


@dataclass(eq=False, repr=False)
class Fed(Record):
    """Outcome of FeedJob. Not taken: the bytes are to be sent again; `ended`: the job takes no more inputs."""

    taken: bool = True
    ended: bool = False


@dataclass(eq=False, repr=False)
class FeedJob(Request[Fed]):
    """Give an open job a part of a batch of inputs: a file body, which is removed, to be put at `offset`.

    With the last part come the files of the batch, and why some are not to be used. Of a batch that the job has had,
    nothing is done.
    """

    shared: str
    user: str
    job: str = field(metadata=limits(ID))
    batch: int
    offset: int
    blob: Optional[str]
    files: Optional[Tuple[Piece, ...]] = None
    failed: Dict[str, str] = field(default_factory=dict)
    do = names.JOB_FEED


@dataclass(eq=False, repr=False)
class Collected(Record):
    """What there is of an open job: the batch whose results were sent, and their bytes; the batches that have none yet;
    its state."""

    state: str = field(metadata=limits(choices=(*STATES, DAMAGED)))
    batch: Optional[int] = None
    size: int = 0
    waiting: Tuple[int, ...] = ()


@dataclass(eq=False, repr=False)
class CollectResults(Streaming[FilePiece, Collected]):
    """Ask for the results of a batch, waited for `wait` seconds. Those of `done` are stored, and removed first."""

    shared: str
    user: str
    job: str = field(metadata=limits(ID))
    done: Tuple[int, ...]
    wait: float
    do = names.JOB_COLLECT


@dataclass(eq=False, repr=False)
class EndJob(Request[Empty]):
    """Take no more inputs into an open job. It is complete once those that it has have their results."""

    shared: str
    user: str
    job: str = field(metadata=limits(ID))
    do = names.JOB_END


@dataclass(eq=False, repr=False)
class News(Record):
    """A job's present state. `seen`: an opaque mark of it, for the next request."""

    seen: Tuple[int, ...]
    status: Status
    progress: Optional[Progress]


@dataclass(eq=False, repr=False)
class FollowJob(Request[News]):
    """Ask for a state of the job other than `seen`; after `wait` seconds, for any."""

    shared: str
    user: str
    job: str = field(metadata=limits(ID))
    seen: Optional[Tuple[int, ...]]
    wait: float
    do = names.JOB_FOLLOW


@dataclass(eq=False, repr=False)
class CancelJob(Request[Empty]):
    """Stop the job, if it still runs; its supervisor has ended when the reply comes."""

    shared: str
    user: str
    job: str = field(metadata=limits(ID))
    do = names.JOB_CANCEL


@dataclass(eq=False, repr=False)
class Resumed(Record):
    """Outcome of ResumeJob: why the job cannot go on, or None."""

    refused: Optional[str] = None


@dataclass(eq=False, repr=False)
class ResumeJob(Request[Resumed]):
    """Start a job again that was interrupted, cancelled or failed: it does what has no result yet."""

    shared: str
    user: str
    job: str = field(metadata=limits(ID))
    do = names.JOB_RESUME


@dataclass(eq=False, repr=False)
class DiscardJob(Request[Empty]):
    """Remove a job that was never started."""

    shared: str
    user: str
    job: str = field(metadata=limits(ID))
    do = names.JOB_DISCARD


@dataclass(eq=False, repr=False)
class FileEnd(Record):
    """The file's size, after its last piece."""

    size: int


@dataclass(eq=False, repr=False)
class FetchFile(Streaming[FilePiece, FileEnd]):
    """Ask for a file of the job: its results, its log, or an output tensor."""

    shared: str
    user: str
    job: str = field(metadata=limits(ID))
    file: str
    do = names.JOB_FETCH


@dataclass(eq=False, repr=False)
class JobSummary(Record):
    """A job in a list. `error`: why it failed, or what of its files cannot be read; `ahead`: the jobs it waits for;
    `slurm`: as of Status."""

    job: str = field(metadata=limits(ID))
    state: str = field(metadata=limits(choices=(*STATES, DAMAGED)))
    model: Optional[str] = None
    version: Optional[int] = None
    total: int = 0
    done: int = 0
    attempts: int = 0
    error: Optional[str] = None
    ahead: Tuple[str, ...] = ()
    slurm: Optional[str] = None


@dataclass(eq=False, repr=False)
class JobList(Record):
    """Every job, the oldest first."""

    jobs: Tuple[JobSummary, ...]


@dataclass(eq=False, repr=False)
class ListJobs(Request[JobList]):
    """Ask for all jobs."""

    shared: str
    user: str
    do = names.JOB_LIST


@dataclass(eq=False, repr=False)
class JobDetails(Record):
    """One job. `bytes`: of its inputs, as long as they are kept; `timeline`: where it was asked for."""

    spec: StoredSpec
    status: Status
    progress: Optional[Progress]
    bytes: int
    timeline: Optional[Timeline] = None


@dataclass(eq=False, repr=False)
class ShowJob(Request[JobDetails]):
    """Ask for one job, with its timeline or without."""

    shared: str
    user: str
    job: str = field(metadata=limits(ID))
    timeline: bool = False
    do = names.JOB_SHOW


@dataclass(eq=False, repr=False)
class JobRemoved(Record):
    """Outcome of RemoveJob: not removed where the job runs."""

    removed: bool


@dataclass(eq=False, repr=False)
class RemoveJob(Request[JobRemoved]):
    """Remove a job that has ended, with its inputs and results."""

    shared: str
    user: str
    job: str = field(metadata=limits(ID))
    do = names.JOB_REMOVE
