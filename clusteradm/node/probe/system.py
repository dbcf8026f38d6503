"""Section "system": identity, uptime, memory, disks, failed units."""

import math
import os
import re
import tempfile
from typing import Any, Dict, List, Optional

from clusteradm.node.probe.attempt import attempt
from clusteradm.node.probe.programs import output
from clusteradm.node.texts import number, read

_TMP_SECONDS = 2.0
_TMP_BYTES = 256 << 10


def probe(root: str, options: Dict[str, Any]) -> Dict[str, Any]:
    """Sizes in bytes, uptime in seconds; null for what the machine does not have."""
    release = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', read(root, "etc/os-release") or "", re.M))
    memory = meminfo(root)
    return {
        "id": release.get("ID"),
        "name": release.get("PRETTY_NAME"),
        "release": release.get("VERSION_ID"),
        "kernel": read(root, "proc/sys/kernel/osrelease"),
        "model": (read(root, "proc/device-tree/model") or "").rstrip("\0") or None,
        "machine_id": read(root, "etc/machine-id"),
        "uptime": uptime(root),
        "load": load(root),
        "processors": os.cpu_count(),
        "memory_total": memory.get("MemTotal"),
        "memory_available": memory.get("MemAvailable"),
        "tmp": attempt(options["user"], _TMP_SECONDS, write_to_tmp) if options.get("user") else None,
        "disks": {path: disk(root, path) for path in ("/", "/var", "/boot", *shared(options))},
        "failed_units": failed_units(),
    }


def write_to_tmp() -> Dict[str, Any]:
    """As the cluster user: a file in /tmp, where MPI and every trial of a TPU have theirs. Raises OSError.

    {"free": bytes that are free there for users}
    """
    descriptor, path = tempfile.mkstemp(prefix="clusteradm-probe-", dir="/tmp")
    try:
        with open(descriptor, "wb") as file:
            file.write(b"\0" * _TMP_BYTES)
    finally:
        os.unlink(path)
    about = os.statvfs(os.path.dirname(path))
    return {"free": about.f_bavail * about.f_frsize}


def meminfo(root: str) -> Dict[str, int]:
    """/proc/meminfo: bytes by name."""
    lines = re.findall(r"^(\w+):\s+(\d+) kB$", read(root, "proc/meminfo") or "", re.M)
    kilobytes = {name: number(text) for name, text in lines}
    return {name: value * 1024 for name, value in kilobytes.items() if value is not None}


def uptime(root: str) -> Optional[float]:
    """Seconds since boot, from /proc/uptime."""
    try:
        seconds = float((read(root, "proc/uptime") or "").split()[0])
    except (IndexError, ValueError):
        return None
    return seconds if math.isfinite(seconds) else None


def load(root: str) -> Optional[float]:
    """The load average over one minute, from /proc/loadavg."""
    try:
        average = float((read(root, "proc/loadavg") or "").split()[0])
    except (IndexError, ValueError):
        return None
    return average if math.isfinite(average) else None


def shared(options: Dict[str, Any]) -> List[str]:
    """The shared folder, on the head alone: on a compute node it is a mount, which can hang."""
    return [options["shared"]] if options.get("shared") and options.get("head") is None else []


def disk(root: str, path: str) -> Optional[Dict[str, int]]:
    """Bytes and inodes, all and free (for users), of the file system that holds `path`, and its device."""
    place = os.path.join(root, path.lstrip("/"))
    try:
        about, device = os.statvfs(place), os.stat(place).st_dev
    except OSError:
        return None
    return {
        "device": device,
        "size": about.f_blocks * about.f_frsize,
        "free": about.f_bavail * about.f_frsize,
        "inodes": about.f_files,
        "inodes_free": about.f_favail,
    }


def failed_units() -> Optional[List[str]]:
    """Names of the failed units; None if systemd does not answer."""
    # Less than the section's time limit: a systemd that hangs must not cost the rest of the section.
    said = output(["systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager"], 5.0)
    return None if said is None else [line.split()[0] for line in said.splitlines() if line.split()]
