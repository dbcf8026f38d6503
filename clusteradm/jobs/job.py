"""Jobs on the head: submitted, listed, followed, cancelled, resumed, removed, their files fetched."""

from __future__ import annotations

import base64
import binascii
import hashlib
import posixpath
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, TypeVar

from clusteradm.errors import ClusteradmError, HostFailed, HostUnreachable, Interrupted, UsageError
from clusteradm.inventory import Cluster, keep
from clusteradm.jobs.inputs import SUFFIXES, File, HeadInputs, LocalInputs, Part, parts
from clusteradm.jobs.plan import Plan
from clusteradm.node.spec.wire.copying import FilePiece
from clusteradm.node.spec.wire.job import JobSpec, Progress, Status, Watching
from clusteradm.node.spec.wire.job_names import CANCELLED, FAILED, ID, INTERRUPTED, JOBS, LOG, PYTHON, UNFINISHED
from clusteradm.node.spec.wire.job_requests import (
    AddPart,
    AddPaths,
    CancelJob,
    Collected,
    CollectResults,
    CreateJob,
    DiscardJob,
    EndJob,
    Fed,
    FeedJob,
    FetchFile,
    FileEnd,
    FollowJob,
    JobDetails,
    JobSummary,
    ListJobs,
    News,
    PartTaken,
    Piece,
    RemoveJob,
    ResumeJob,
    ShowJob,
    StartJob,
)
from clusteradm.node.spec.wire.request import Request, Streaming
from clusteradm.transport import Connections

_WAIT = 1.0  # seconds that the head may hold a question when there is nothing new
_RECONNECT = 300.0
_RESUMED = 60.0  # seconds from the head's start until its jobs go on
_ANSWER = 60.0  # seconds for an answer that needs no work
_MOST_SECONDS = 7200.0  # for an answer that needs every byte of the inputs
_MOST_LOST = 20  # connections in a row that are lost before an answer
_MOST_SENT = 10  # times that the same part is sent

R = TypeVar("R")
A = TypeVar("A", PartTaken, Fed)
E = TypeVar("E", FileEnd, Collected)


@dataclass(frozen=True)
class Update:
    """A change of a job. Without a status the connection is lost, and the job continues."""

    status: Status | None
    progress: Progress | None = None


