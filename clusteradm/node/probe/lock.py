"""Lock between the probe that reads the owners of the TPUs and the trial that opens them.

Without it a trial looks like a foreign process that owns the TPU, and the next job gets no slot on it.
"""

import fcntl
import os
import time
from contextlib import contextmanager
from typing import Iterator

_LOCK = "run/clusteradm-tpu.lock"
_POLL_SECONDS = 0.02


@contextmanager
def tpu_lock(root: str, seconds: float) -> Iterator[bool]:
    """Hold the lock; yields False if the other holds it longer than `seconds`, or there is no place for the file."""
    try:
        descriptor = os.open(os.path.join(root, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield False
        return
    try:
        # A POSIX lock: a child that hangs in the kernel does not keep it.
        yield _wait(descriptor, seconds)
    finally:
        os.close(descriptor)


def _wait(descriptor: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() > end:
                return False
            time.sleep(_POLL_SECONDS)
