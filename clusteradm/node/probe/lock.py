"""Locks between probes.

Of the TPUs, between the probe that reads their owners and the trial that opens them: without it a trial looks like a
foreign process that owns the TPU, and the next job gets no slot on it. Of the share, between one probe and the next:
without it processes that hang on a dead mount, where no signal reaches them, would become more with every round.
"""

import fcntl
import os
import time
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Optional

_LOCK = "run/clusteradm-tpu.lock"
_SHARE_LOCK = "run/clusteradm-share.lock"
_POLL_SECONDS = 0.02


@contextmanager
def tpu_lock(root: str, seconds: float) -> Iterator[bool]:
    """Hold the lock; yields False if the other holds it longer than `seconds`, or there is no place for the file."""
    # A POSIX lock: a child that hangs in the kernel does not keep it.
    with _held(os.path.join(root, _LOCK), seconds, fcntl.lockf) as acquired:
        yield bool(acquired)


@contextmanager
def share_lock(root: str, seconds: float) -> Iterator[bool]:
    """Hold the lock together with each child that is forked meanwhile, until the last of them ends.

    Yields False if it is held for longer than `seconds`; True where there is no place for the file.
    """
    # A BSD lock: it belongs to the open file, which a forked child has as well.
    with _held(os.path.join(root, _SHARE_LOCK), seconds, fcntl.flock) as acquired:
        yield acquired is not False


@contextmanager
def _held(path: str, seconds: float, lock: Callable[[int, int], Any]) -> Iterator[Optional[bool]]:
    """Whether the lock was acquired; None where there is no place for the file."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield None
        return
    try:
        yield _wait(descriptor, seconds, lock)
    finally:
        os.close(descriptor)


def _wait(descriptor: int, seconds: float, lock: Callable[[int, int], Any]) -> bool:
    end = time.monotonic() + seconds
    while True:
        try:
            lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() > end:
                return False
            time.sleep(_POLL_SECONDS)