class Jobs:
    """The jobs of one cluster."""

    def __init__(self, connections: Connections, cluster: Cluster) -> None:
        self._connections = connections
        self._head = cluster.head
        self._shared: str = cluster.setting("cluster_shared")
        self._user: str = cluster.setting("cluster_user")
        self._keep = keep.parse(cluster.setting("cluster_jobs_keep"))

    @property
    def head(self) -> str:
        """The head's name."""
        return self._head.name

    def directory(self, job: str) -> str:
        """The job's directory on the head."""
        return f"{self._shared}/{JOBS}/{job}"

    def submit(
        self,
        inputs: LocalInputs | HeadInputs,
        plan: Plan,
        *,
        top: int,
        progress: Callable[[int, int], None],
    ) -> tuple[str, int]:
        """Send the inputs to the head and start the job: (its id, its number of inputs).

        `top`: classes of a result. `progress` is called with bytes sent, and bytes in all. An error on the way leaves
        no job behind. Raises UsageError, HostFailed where the plan has too few slots.
        """

        def fill(job: str) -> None:
            if isinstance(inputs, LocalInputs):
                self._send(job, inputs, progress)
            else:
                request = AddPaths(self._shared, self._user, job, inputs.paths, SUFFIXES)
                _accepted(self._call(request, timeout=_MOST_SECONDS).refused)

        return self._start(plan, top, fill)

    def open(self, plan: Plan, folder: str | None, after: str | None, *, top: int) -> str:
        """Start a job that stays open for inputs; its id. `folder`: of the head, whose files are its inputs, absolute
        or below the shared directory; None: they are given by `feed`. `after`: an earlier job of that folder, the files
        of which are not taken again. Raises UsageError, HostFailed where the plan has too few slots."""
        place = None if folder is None else posixpath.normpath(posixpath.join(self._shared, folder))
        return self._start(plan, top, lambda job: None, Watching(place, SUFFIXES), after)[0]

    def _start(
        self,
        plan: Plan,
        top: int,
        fill: Callable[[str], None],
        watch: Watching | None = None,
        after: str | None = None,
    ) -> tuple[str, int]:
        plan.check()
        job = self._call(CreateJob(self._shared, self._user, self._keep.seconds, self._keep.bytes)).job
        try:
            fill(job)
            spec = JobSpec(plan.model, self._head.name, plan.slots.usable, plan.most, top, PYTHON)
            request = StartJob(self._shared, self._user, job, spec, plan.wait, watch, after, plan.slurm)
            started = self._call(request, timeout=_MOST_SECONDS)
            _accepted(started.refused)
        except BaseException as error:
            self._undo(job, error)
            raise
        return job, started.inputs

    def _undo(self, job: str, cause: BaseException) -> None:
        """Leave nothing of a job that could not be started, or was started meanwhile; where that is not possible, say
        so with the error."""
        what = f"job {job}, which was being made, may be left on the head, or run there"
        left = f"to end it: clusteradm job cancel {job}; to remove it with its inputs: clusteradm job remove {job}"
        try:
            # Also on Ctrl-C, after which the conversation is in the middle of a reply: begin a new one.
            self.cancel(job)
            self._call(DiscardJob(self._shared, self._user, job))
            self.remove(job)  # where it was started already
        except KeyboardInterrupt:
            raise Interrupted(what, next_step=left) from None
        except HostUnreachable:
            if isinstance(cause, KeyboardInterrupt):
                raise Interrupted(what, next_step=left) from None
            if isinstance(cause, ClusteradmError):
                cause.next_step = "\n  ".join([*filter(None, [cause.next_step]), f"{what}; {left}"])
        except ClusteradmError:
            pass  # there is nothing of it any more

    def _send(self, job: str, inputs: LocalInputs, progress: Callable[[int, int], None]) -> None:
        sent = 0
        for part in parts(inputs.files):
            pieces = _pieces(part.files)

            def tell(done: int, _: int, before: int = sent) -> None:
                progress(before + done, inputs.bytes)

            def add(digest: str, pieces: tuple[Piece, ...] = pieces, part: Part = part) -> PartTaken:
                return self._call(AddPart(self._shared, self._user, job, digest, pieces, part.failed))

            self._put(part.data, add, tell)
            sent += len(part.data)
            progress(sent, inputs.bytes)

    def _put(self, data: bytes, use: Callable[[str], A], tell: Callable[[int, int], None] = lambda *_: None) -> A:
        """Send a file body, and have the head use it by its digest."""
        digest = hashlib.sha256(data).hexdigest()
        for _ in range(_MOST_SENT):
            # Another job may have used up the same bytes between the two steps: then they are sent again.
            self._connections.node(self._head).put_blobs({digest: data}, tell)
            answer = use(digest)
            if answer.taken:
                return answer
        what = f"it does not take a part of the inputs, which was sent {_MOST_SENT} times"
        raise HostFailed(what, where=self._head.name, next_step="see that nothing else empties its storage")

    def feed(self, job: str, batch: int, files: Sequence[File]) -> dict[str, str] | None:
        """Give an open job a batch of inputs; {} then, also if it has had the batch before. Where files have changed
        while they were sent, or cannot be read, it is not given: these, each with its reason. None: the job takes no
        more. Raises HostUnreachable, HostFailed."""
        failed: dict[str, str] = {}
        request = FeedJob(self._shared, self._user, job, batch, 0, None)
        waiting: Part | None = None  # what is wrong with the last file is known after its last part
        for part in parts(files):
            failed |= {name: why for name, why in part.failed.items() if name not in part.known}
            if failed:
                return failed
            if waiting is not None:
                if self._give(request, waiting.data).ended:
                    return None
                request = replace(request, offset=request.offset + len(waiting.data))
            waiting = part
        known = {file.name: file.error for file in files if file.error is not None}
        request = replace(request, files=_pieces(files), failed=known)
        return None if self._give(request, waiting.data if waiting else b"").ended else {}

    def _give(self, request: FeedJob, data: bytes) -> Fed:
        def give(digest: str | None) -> Fed:
            return self._call(replace(request, blob=digest), timeout=_MOST_SECONDS)

        return self._put(data, give) if data else give(None)

    def collect(self, job: str, into: BinaryIO, *, done: Collection[int] = (), wait: float = 0.0) -> Collected:
        """Copy the results of a batch of an open job, waited for so many seconds. Those of `done` are removed first.
        Raises HostUnreachable, HostFailed."""
        request = CollectResults(self._shared, self._user, _checked(job), tuple(sorted(done)), wait)
        return self._copy(request, f"results of job {job}", into)

    def end(self, job: str) -> None:
        """Give an open job no more inputs: it is complete when those that it has are done."""
        self._call(EndJob(self._shared, self._user, _checked(job)))

    def news(self, job: str, seen: tuple[int, ...] | None) -> News:
        """The job's present state."""
        return self._call(FollowJob(self._shared, self._user, _checked(job), seen, 0.0))

    def reconnect(self, seconds: float) -> None:
        """Seek the head again, after the connection to it was lost. Raises HostUnreachable."""
        self._connections.reconnect(self._head, seconds)

    def drop(self) -> None:
        """Begin a new conversation: the present one may be in the middle of an answer."""
        self._connections.drop(self._head)

    def list(self) -> tuple[JobSummary, ...]:
        """Every job on the head, the oldest first. Raises HostUnreachable, HostFailed."""
        return self._call(ListJobs(self._shared, self._user)).jobs

    def show(self, job: str, *, timeline: bool = False) -> JobDetails:
        """One job, with its timeline or without. Raises UsageError for what is no job's id, HostFailed for no job."""
        return self._call(ShowJob(self._shared, self._user, _checked(job), timeline))

    def follow(self, job: str) -> Iterator[Update]:
        """Every change of the job until it ends; the last update's state is "complete", "failed" or "cancelled".

        A lost connection is an update of its own; then the head is sought again for five minutes, and the job followed
        further. After a restart of the head the job goes on by itself; "interrupted" is the last state where it has not
        within a minute. Raises HostUnreachable where the connection is lost too often.
        """
        seen: tuple[int, ...] | None = None
        lost = 0
        patience: float | None = None  # until when an interrupted job is waited for
        while True:
            try:
                news = self._call(FollowJob(self._shared, self._user, _checked(job), seen, _WAIT))
                lost = 0
            except HostUnreachable:
                lost += 1
                if lost > _MOST_LOST:
                    raise
                yield Update(None)
                self._connections.reconnect(self._head, _RECONNECT)
                seen = None
                continue
            if news.status.state != INTERRUPTED:
                patience = None
            else:
                patience = patience or time.monotonic() + _RESUMED
                if time.monotonic() < patience:
                    time.sleep(_WAIT)
                    continue
            ended = news.status.state not in UNFINISHED
            if news.seen != seen or ended:
                seen = news.seen
                yield Update(news.status, news.progress)
            if ended:
                return

    def check(self, job: str, status: Status) -> None:
        """Raise HostFailed where the job has failed, with the end of its log, or was cancelled."""
        if status.state == CANCELLED:
            why = f": {status.error}" if status.error else ""
            raise HostFailed(
                f"job {job} was cancelled{why}", next_step=f"to go on with it: clusteradm job resume {job}"
            )
        lines = "".join(f"\n    {line}" for line in status.log)
        if status.state == INTERRUPTED:
            raise HostFailed(f"job {job} is interrupted: {status.error}{lines}", where=self._head.name)
        if status.state == FAILED:
            raise HostFailed(
                f"job {job} failed: {status.error or 'no reason given'}{lines}",
                where=self._head.name,
                next_step=f"clusteradm health says what is wrong, the whole log is {self.directory(job)}/{LOG} there; "
                f"then go on with it: clusteradm job resume {job}",
            )

    def cancel(self, job: str) -> None:
        """End the job and wait until it has ended. Its inputs are kept until it is removed.

        Over a new connection: the present one may be in the middle of an answer. Raises HostUnreachable, HostFailed.
        """
        request = CancelJob(self._shared, self._user, _checked(job))
        self._connections.drop(self._head)
        try:
            self._call(request)
        except HostUnreachable as error:
            next_step = f"the job continues; end it with: clusteradm job cancel {job}"
            raise HostUnreachable(error.what, where=error.where, next_step=next_step) from error
        except KeyboardInterrupt:
            raise Interrupted(f"job {job} may go on", next_step=f"to end it: clusteradm job cancel {job}") from None

    def resume(self, job: str) -> None:
        """Start a job again that was interrupted, cancelled or failed. Raises UsageError where it cannot go on."""
        refused = self._call(ResumeJob(self._shared, self._user, _checked(job))).refused
        if refused is not None:
            raise UsageError(f"job {job} cannot be resumed: {refused}", next_step=f"clusteradm job show {job}")

    def remove(self, job: str) -> None:
        """Remove a job that has ended, with its inputs and results. Raises UsageError while it runs."""
        if not self._call(RemoveJob(self._shared, self._user, _checked(job))).removed:
            raise UsageError(f"job {job} is running", next_step=f"end it first: clusteradm job cancel {job}")

    def fetch(self, job: str, name: str, into: BinaryIO) -> None:
        """Copy a file of the job. Raises HostUnreachable or HostFailed where it did not come whole."""
        self._copy(FetchFile(self._shared, self._user, _checked(job), name), f"{name} of job {job}", into)

    def _copy(self, request: Streaming[FilePiece, E], what: str, into: BinaryIO) -> E:
        """Copy the pieces of an answer; its end, which has their size."""
        replies = self._connections.node(self._head).ask(request, timeout=_ANSWER)
        size = 0
        while True:
            try:
                size += into.write(base64.b64decode(next(replies).data, validate=True))
            except binascii.Error as error:
                raise HostFailed(f"{what} came damaged: {error}", where=self._head.name) from None
            except StopIteration as end:
                last: E = end.value
                if last.size != size:
                    what = f"{what} has {last.size} bytes, of which {size} came"
                    raise HostFailed(what, where=self._head.name) from None
                return last

    def _call(self, request: Request[R], timeout: float = _ANSWER) -> R:
        return self._connections.node(self._head).call(request, timeout=timeout)


def _pieces(files: Sequence[File]) -> tuple[Piece, ...]:
    return tuple(Piece(file.name, file.size, file.member) for file in files)


def _checked(job: str) -> str:
    if not re.fullmatch(ID, job):
        raise UsageError(f"{job!r} is no job's id", next_step="clusteradm job list shows them all")
    return job


def _accepted(refused: str | None) -> None:
    if refused is not None:
        raise UsageError(refused)
