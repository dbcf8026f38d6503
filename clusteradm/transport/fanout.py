"""The same work on many hosts, a bounded number at a time, with every result and error kept."""

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
    """Results and errors by host name; every host is in exactly one of the two."""

    ok: dict[str, T] = field(default_factory=dict)
    failed: dict[str, ClusteradmError] = field(default_factory=dict)


def fan_out(
    hosts: Iterable[Host],
    work: Callable[[Host], T],
    *,
    forks: int,
    on_done: Callable[[Host], None] | None = None,
) -> Outcome[T]:
    """Run `work` on every host, `forks` at a time. A ClusteradmError is kept in the outcome; any other is raised.

    Ctrl-C in the main thread is raised at once: no further host is begun, and a thread that hangs is not waited for.
    (A ThreadPoolExecutor's would be: the interpreter joins each of its threads before it exits.)
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

    chosen = list(hosts)
    left = len(chosen)
    for host in chosen:
        todo.put(host)
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
    # In the hosts' order, not in that of their ends.
    ok = {host.name: outcome.ok[host.name] for host in chosen if host.name in outcome.ok}
    return Outcome(ok, {host.name: outcome.failed[host.name] for host in chosen if host.name in outcome.failed})
