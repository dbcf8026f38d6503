"""Edge TPUs as the kernel shows them: on the bus, by the driver, as device nodes. Nothing is opened.

Files and formats are those of the gasket and apex drivers (google/gasket-driver); which of them exist depends on the
driver's version.
"""

import grp
import os
import pwd
import stat
import subprocess
from typing import Any, Dict, List, Optional

from clusteradm.node.probe import names, read

# Only the ids are matched: class and vendor texts differ with the age of pci.ids and with the driver's fix-up.
VENDOR, DEVICE = "0x1ac1", "0x089a"
_LSPCI = ["lspci", "-D", "-n", "-d", "1ac1:089a"]


def probe(root: str, options: Dict[str, Any]) -> Dict[str, Any]:
    """What lspci, /proc, sysfs and /dev say, each for itself; the judge compares them."""
    return {
        "lspci": lspci(),
        "proc": proc(read(root, "proc/bus/pci/devices")),
        "pci": pci(root),
        "apex": apex(root),
        "driver": {
            "version": read(root, "sys/module/apex/version"),
            "loaded": os.path.isdir(os.path.join(root, "sys/module/apex")),
        },
        "user_in_group": in_group(options.get("user"), "apex"),
    }


def lspci() -> Optional[List[str]]:
    """PCI addresses of the Edge TPUs, by the host's own lspci; None where it is not installed."""
    try:
        done = subprocess.run(_LSPCI, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return [line.split()[0] for line in done.stdout.decode("ascii", "replace").splitlines() if line.strip()]


def proc(text: Optional[str]) -> Optional[List[Dict[str, Any]]]:
    """The Edge TPUs of /proc/bus/pci/devices: bus and function ("0100"), and the driver bound to them, if any."""
    if text is None:
        return None
    found = []
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) > 2 and fields[1] == "1ac1089a":
            last = fields[-1].strip() if len(fields) > 17 else ""
            found.append({"slot": fields[0], "driver": last or None})
    return found


def pci(root: str) -> List[Dict[str, Any]]:
    """The Edge TPUs of /sys/bus/pci/devices, in the order of their addresses."""
    found = []
    base = os.path.join(root, "sys/bus/pci/devices")
    for address in names(base):
        if read(base, address, "vendor") != VENDOR or read(base, address, "device") != DEVICE:
            continue
        driver = os.path.join(base, address, "driver")
        found.append(
            {
                "address": address,
                "driver": os.path.basename(os.readlink(driver)) if os.path.islink(driver) else None,
                "link_speed": read(base, address, "current_link_speed"),
                "link_width": read(base, address, "current_link_width"),
            }
        )
    return found


_FILES = (
    "status",
    "driver_version",
    "framework_version",
    "pci_address",
    "is_device_owned",
    "device_owner",
    "write_open_count",
    "interrupt_counts",
    "temp",
    "temp_poll_interval",
    "trip_point0_temp",
    "trip_point1_temp",
    "trip_point2_temp",
    "unique_id",
)


def apex(root: str) -> List[Dict[str, Any]]:
    """What the driver tells of each of its devices, and the device node."""
    found = []
    base = os.path.join(root, "sys/class/apex")
    for name in names(base):
        if not name.startswith("apex_"):
            continue
        about: Dict[str, Any] = {file: read(base, name, file) for file in _FILES}
        about["name"] = name
        about["node"] = node(root, "/dev/" + name)
        about["owner"] = process(root, about["device_owner"])
        found.append(about)
    return found


def node(root: str, path: str) -> Optional[Dict[str, Any]]:
    """Mode (octal), owner and group of a device node; None if it is not there or is no character device."""
    try:
        about = os.stat(os.path.join(root, path.lstrip("/")))
    except OSError:
        return None
    if not stat.S_ISCHR(about.st_mode):
        return None
    try:
        owner = pwd.getpwuid(about.st_uid).pw_name
    except KeyError:
        owner = str(about.st_uid)
    try:
        group = grp.getgrgid(about.st_gid).gr_name
    except KeyError:
        group = str(about.st_gid)
    return {"path": path, "mode": "%04o" % stat.S_IMODE(about.st_mode), "owner": owner, "group": group}


def process(root: str, pid: Optional[str]) -> Optional[Dict[str, Any]]:
    """Who owns a TPU: pid, user and command line; None if nobody does."""
    if not pid or not pid.isdigit() or pid == "0":
        return None
    folder = os.path.join(root, "proc", pid)
    command = (read(folder, "cmdline") or "").replace("\0", " ").strip()
    try:
        user: Optional[str] = pwd.getpwuid(os.stat(folder).st_uid).pw_name
    except (OSError, KeyError):
        user = None
    return {"pid": int(pid), "user": user, "command": command[:200] or None}


def in_group(user: Optional[str], group: str) -> Optional[bool]:
    """Whether the user is in the group; None where one of them does not exist."""
    if not user:
        return None
    try:
        account, members = pwd.getpwnam(user), grp.getgrnam(group)
    except KeyError:
        return None
    return user in members.gr_mem or account.pw_gid == members.gr_gid
