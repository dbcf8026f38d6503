"""Started jobs: listed, shown, followed, cancelled, resumed, removed, their files given out.

Every file of a job but its spec is read as the cluster user; root removes the folders, and talks to systemd.
"""

import base64
import errno
import os
import re
import time
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any, Dict, Generator, Optional

from clusteradm.node import paths
from clusteradm.node.account import AccountError, as_user
from clusteradm.node.handler import handles
from clusteradm.node.job import allocation, files, folders, oom, starter
from clusteradm.node.job.folders import Folders
from clusteradm.node.job.shortage import REMEDY
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.copying import FilePiece
from clusteradm.node.spec.wire.decode import WireError, decode
from clusteradm.node.spec.wire.job import Progress, Status, StoredSpec
from clusteradm.node.spec.wire.job_requests import (
    DAMAGED,
    CancelJob,
    FetchFile,
    FileEnd,
    FollowJob,
    JobDetails,
    JobList,
    JobRemoved,
    JobSummary,
    ListJobs,
    News,
    RemoveJob,
    Resumed,
    ResumeJob,
    ShowJob,
)
from clusteradm.node.spec.wire.node import Empty
from clusteradm.node.spec.wire.timeline import Timeline

_ID = re.compile(job_names.ID)
_FETCHABLE = re.compile("%s|%s|%s" % (re.escape(job_names.RESULTS), job_names.LOG, job_names.OUTPUT_FILE))
_FETCH_BYTES = 1 << 20
_LOOK_SECONDS = 0.1
_CUT_OFF = "its supervisor ended before it, as when the head is restarted; to go on: clusteradm job resume %s"
_OUT_OF_MEMORY = "its supervisor ended before it, and since the job began %s"


@handles(ListJobs)
def list_jobs(request: ListJobs) -> JobList:
    """Every started job, the oldest first. One with damaged files, or without a folder, is in the list all the same."""

    def work() -> Dict[str, Any]:
        names = sorted(filter(_ID.fullmatch, os.listdir(os.path.join(request.shared, job_names.JOBS))))
        jobs = {name: folders.started(request.shared, name) for name in names}
        # What else is there, somebody has put there who is not this program.
        found = [vars(_summary(name, job)) for name, job in jobs.items() if os.path.isdir(job.own)]
        return {"found": found, "bereft": [name for name in folders.owned() if folders.bereft(request.shared, name)]}

    looked = as_user(request.user, work)
    summaries = {each["job"]: decode(JobSummary, each) for each in looked["found"]}
    for job in looked["bereft"]:
        summaries[job] = JobSummary(job, DAMAGED, error=_bereft(request.shared, job))
    unfinished = [job for job, summary in summaries.items() if summary.state in job_names.OPEN]
    running = starter.running(unfinished)
    for job in unfinished:
        if job not in running:
            summaries[job].state, summaries[job].error = job_names.INTERRUPTED, _CUT_OFF % job
            summaries[job].ahead = ()
        elif summaries[job].state == job_names.INTERRUPTED:
            summaries[job].state = job_names.STARTING
    return JobList(tuple(summaries[job] for job in sorted(summaries)))


@handles(ShowJob)
def show(request: ShowJob) -> JobDetails:
    """One job."""
    job = folders.started(request.shared, request.job)

    def work() -> Dict[str, Any]:
        check_there(request.shared, request.job)
        found = documents(job)
        found["spec"] = files.read_json(os.path.join(job.own, job_names.SPEC))
        found["bytes"] = _size(os.path.join(job.share, job_names.PACK))
        if request.timeline:
            timeline = files.read(Timeline, os.path.join(job.run, job_names.TIMELINE))
            found["timeline"] = asdict(timeline) if timeline else None
        return found

    details = decode(JobDetails, as_user(request.user, work))
    return replace(details, status=settled(request.user, request.job, job, details.status))


