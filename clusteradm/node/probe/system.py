"""The machine: identity, uptime, memory, disks, failed units."""

import os
import re
from typing import Any, Dict, List, Optional

from clusteradm.node.probe import output, read


def probe(root: str, options: Dict[str, Any]) -> Dict[str, Any]:
    """Sizes in bytes, uptime in seconds."""
    release = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', read(root, "etc/os-release") or "", re.M))
    memory = dict(re.findall(r"^(\w+):\s+(\d+) kB$", read(root, "proc/meminfo") or "", re.M))
    uptime = read(root, "proc/uptime")
    return {
        "id": release.get("ID"),
        "name": release.get("PRETTY_NAME"),
        "kernel": read(root, "proc/sys/kernel/osrelease"),
        "model": (read(root, "proc/device-tree/model") or "").rstrip("\0") or None,
        "machine_id": read(root, "etc/machine-id"),
        "uptime": float(uptime.split()[0]) if uptime else None,
        "memory_total": int(memory["MemTotal"]) * 1024 if "MemTotal" in memory else None,
        "memory_available": int(memory["MemAvailable"]) * 1024 if "MemAvailable" in memory else None,
        "disks": {path: disk(root, path) for path in ("/", "/var", "/boot")},
        "failed_units": failed_units(),
    }


def disk(root: str, path: str) -> Optional[Dict[str, int]]:
    """Bytes and inodes, all and free (for users), of the file system that holds `path`."""
    try:
        about = os.statvfs(os.path.join(root, path.lstrip("/")))
    except OSError:
        return None
    return {
        "device": os.stat(os.path.join(root, path.lstrip("/"))).st_dev,
        "size": about.f_blocks * about.f_frsize,
        "free": about.f_bavail * about.f_frsize,
        "inodes": about.f_files,
        "inodes_free": about.f_favail,
    }


def failed_units() -> Optional[List[str]]:
    """Names of the units that systemd calls failed; None where systemd does not answer."""
    said = output(["systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager"])
    return None if said is None else [line.split()[0] for line in said.splitlines() if line.split()]
