"""Queue of the jobs of this head: which ones a job has to wait for, as they have its TPUs or are before it.

Told from what root wrote, spec.json, and from systemd; the order is that in which the jobs were started. A job on CPUs
waits for none.
"""

import os
from typing import List, Optional, Set, Tuple

from clusteradm.node.job import files, folders, starter
from clusteradm.node.job.plan import place
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.job import JobSpec, Status, StoredSpec


def ahead(spec: JobSpec, job: str) -> List[str]:
    """The jobs that `job`, started or about to be, has to wait for: the one at work and then those before it."""
    mine, turn = _tpus(spec), _turn(job)
    found = []
    for other in folders.owned():
        theirs = None if other == job else files.read(StoredSpec, os.path.join(folders.own(other), job_names.SPEC))
        if theirs is None or mine.isdisjoint(_tpus(theirs)):
            continue
        before = _turn(other)
        if _works(other) or turn is None or (before is not None and before < turn):
            found.append((before or (0, other), other))
    running = starter.running([other for _, other in found]) if found else set()
    return [other for _, other in sorted(found) if other in running]


def _tpus(spec: JobSpec) -> Set[Tuple[str, str]]:
    """The TPUs that the job's ranks have."""
    ranks = place(spec.slots, spec.ranks)
    return {(rank.host, rank.pci_address) for rank in ranks if rank.pci_address is not None}


def _turn(job: str) -> Optional[Tuple[int, str]]:
    """When it was started, as a place in order; None where it was not yet."""
    try:
        return os.stat(os.path.join(folders.own(job), job_names.SPEC)).st_mtime_ns, job
    except OSError:
        return None


def _works(job: str) -> bool:
    """Whether it has its TPUs: also a job that was resumed waits for it."""
    status = files.read(Status, os.path.join(folders.own(job), job_names.RUN, job_names.STATUS))
    return status is not None and status.state == job_names.RUNNING
