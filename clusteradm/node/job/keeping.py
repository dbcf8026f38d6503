"""Keeping of ended jobs: which are removed, by age and size. One that can still be resumed by itself never is."""

import os
import time
from contextlib import suppress
from typing import List, NamedTuple, Optional, Sequence

from clusteradm.node.account import AccountError, as_user
from clusteradm.node.job import files, folders, starter
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.job import Status


class Ended(NamedTuple):
    """A job that has ended: when, in seconds since 1970; the bytes of its files."""

    job: str
    when: float
    size: int


def remove(shared: str, user: str, seconds: Optional[float], size: Optional[int]) -> None:
    """Remove the jobs that are beyond these limits. One that cannot be removed costs nothing else."""
    if seconds is None and size is None:
        return
    for job in surplus(ended(shared, user), time.time(), seconds, size):
        with suppress(OSError):
            folders.take_away(shared, job)


def surplus(jobs: Sequence[Ended], now: float, seconds: Optional[float], size: Optional[int]) -> List[str]:
    """The jobs to remove, the one that ended first before others."""
    left = sum(job.size for job in jobs)
    found = []
    for job in sorted(jobs, key=lambda one: one.when):
        if (seconds is not None and now - job.when > seconds) or (size is not None and left > size):
            found.append(job.job)
            left -= job.size
    return found


def ended(shared: str, user: str) -> List[Ended]:
    """Every job that has ended, and whose supervisor does not run."""

    def look() -> List[List[object]]:
        found: List[List[object]] = []
        for job in folders.owned():
            path = os.path.join(folders.started(shared, job).run, job_names.STATUS)
            with suppress(OSError):  # something else in its place
                status = files.read(Status, path)
                if status is not None and status.state not in job_names.OPEN:
                    found.append([job, os.stat(path).st_mtime])
        return found

    try:
        found = as_user(user, look)
    except AccountError:
        return []
    running = starter.running(job for job, _ in found)
    return [Ended(job, when, _size(shared, job)) for job, when in found if job not in running]


def _size(shared: str, job: str) -> int:
    size = 0
    for top in folders.started(shared, job):
        for path, _, names in os.walk(top):
            for name in names:
                with suppress(OSError):
                    size += os.lstat(os.path.join(path, name)).st_size
    return size
