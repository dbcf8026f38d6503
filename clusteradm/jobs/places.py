"""Hosts that running jobs use."""

from __future__ import annotations

from clusteradm.jobs.job import Jobs
from clusteradm.node.spec.wire.job_names import OPEN


def running_on(jobs: Jobs) -> dict[str, list[str]]:
    """The jobs that run, or are to go on, by host: in their last attempt they have ranks there."""
    found: dict[str, list[str]] = {}
    for summary in jobs.list():
        if summary.state not in OPEN:
            continue
        details = jobs.show(summary.job)
        if details.status.state not in OPEN or not details.status.attempts:
            continue
        for host in details.status.attempts[-1].hosts:
            found.setdefault(host, []).append(summary.job)
    return found
