"""Section "share": where the shared file system is mounted from, and whether the cluster user can use it now."""

import os
import re
import socket
import struct
from typing import Any, Dict, List, Optional

from clusteradm.node.probe import pace
from clusteradm.node.probe.attempt import attempt
from clusteradm.node.probe.lock import share_lock
from clusteradm.node.spec.wire.job_names import JOBS
from clusteradm.node.texts import read

# A stale or hung mount must not hang the probe.
_SECONDS = 4.0
# For the file, where the server answers: a disk that has much to write makes fsync wait for all of it.
_WRITE_SECONDS = 7.0


def probe(root: str, options: Dict[str, Any]) -> Dict[str, Any]:
    """The mount at `options["shared"]`, and a file written, read back and removed in its jobs/ by `options["user"]`.

    "answers": whether the server gave an answer, where the file was not written in time.
    """
    path = options["shared"]
    there = mount(read(root, "proc/self/mountinfo") or "", path)
    used: Dict[str, Any] = {"ok": False, "error": "an earlier probe still waits for it", "timeout": True}
    squashed = None
    with share_lock(root, pace.seconds(_SECONDS / 2)) as acquired:
        if acquired:
            used = attempt(options["user"], _SECONDS, lambda: ask(path))
            if used["ok"]:
                used = attempt(options["user"], _WRITE_SECONDS, lambda: use(os.path.join(path, JOBS)))
                used.setdefault("answers", True)
            # On the head it is a folder of its own.
            if options.get("head") and used["ok"]:
                squashed = attempt("root", _SECONDS / 2, lambda: as_root(path))
    return {
        "path": path,
        "mount": there,
        "use": used,
        "root": squashed,
        "listens": listens(read(root, "proc/net/tcp") or "", read(root, "proc/net/tcp6") or ""),
    }


def mount(mountinfo: str, path: str) -> Optional[Dict[str, str]]:
    """The mount at exactly this path: source, file system type, options; None if there is none."""
    found = None
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if separator and len(fields) > 5 and len(tail) > 1 and _plain(fields[4]) == path:
            found = {"type": tail[0], "source": _plain(tail[1]), "options": fields[5]}
    return found


def _plain(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), text)


def ask(path: str) -> Dict[str, Any]:
    """Have the server answer: for a name that nobody has asked for, no cache of this host has the answer."""
    os.path.lexists(os.path.join(path, ".probe-%s" % os.urandom(8).hex()))
    return {}


def use(path: str) -> Dict[str, Any]:
    """Write a file, rename it, read it back, remove it. Raises OSError."""
    # One name per host: what an earlier probe left that was ended in the middle is written over. See share_lock().
    name = os.path.join(path, ".probe-%s" % os.uname().nodename)
    token = os.urandom(16)
    with open(name, "wb") as file:
        try:
            file.write(token)
            file.flush()
            os.fsync(file.fileno())
            os.rename(name, name + ".new")
            name += ".new"
            with open(name, "rb") as again:
                same = again.read() == token
        finally:
            os.unlink(name)
    if not same:
        raise OSError("a file there has not the content that was written to it")
    return {}


def as_root(path: str) -> Dict[str, Any]:
    """Whether this host's root has no rights there (root_squash): {"squashed": true or false}. Raises OSError."""
    name = os.path.join(path, ".probe-root-%s-%d" % (os.uname().nodename, os.getpid()))
    try:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except PermissionError:
        return {"squashed": True}
    try:
        return {"squashed": os.stat(name).st_uid != 0}
    finally:
        os.unlink(name)


def listens(*tables: str) -> List[str]:
    """The IPv4 addresses at which an NFS server listens (port 2049); "*" for all. From /proc/net/tcp and tcp6."""
    found = set()
    for line in "\n".join(tables).splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[3] == "0A" and fields[1].endswith(":0801"):
            address = fields[1].split(":")[0][-8:]
            found.add("*" if int(address, 16) == 0 else socket.inet_ntoa(struct.pack("=I", int(address, 16))))
    return sorted(found)
