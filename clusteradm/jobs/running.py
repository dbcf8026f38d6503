"""Jobs that run now, with what their ranks have done."""

from __future__ import annotations

import contextlib

from clusteradm.errors import ClusteradmError
from clusteradm.jobs.job import Jobs
from clusteradm.node.spec.wire.job_names import UNFINISHED
from clusteradm.node.spec.wire.job_requests import JobDetails


def running(jobs: Jobs) -> list[JobDetails]:
    """The jobs, in their order; none where the head cannot say, a job less where its files are damaged."""
    found = []
    with contextlib.suppress(ClusteradmError):
        for summary in jobs.list():
            if summary.state in UNFINISHED:
                with contextlib.suppress(ClusteradmError):
                    found.append(jobs.show(summary.job))
    return found
