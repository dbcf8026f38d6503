"""A job that is run for what it finds, and removed at its end, whatever that is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from clusteradm.errors import ClusteradmError, UsageError
from clusteradm.jobs.inputs import HeadInputs, LocalInputs
from clusteradm.jobs.job import Jobs, Update
from clusteradm.jobs.plan import Plan
from clusteradm.node.spec.wire.job import Status

_REMOVED = 15.0  # seconds until the supervisor of a complete job has ended
_PAUSE = 0.2

# Follows a job to its end.
Follow = Callable[[str, Iterator[Update]], Status]
Sent = Callable[[int, int], None]


@contextlib.contextmanager
def passing(
    jobs: Jobs,
    inputs: LocalInputs | HeadInputs,
    plan: Plan,
    follow: Follow,
    sent: Callable[[], contextlib.AbstractContextManager[Sent]],
) -> Iterator[tuple[str, Status]]:
    """Run the job; in the block, its results can be fetched. `sent`: shows how much of the inputs has been sent.

    Raises HostFailed where the job fails, HostUnreachable, UsageError.
    """
    with sent() as progress:
        job, _ = jobs.submit(inputs, plan, top=plan.top, progress=progress)
    try:
        status = follow(job, jobs.follow(job))
        jobs.check(job, status)
        yield job, status
    except BaseException:
        # Also on Ctrl-C: no TPU is to be at work for nobody.
        with contextlib.suppress(ClusteradmError):
            jobs.cancel(job)
            _remove(jobs, job)
        raise
    _remove(jobs, job)


def _remove(jobs: Jobs, job: str) -> None:
    """Remove a job that has ended; its supervisor may take a moment more."""
    end = time.monotonic() + _REMOVED
    while True:
        try:
            jobs.remove(job)
            return
        except UsageError:
            if time.monotonic() > end:
                raise
            time.sleep(_PAUSE)
