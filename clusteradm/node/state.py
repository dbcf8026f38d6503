"""State directory of the node: the package, batches, file bodies."""

import contextlib
import os

PRIVATE = 0o700


def state_directory() -> str:
    """The state directory; tests set another."""
    return os.environ.get("CLUSTERADM_STATE", "/var/lib/clusteradm")


def private(*parts: str) -> str:
    """A directory below it that only its owner (root) can enter; created if it is missing."""
    path = os.path.join(state_directory(), *parts)
    if not os.path.isdir(path):
        os.makedirs(path, 0o755, exist_ok=True)
        os.chmod(path, PRIVATE)
    return path


def model_copy(sha256: str) -> str:
    """Path of a host's own copy of a model, which need not be there; everybody may read it."""
    return os.path.join(state_directory(), "models", sha256)


def owners(path: str, flags: int) -> int:
    """An opener for open(): a file that is made is its owner's alone, for whoever may open a file may hold its lock."""
    return os.open(path, flags, 0o600)


def boot_id() -> str:
    """The kernel's id of this boot; "" if it has none."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
    return ""
