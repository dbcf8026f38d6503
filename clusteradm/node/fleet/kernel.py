"""Files of sysfs by which root tells the kernel something, and the wait for what it makes of that."""

import grp
import os
import pwd
import stat
import time
from typing import Callable, Optional


def write(path: str, text: str) -> None:
    """Write to a file. Raises OSError."""
    # Opened for writing alone: the kernel lets nobody read some of them, not even root.
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode("ascii"))
    finally:
        os.close(descriptor)


def wait(seconds: float, reached: Callable[[], bool]) -> bool:
    """Wait for something to be true; whether it is within this time."""
    end = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def node(path: str) -> Optional[str]:
    """Mode and owner of a device node, as "0660 root:apex"; None where there is none."""
    try:
        about = os.stat(path)
        owner, group = pwd.getpwuid(about.st_uid).pw_name, grp.getgrgid(about.st_gid).gr_name
    except (OSError, KeyError):
        return None
    return "%04o %s:%s" % (stat.S_IMODE(about.st_mode), owner, group)
