"""Started jobs: listed, shown, followed, cancelled, removed, their files given out.

Every file of a job is read and removed as the cluster user; root only talks to systemd.
"""

import base64
import os
import re
import shutil
import time
from dataclasses import replace
from typing import Any, Dict, Generator, Optional

from clusteradm.node.account import AccountError, as_user
from clusteradm.node.handler import handles
from clusteradm.node.job import files, starter
from clusteradm.node.job.making import visible
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.decode import WireError, decode
from clusteradm.node.spec.wire.job import Progress, Status
from clusteradm.node.spec.wire.job_requests import (
    DAMAGED,
    CancelJob,
    FetchFile,
    FileData,
    FileEnd,
    FollowJob,
    JobDetails,
    JobList,
    JobRemoved,
    JobSummary,
    ListJobs,
    News,
    RemoveJob,
    ShowJob,
)
from clusteradm.node.spec.wire.node import Empty

_ID = re.compile(job_names.ID)
_FETCHABLE = re.compile("%s|%s|%s" % (re.escape(job_names.RESULTS), job_names.LOG, job_names.OUTPUT_FILE))
_FETCH_BYTES = 1 << 20
_LOOK_SECONDS = 0.1
_CUT_OFF = "its supervisor ended without a result"


@handles(ListJobs)
def list_jobs(request: ListJobs) -> JobList:
    """Every started job, the oldest first. One with damaged files is in the list all the same."""

    def work() -> Dict[str, Any]:
        names = sorted(filter(_ID.fullmatch, os.listdir(os.path.join(request.shared, job_names.JOBS))))
        return {name: _documents(visible(request.shared, name)) for name in names}

    found = as_user(request.user, work)
    summaries = {job: _summary(job, documents) for job, documents in found.items()}
    unfinished = [job for job, summary in summaries.items() if summary.state in job_names.UNFINISHED]
    for job in set(unfinished) - starter.running(unfinished):
        summaries[job].state, summaries[job].error = job_names.FAILED, _CUT_OFF
    return JobList(tuple(summaries.values()))


@handles(ShowJob)
def show(request: ShowJob) -> JobDetails:
    """One job."""
    folder = visible(request.shared, request.job)

    def work() -> Dict[str, Any]:
        _check_there(folder, request.job)
        found = _documents(folder)
        found["spec"] = files.read_json(os.path.join(folder, job_names.SPEC))
        found["bytes"] = _size(os.path.join(folder, job_names.PACK))
        return found

    details = decode(JobDetails, as_user(request.user, work))
    return replace(details, status=_settled(request.user, request.job, folder, details.status))


@handles(FollowJob)
def follow(request: FollowJob) -> News:
    """The job's state, as soon as it is another than `seen`, or after `wait` seconds.

    Thus a connection that was lost is taken up by asking again.
    """
    folder = visible(request.shared, request.job)

    def work() -> Dict[str, Any]:
        _check_there(folder, request.job)
        end = time.monotonic() + request.wait
        while True:
            seen = [_stamp(os.path.join(folder, name)) for name in (job_names.STATUS, job_names.PROGRESS)]
            if request.seen is None or seen != list(request.seen) or time.monotonic() > end:
                return dict(_documents(folder), seen=seen)
            time.sleep(_LOOK_SECONDS)

    news = decode(News, as_user(request.user, work))
    return replace(news, status=_settled(request.user, request.job, folder, news.status))


@handles(CancelJob)
def cancel(request: CancelJob) -> Empty:
    """Stop the job, if it still runs. Its inputs are kept until it is removed."""
    starter.stop(request.job)
    return Empty()


@handles(RemoveJob)
def remove(request: RemoveJob) -> JobRemoved:
    """Remove a job that does not run, with all its files."""
    folder = visible(request.shared, request.job)
    if starter.running([request.job]):
        return JobRemoved(False)

    def work() -> None:
        _check_there(folder, request.job)
        # By one rename first: no listing shows half a job. What is left after an interruption goes with the next job.
        hidden = os.path.join(os.path.dirname(folder), "." + request.job)
        os.rename(folder, hidden)
        shutil.rmtree(hidden)

    as_user(request.user, work)
    return JobRemoved(True)


@handles(FetchFile)
def fetch(request: FetchFile) -> Generator[FileData, None, FileEnd]:
    """A file of the job, in pieces, and then its size."""
    if not _FETCHABLE.fullmatch(request.file):
        raise ValueError("%s is no file that a job gives out" % request.file)
    path = os.path.join(visible(request.shared, request.job), request.file)
    size = offset = 0
    while True:
        data = as_user(request.user, lambda: _read(path, offset))  # noqa: B023 - called at once
        if not data:
            return FileEnd(size)
        yield FileData(data)
        offset += _FETCH_BYTES
        size += len(base64.b64decode(data))


def _read(path: str, offset: int) -> str:
    with open(path, "rb") as file:
        file.seek(offset)
        return base64.b64encode(file.read(_FETCH_BYTES)).decode("ascii")


def _check_there(folder: str, job: str) -> None:
    if not os.path.isdir(folder):
        raise AccountError("there is no job %s here" % job)


def _documents(folder: str) -> Dict[str, Any]:
    """status.json and progress.json, as they are."""
    return {
        "status": files.read_json(os.path.join(folder, job_names.STATUS)) or {"state": job_names.STARTING},
        "progress": files.read_json(os.path.join(folder, job_names.PROGRESS)),
    }


def _settled(user: str, job: str, folder: str, status: Status) -> Status:
    """The status; that of a failed job where it is unfinished and no supervisor runs any more."""
    if status.state not in job_names.UNFINISHED or starter.running([job]):
        return status
    # It may have written its last status and ended between the two looks.
    last = decode(Status, as_user(user, lambda: _documents(folder)["status"]))
    if last.state not in job_names.UNFINISHED:
        return last
    return replace(last, state=job_names.FAILED, error=_CUT_OFF, log=tuple(starter.log(job)))


def _summary(job: str, documents: Dict[str, Any]) -> JobSummary:
    try:
        status = decode(Status, documents["status"])
        progress: Optional[Progress] = decode(Progress, documents["progress"]) if documents["progress"] else None
    except WireError as error:
        return JobSummary(job, DAMAGED, error=str(error))
    done = status.images if status.state == job_names.COMPLETE else progress.done if progress else 0
    return JobSummary(
        job,
        status.state,
        model=status.model.name if status.model else None,
        version=status.model.version if status.model else None,
        total=status.total,
        done=done,
        attempts=len(status.attempts),
        error=status.error,
    )


def _stamp(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0
