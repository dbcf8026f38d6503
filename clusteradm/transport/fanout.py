"""The same work on many hosts at a time: bounded, and nothing of it lost."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

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

    Ctrl-C in the main thread is raised at once: what has not begun is not begun any more, and what hangs holds nobody
    up. (The threads of a ThreadPoolExecutor would: the interpreter waits for each of them before it ends.)
    """
    outcome: Outcome[T] = Outcome()
    todo: queue.SimpleQueue[Host] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[Host, T | None, BaseException | None]] = queue.SimpleQueue()
    stopped = threading.Event()

    def run() -> None:
        while not stopped.is_set():
            try:
                host = todo.get_nowait()
            except queue.Empty:
                return
            try:
                ended.put((host, work(host), None))
            except BaseException as error:
                ended.put((host, None, error))

    left = 0
    for host in hosts:
        todo.put(host)
        left += 1
    threads = [
        threading.Thread(target=run, name=f"clusteradm-{number}", daemon=True) for number in range(min(forks, left))
    ]
    for thread in threads:
        thread.start()
    try:
        while left:
            host, result, error = ended.get()
            left -= 1
            if isinstance(error, ClusteradmError):
                outcome.failed[host.name] = error
            elif error is not None:
                raise error
            else:
                outcome.ok[host.name] = cast(T, result)
            if on_done:
                on_done(host)
    finally:
        stopped.set()
    for thread in threads:
        thread.join()
    return outcome
