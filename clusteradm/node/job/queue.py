"""Queue of the jobs of this head: which ones a job has to wait for, as they have its TPUs or are before it.

Told from what root wrote, spec.json, and from systemd; the order is that in which the jobs were started. A job on CPUs
waits for none.
"""

import functools
import os
from typing import Dict, List, Optional, Set, Tuple

from clusteradm.node.job import files, folders, starter
from clusteradm.node.job.plan import wanted
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.job import JobSpec, Slot, Status, StoredSpec


def ahead(spec: JobSpec, job: str) -> List[str]:
    """The jobs that `job`, started or about to be, has to wait for: the one at work and then those before it."""
    return list(_ahead(spec, job))


def left(spec: JobSpec, job: str) -> Tuple[Slot, ...]:
    """The slots that the jobs leave which `job` would have to wait for."""
    taken = set().union(*_ahead(spec, job).values())
    slots = [Slot(slot.host, tuple(tpu for tpu in slot.tpus if (slot.host, tpu) not in taken)) for slot in spec.slots]
    return tuple(slot for slot in slots if slot.tpus)


def _ahead(spec: JobSpec, job: str) -> Dict[str, Set[Tuple[str, str]]]:
    """The jobs, each with its TPUs."""
    mine, turn = _tpus(spec), _turn(job)
    found = []
    for other in folders.owned():
        before = _turn(other)
        if before is None or other == job:
            continue
        tpus = _tpus_of(other, before)
        if not mine.isdisjoint(tpus) and (turn is None or before < turn or _works(other)):
            found.append((before, other, tpus))
    running = starter.running([other for _, other, _ in found]) if found else set()
    return {other: tpus for _, other, tpus in sorted(found) if other in running}


def _tpus(spec: JobSpec) -> Set[Tuple[str, str]]:
    """The TPUs that the job has."""
    return {(rank.host, rank.pci_address) for rank in wanted(spec) if rank.pci_address is not None}


@functools.lru_cache(maxsize=1000)
def _tpus_of(job: str, turn: Tuple[int, str]) -> Set[Tuple[str, str]]:
    """The TPUs of another job, whose spec was written at `turn`: many are kept, and who waits looks every second."""
    spec = files.read(StoredSpec, os.path.join(folders.own(job), job_names.SPEC))
    return set() if spec is None or spec.slurm else _tpus(spec)  # which of them Slurm gives it is open


def _turn(job: str) -> Optional[Tuple[int, str]]:
    """When it was started, as a place in order; None where it was not yet."""
    try:
        return os.stat(os.path.join(folders.own(job), job_names.SPEC)).st_mtime_ns, job
    except OSError:
        return None


def _works(job: str) -> bool:
    """Whether it has its TPUs: also a job that was resumed waits for it."""
    try:
        status = files.read(Status, os.path.join(folders.own(job), job_names.RUN, job_names.STATUS))
    except OSError:  # something else in its place
        return False
    return status is not None and status.state == job_names.RUNNING