@handles(FollowJob)
def follow(request: FollowJob) -> News:
    """The job's state, as soon as it is another than `seen`, or after `wait` seconds.

    Thus a connection that was lost is taken up by asking again.
    """
    job = folders.started(request.shared, request.job)

    def work() -> Dict[str, Any]:
        check_there(request.shared, request.job)
        end = time.monotonic() + request.wait
        while True:
            seen = [_stamp(os.path.join(job.run, name)) for name in (job_names.STATUS, job_names.PROGRESS)]
            if request.seen is None or seen != list(request.seen) or time.monotonic() > end:
                return dict(documents(job), seen=seen)
            time.sleep(_LOOK_SECONDS)

    news = decode(News, as_user(request.user, work))
    return replace(news, status=settled(request.user, request.job, job, news.status))


@handles(CancelJob)
def cancel(request: CancelJob) -> Empty:
    """Stop the job, if it still runs or is to be started again. Its inputs are kept until it is removed."""
    job = folders.started(request.shared, request.job)

    def mark() -> None:
        with suppress(FileNotFoundError), open(os.path.join(job.run, job_names.CANCEL), "wb"):
            pass

    as_user(request.user, mark)
    starter.stop(request.job)

    def settle() -> None:
        """Of a job whose supervisor did not run: nobody else writes its status, or gives back what Slurm has given."""
        spec = files.read(StoredSpec, os.path.join(job.own, job_names.SPEC))
        if spec is not None and spec.slurm is not None:
            allocation.give_back(request.job)
        path = os.path.join(job.run, job_names.STATUS)
        status = files.read(Status, path)
        if status is not None and status.state in job_names.OPEN:
            files.write_json(path, replace(status, state=job_names.CANCELLED))

    as_user(request.user, settle)
    return Empty()


@handles(ResumeJob)
def resume(request: ResumeJob) -> Resumed:
    """Start the supervisor of a job that has ended without all results."""
    job = folders.started(request.shared, request.job)
    if starter.running([request.job]):
        return Resumed("it is running")

    def work() -> Dict[str, Any]:
        check_there(request.shared, request.job)
        path = os.path.join(job.run, job_names.STATUS)
        status = files.read(Status, path)
        if status is None or files.read_json(os.path.join(job.own, job_names.SPEC)) is None:
            return {"refused": "its files on the head are damaged"}
        if status.state == job_names.COMPLETE:
            return {"refused": "it is complete"}
        is_open = os.path.isdir(os.path.join(job.run, job_names.FEED))
        if not is_open and not os.path.isfile(os.path.join(job.share, job_names.PACK)):
            return {"refused": "its inputs are gone"}
        for mark in (job_names.CANCEL, job_names.END):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(job.run, mark))
        files.write_json(path, replace(status, state=job_names.STARTING, error=None, log=()))
        return {}

    resumed = Resumed(**as_user(request.user, work))
    if resumed.refused is None:
        starter.start(request.job, request.user, job.own)
    return resumed


def resumable(user: str, own: str) -> bool:
    """Whether a job, by its folder on the head's own disk, was interrupted, and not cancelled."""

    def look() -> bool:
        spec = files.read(StoredSpec, os.path.join(own, job_names.SPEC))
        if spec is None or not os.path.isdir(spec.folder):  # it was being made
            return False
        status = files.read(Status, os.path.join(own, job_names.RUN, job_names.STATUS))
        cancelled = os.path.lexists(os.path.join(own, job_names.RUN, job_names.CANCEL))
        return status is not None and not cancelled and status.state in job_names.OPEN

    return bool(as_user(user, look))


@handles(RemoveJob)
def remove(request: RemoveJob) -> JobRemoved:
    """Remove a job that does not run, also one that was never started, with all its files."""
    if starter.running([request.job]):
        return JobRemoved(False)
    hidden = folders.unstarted(request.shared, request.job)
    if os.path.isdir(hidden.share):  # a command that made it ended before it was started
        folders.remove(hidden)
        return JobRemoved(True)
    if not folders.bereft(request.shared, request.job):
        check_there(request.shared, request.job)
    folders.take_away(request.shared, request.job)
    return JobRemoved(True)


