"""OOM killer of this host: how many processes the kernel has ended for lack of memory, by its own counters.

A process that it ends has got SIGKILL, as from anybody: the counters tell the two apart. They say how many it ended,
not which: that is in the kernel's log, which only root reads. It counts before the process ends.
"""

import os
import re
from contextlib import suppress
from typing import Optional

_GROUPS = "sys/fs/cgroup"
_COUNT = re.compile(rb"^oom_kill (\d{1,18})$", re.M)
_EVENTS = "memory.events"
# On a container's root, and of a whole host: what `of_host` reads, as a shell does it.
LOOK = "cat /%s/%s /proc/vmstat 2>/dev/null | grep '^oom_kill '" % (_GROUPS, _EVENTS)


def of_group(root: str = "/") -> Optional[int]:
    """Processes ended in this process's control group and those below; in the nearest one above, where that counts
    none (memory accounting is off there). None where the kernel does not count."""
    with suppress(OSError), open(os.path.join(root, "proc/self/cgroup"), "rb") as file:
        for line in file.read().splitlines():
            number, kinds, path = line.split(b":", 2)
            if b"memory" in kinds.split(b","):
                found = _nearest(root, "memory", path, "memory.oom_control")
            elif (number, kinds) == (b"0", b""):
                found = _nearest(root, "", path, _EVENTS)
            else:
                continue
            if found is not None:
                return found
    return of_host(root)


def of_host(root: str = "/") -> Optional[int]:
    """Processes ended on this host, or in this container, since its start; None where the kernel does not count."""
    for name in (os.path.join(_GROUPS, _EVENTS), "proc/vmstat"):
        found = _read(os.path.join(root, name))
        if found is not None:
            return found
    return None


def count(text: bytes) -> Optional[int]:
    """The first count in what LOOK prints, or in a file of the kernel's; None where there is none."""
    found = _COUNT.search(text)
    return int(found.group(1)) if found else None


def since(before: Optional[int], now: Optional[int]) -> int:
    """Processes ended between two counts; 0 where that is not known."""
    return 0 if before is None or now is None else max(0, now - before)


def said(host: str, kills: int) -> str:
    """What is known of a host, for a person."""
    return "the kernel of %s has ended %d process%s for lack of memory" % (host, kills, "" if kills == 1 else "es")


def _nearest(root: str, hierarchy: str, path: bytes, name: str) -> Optional[int]:
    top = os.path.join(root, _GROUPS, hierarchy)
    parts = [part for part in os.fsdecode(path).split("/") if part not in ("", "..")]
    for length in range(len(parts), -1, -1):
        found = _read(os.path.join(top, *parts[:length], name))
        if found is not None:
            return found
    return None


def _read(path: str) -> Optional[int]:
    try:
        with open(path, "rb") as file:
            return count(file.read(1 << 16))
    except OSError:
        return None
