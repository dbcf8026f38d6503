"""Room on the disks that a job writes to: a job waits for some, and goes on where it was."""

import errno
import os
import time
from contextlib import contextmanager
from typing import Callable, Iterable, Iterator, List, Optional, TypeVar

T = TypeVar("T")

LEAST_BYTES = 1 << 20
SECONDS = 3600.0  # for somebody to make room
_LOOK_SECONDS = 1.0
_FULL = (errno.ENOSPC, errno.EDQUOT)


def lacking(folders: Iterable[str]) -> List[str]:
    """Those of the folders whose file system is full for their user."""
    found = []
    for folder in folders:
        try:
            about = os.statvfs(folder)
        except OSError:
            continue  # what is wrong with it, whoever writes there says
        if about.f_bavail * about.f_frsize < LEAST_BYTES:
            found.append(folder)
    return found


def wait(folders: Iterable[str], say: Callable[[str], None]) -> bool:
    """Wait until there is room in all of them; whether there was none at first. Raises OSError after an hour."""
    wanted = list(folders)
    end: Optional[float] = None
    while True:
        full = lacking(wanted)
        if not full:
            return end is not None
        if end is None:
            end = time.monotonic() + SECONDS
            say("no space left in %s: waiting for some" % ", ".join(full))
        elif time.monotonic() > end:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), full[0])
        time.sleep(_LOOK_SECONDS)


@contextmanager
def unless_full() -> Iterator[None]:
    """What is not written where the disk is full is done without."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise


def insist(write: Callable[[], T]) -> T:
    """Do what writes; again as long as the disk is full, for an hour. Raises OSError."""
    end = time.monotonic() + SECONDS
    while True:
        try:
            return write()
        except OSError as error:
            if error.errno not in _FULL or time.monotonic() > end:
                raise
            time.sleep(_LOOK_SECONDS)