@handles(FetchFile)
def fetch(request: FetchFile) -> Generator[FilePiece, None, FileEnd]:
    """A file of the job, in pieces, and then its size."""
    if not _FETCHABLE.fullmatch(request.file):
        raise ValueError("%s is no file that a job gives out" % request.file)
    share = folders.started(request.shared, request.job).share

    def piece(offset: int) -> str:
        if not offset:
            check_there(request.shared, request.job)
        try:
            return _read(share, request.file, offset)
        except FileNotFoundError:
            raise AccountError("job %s has no file %s, or not yet" % (request.job, request.file)) from None

    size = offset = 0
    while True:
        data = as_user(request.user, lambda: piece(offset))  # noqa: B023 - called at once
        if not data:
            return FileEnd(size)
        yield FilePiece(data)
        offset += _FETCH_BYTES
        size += len(base64.b64decode(data))


def _read(share: str, name: str, offset: int) -> str:
    above, last = os.path.split(os.path.join(share, name))
    # Any board can put a link in the place of a folder of outputs.
    folder = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        with open(os.path.join(paths.by_descriptor(folder), last), "rb", opener=files.opener) as file:
            file.seek(offset)
            return base64.b64encode(file.read(_FETCH_BYTES)).decode("ascii")
    except OSError as error:
        error.filename = os.path.join(above, last)
        raise
    finally:
        os.close(folder)


def _bereft(shared: str, name: str) -> str:
    path = folders.started(shared, name).share
    return "its folder %s was removed; to remove the rest: clusteradm job remove %s" % (path, name)


def check_there(shared: str, name: str) -> None:
    """Raise AccountError where there is no such job."""
    job = folders.started(shared, name)
    if folders.bereft(shared, name):
        raise AccountError("job %s: %s" % (name, _bereft(shared, name)))
    if os.path.islink(job.share) or not os.path.isdir(job.share) or not os.path.isdir(job.own):
        raise AccountError("there is no job %s here%s; clusteradm job list shows them all" % (name, _near(name)))


def _near(name: str) -> str:
    """The job that was meant, perhaps."""
    import difflib  # of use for this alone

    near = difflib.get_close_matches(name, folders.owned(), 1, 0.8)
    return " (is %s meant?)" % near[0] if near else ""


def documents(job: Folders) -> Dict[str, Any]:
    """status.json and progress.json, as they are. Raises OSError for something else in the place of the first."""
    path = os.path.join(job.run, job_names.STATUS)
    status = files.read_json(path)
    # It may have been written between the two looks.
    if status is None and os.path.lexists(path) and files.read_json(path) is None:
        remedy = "clusteradm job remove %s" % os.path.basename(job.own)
        raise OSError(errno.EINVAL, "it is not what a job writes; to remove the job: " + remedy, path)
    return {
        "status": status or {"state": job_names.STARTING},
        "progress": files.read_json(os.path.join(job.run, job_names.PROGRESS)),
    }


def settled(user: str, name: str, job: Folders, status: Status) -> Status:
    """The status; that of an interrupted job where it is unfinished and no supervisor runs any more."""
    if status.state not in job_names.OPEN:
        return status
    if starter.running([name]):
        return replace(status, state=job_names.STARTING) if status.state == job_names.INTERRUPTED else status
    # It may have written its last status and ended between the two looks.
    last = decode(Status, as_user(user, lambda: documents(job)["status"]))
    if last.state not in job_names.OPEN:
        return last
    kills = oom.since(last.kills, oom.of_host())
    error = _OUT_OF_MEMORY % oom.said("the head", kills) + REMEDY % ("head", name) if kills else _CUT_OFF % name
    return replace(last, state=job_names.INTERRUPTED, error=error, log=tuple(starter.log(name)), ahead=())


def _summary(job: str, place: Folders) -> JobSummary:
    try:
        found = documents(place)
        status = decode(Status, found["status"])
        progress: Optional[Progress] = decode(Progress, found["progress"]) if found["progress"] else None
    except OSError as error:
        return JobSummary(job, DAMAGED, error="%s: %s" % (error.filename, error.strerror))
    except WireError as error:
        return JobSummary(job, DAMAGED, error=str(error))
    done = status.images if status.state == job_names.COMPLETE else progress.done if progress else 0
    return JobSummary(
        job,
        status.state,
        model=status.model.name if status.model else None,
        version=status.model.version if status.model else None,
        total=status.total or (progress.total if progress else 0),
        done=done,
        attempts=len(status.attempts),
        error=status.error,
        ahead=status.ahead,
        slurm=status.slurm,
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
