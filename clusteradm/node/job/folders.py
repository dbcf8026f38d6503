"""Folders of a job: one on the shared file system, which every board can write, and one on the head's own disk.

What the head executes or believes is in the second alone: the spec is root's; `run` belongs to the cluster user, whose
supervisor and rank 0 write it. The first has bulk data: inputs, results, the log.
"""

import os
import pwd
import re
import shutil
from contextlib import suppress
from typing import List, NamedTuple

from clusteradm.node import paths
from clusteradm.node.spec.wire import job_names
from clusteradm.node.state import state_directory


class Folders(NamedTuple):
    """`share`: CLUSTER_SHARED/jobs/ID, with a dot before the ID until the job is started; `own`: on the head's disk."""

    share: str
    own: str

    @property
    def run(self) -> str:
        """Folder of what changes while the job is made and runs."""
        return os.path.join(self.own, job_names.RUN)


def started(shared: str, job: str) -> Folders:
    """The folders of a job that was started."""
    return Folders(os.path.join(shared, job_names.JOBS, job), own(job))


def unstarted(shared: str, job: str) -> Folders:
    """The folders of a job until then: no listing shows it."""
    return Folders(os.path.join(shared, job_names.JOBS, "." + job), own(job))


def own(job: str) -> str:
    """The job's folder on the head's own disk."""
    return os.path.join(state_directory(), job_names.JOBS, job)


def owned() -> List[str]:
    """The jobs that have a folder on the head's own disk, the oldest first."""
    try:
        return sorted(filter(re.compile(job_names.ID).fullmatch, os.listdir(os.path.dirname(own("")))))
    except FileNotFoundError:
        return []


def bereft(shared: str, job: str) -> bool:
    """Whether the job has a folder on the head's own disk alone: that on the share was removed by hand."""
    there = any(os.path.lexists(one.share) for one in (started(shared, job), unstarted(shared, job)))
    return os.path.isdir(own(job)) and not there


def make(folders: Folders, user: str) -> None:
    """Make both. Raises OSError where the folder of all jobs is no folder, or a link.

    That on the share is root's, writable by the cluster user's group, and sticky: the user can neither put anything
    else in its place nor in the place of what root has put there.
    """
    account = pwd.getpwnam(user)
    above, name = os.path.split(folders.share)
    with paths.folder(above) as jobs:
        paths.make(jobs, name, 0o1775, os.geteuid(), account.pw_gid)
    os.makedirs(os.path.dirname(folders.own), exist_ok=True)
    os.mkdir(folders.own)
    for path in (os.path.dirname(folders.own), folders.own):
        os.chmod(path, 0o755)  # noqa: S103 - whatever the umask: the cluster user goes through them
    with paths.folder(folders.own) as mine:
        paths.make(mine, job_names.RUN, 0o755, account.pw_uid, account.pw_gid)


def rename(before: str, after: str) -> None:
    """Rename a folder among all jobs."""
    above, name = os.path.split(before)
    with paths.folder(above) as jobs:
        os.rename(name, os.path.basename(after), src_dir_fd=jobs, dst_dir_fd=jobs)
        with suppress(OSError):  # not every file system can
            os.fsync(jobs)


def take_away(shared: str, job: str) -> None:
    """Remove a started job: by one rename first, so that no listing shows half a job.

    What is left after an interruption goes with the next job that is made.
    """
    visible, hidden = started(shared, job), unstarted(shared, job)
    if not bereft(shared, job):
        rename(visible.share, hidden.share)
    remove(hidden)


def remove(folders: Folders) -> None:
    """Remove both with all that is in them; links in them are removed, not followed."""
    shutil.rmtree(folders.own, ignore_errors=True)
    shutil.rmtree(folders.share, ignore_errors=True)
