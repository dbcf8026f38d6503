"""The same work on many hosts at a time: bounded, and nothing of it lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from clusteradm.errors import ClusteradmError
from clusteradm.inventory import Host

DEFAULT_FORKS = 32

T = TypeVar("T")


@dataclass
class Outcome(Generic[T]):
    """What the work gave, per host name: a result, or the error that ended it."""

    ok: dict[str, T] = field(default_factory=dict)
    failed: dict[str, ClusteradmError] = field(default_factory=dict)


def fan_out(
    hosts: Iterable[Host],
    work: Callable[[Host], T],
    *,
    forks: int,
    on_done: Callable[[Host], None] | None = None,
) -> Outcome[T]:
    """Run `work` for every host, `forks` at a time. Expected errors are kept; a defect is raised as it is.

    Ctrl-C in the main thread is raised at once: what has not begun is not begun any more.
    """
    outcome: Outcome[T] = Outcome()
    pool = ThreadPoolExecutor(max_workers=forks, thread_name_prefix="clusteradm")
    try:
        futures: dict[Future[T], Host] = {pool.submit(work, host): host for host in hosts}
        left = set(futures)
        while left:
            done, left = wait(left, return_when=FIRST_COMPLETED)
            for future in done:
                host = futures[future]
                try:
                    outcome.ok[host.name] = future.result()
                except ClusteradmError as error:
                    outcome.failed[host.name] = error
                if on_done:
                    on_done(host)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return outcome
