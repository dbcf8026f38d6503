"""Jobs that stay open for inputs: given more, asked for results, ended. Their files are the cluster user's."""

import base64
import os
import time
from contextlib import suppress
from typing import Any, Dict, Generator, List, Optional

from clusteradm.node import blobs
from clusteradm.node.account import as_user
from clusteradm.node.handler import handles
from clusteradm.node.job import control, files, folders, pack
from clusteradm.node.job.feed import Feed
from clusteradm.node.job.folders import Folders
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.copying import FilePiece
from clusteradm.node.spec.wire.decode import decode
from clusteradm.node.spec.wire.job import Status, StoredSpec
from clusteradm.node.spec.wire.job_requests import Collected, CollectResults, EndJob, Fed, FeedJob
from clusteradm.node.spec.wire.node import Empty

_LOOK_SECONDS = 0.01
_STATUS_SECONDS = 0.5  # between two looks at the state
_FRESH_SECONDS = 15.0  # a job whose rank 0 has written so recently need not be asked for
_FETCH_BYTES = 1 << 20
_UNKNOWN = "job %s takes no inputs besides those that it was started with"


@handles(FeedJob)
def feed(request: FeedJob) -> Fed:
    """Put a part of a batch into its pack; with the last, give the batch to the job."""
    job = folders.started(request.shared, request.job)
    path = None if request.blob is None else blobs.path_of(request.blob)
    try:
        blob = None if path is None else open(path, "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return Fed(False)

    def work() -> Dict[str, Any]:
        spec = _open(request.shared, request.job, job)
        batch = Feed.of(job)
        if batch.ended():
            return {"ended": True}
        if batch.has(request.batch):
            return {}
        if blob is not None:
            _put(batch.body(request.batch), request.offset, blob)
        if request.files is not None:
            entries: List[pack.Entry] = []
            at = 0
            for piece in request.files:
                entries.append(pack.Entry(piece.name, at, piece.size, request.failed.get(piece.name), piece.member))
                at += piece.size
            if at != files.size(batch.body(request.batch)):
                raise OSError("the inputs did not arrive whole")
            batch.add(request.batch, entries, spec)
        return {}

    try:
        answer = Fed(**as_user(request.user, work))
    finally:
        if blob is not None:
            blob.close()
    if path is not None:
        with suppress(FileNotFoundError):
            os.unlink(path)
    return answer


def _put(body: str, offset: int, blob: Any) -> None:
    """Put bytes into a pack, behind those that are there up to `offset`: what was behind is of a try before."""
    with open(body, "ab", opener=files.opener) as file:
        if file.tell() < offset:
            raise OSError("a part of the inputs is missing")
        file.truncate(offset)
        for data in iter(lambda: blob.read(1 << 20), b""):
            file.write(data)


def _open(shared: str, name: str, job: Folders) -> StoredSpec:
    """The spec of an open job, which is told that its command is there. Raises OSError for another one."""
    control.check_there(shared, name)
    spec = files.read(StoredSpec, os.path.join(job.own, job_names.SPEC))
    if spec is None or spec.watch is None:
        raise OSError(_UNKNOWN % name)
    with open(os.path.join(job.run, job_names.HEARD), "wb") as file:
        os.utime(file.fileno())
    return spec


@handles(CollectResults)
def collect(request: CollectResults) -> Generator[FilePiece, None, Collected]:
    """The results of a batch in pieces, the first that there are."""
    job = folders.started(request.shared, request.job)

    def work() -> Dict[str, Any]:
        _open(request.shared, request.job, job)
        batches = Feed.of(job)
        batches.remove(request.done)
        end = time.monotonic() + request.wait
        status: Dict[str, Any] = {}
        looked: Optional[float] = None
        while True:
            now = time.monotonic()
            if looked is None or now > end or now - looked > _STATUS_SECONDS:
                # Before the look at what is found: what a job leaves that ends in between is seen.
                status, looked = control.documents(job)["status"], now
            waiting, found = batches.waiting(), batches.found()
            if found or now > end or status["state"] not in job_names.OPEN:
                waiting = [batch for batch in waiting if batch not in found]
                return {
                    "batch": found[0] if found else None,
                    "waiting": waiting,
                    "status": status,
                    "fresh": _fresh(job),
                }
            time.sleep(_LOOK_SECONDS)

    seen = as_user(request.user, work)
    batch: Optional[int] = seen["batch"]
    status = decode(Status, seen["status"])
    if batch is None and not seen["fresh"]:
        status = control.settled(request.user, request.job, job, status)
    size = 0
    if batch is not None:
        path = Feed.of(job).results(batch)
        while True:
            piece = as_user(request.user, lambda: _read(path, size))  # noqa: B023 - called at once
            length = len(base64.b64decode(piece))
            if not length:
                break
            yield FilePiece(piece)
            size += length
    return Collected(status.state, batch, size, tuple(seen["waiting"]))


def _fresh(job: Folders) -> bool:
    """Whether rank 0 of the job works, by what it writes."""
    try:
        return abs(time.time() - os.stat(os.path.join(job.run, job_names.PROGRESS)).st_mtime) < _FRESH_SECONDS
    except OSError:
        return False


def _read(path: str, offset: int) -> str:
    with open(path, "rb", opener=files.opener) as file:
        file.seek(offset)
        return base64.b64encode(file.read(_FETCH_BYTES)).decode("ascii")


@handles(EndJob)
def end(request: EndJob) -> Empty:
    """Take no more inputs."""
    job = folders.started(request.shared, request.job)

    def work() -> None:
        _open(request.shared, request.job, job)
        Feed.of(job).end()

    as_user(request.user, work)
    return Empty()
