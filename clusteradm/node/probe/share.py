"""The shared file system: mounted from where, and whether the cluster user can write and read it now."""

import os
import re
from typing import Any, Dict, Optional

from clusteradm.node.probe import read
from clusteradm.node.probe.attempt import attempt

# A stale or hung mount must not hang the probe.
_SECONDS = 10.0


def probe(root: str, options: Dict[str, Any]) -> Dict[str, Any]:
    """The mount at `options["shared"]`, and a file written, read back and removed there by `options["user"]`."""
    path = options["shared"]
    return {
        "path": path,
        "mount": mount(read(root, "proc/self/mountinfo") or "", path),
        "use": attempt(options["user"], _SECONDS, lambda: use(path)),
    }


def mount(mountinfo: str, path: str) -> Optional[Dict[str, str]]:
    """What is mounted exactly there: source, file system type, options; None if nothing is."""
    found = None
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if separator and len(fields) > 5 and len(tail) > 1 and _plain(fields[4]) == path:
            found = {"type": tail[0], "source": _plain(tail[1]), "options": fields[5]}
    return found


def _plain(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), text)


def use(path: str) -> Dict[str, Any]:
    """Write, read back, remove. Raises OSError."""
    name = os.path.join(path, ".probe-%s-%d" % (os.uname().nodename, os.getpid()))
    token = os.urandom(16)
    with open(name, "wb") as file:
        try:
            file.write(token)
            file.flush()
            os.fsync(file.fileno())
            with open(name, "rb") as again:
                same = again.read() == token
        finally:
            os.unlink(name)
    if not same:
        raise OSError("what was written did not come back")
    return {}
