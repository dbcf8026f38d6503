"""Where the node keeps its own things: the package, batches, file bodies."""

import contextlib
import os

PRIVATE = 0o700


def state_directory() -> str:
    """The root of the node's state; another one for tests."""
    return os.environ.get("CLUSTERADM_STATE", "/var/lib/clusteradm")


def private(*parts: str) -> str:
    """A directory below the state that only its owner (root) can enter; made if it is not there."""
    path = os.path.join(state_directory(), *parts)
    if not os.path.isdir(path):
        os.makedirs(path, 0o755, exist_ok=True)
        os.chmod(path, PRIVATE)
    return path


def owners(path: str, flags: int) -> int:
    """An opener for open(): a file that is made is its owner's alone, for whoever may open a file may hold its lock."""
    return os.open(path, flags, 0o600)


def boot_id() -> str:
    """The kernel's name for this boot; "" where it has none."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
    return ""
