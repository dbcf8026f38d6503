"""Section "tpu": Edge TPUs as the kernel shows them, on PCI and USB, by the driver, as device nodes. None is opened.

Files and formats are those of the gasket and apex drivers (google/gasket-driver); which of them exist depends on the
driver's version; one that is missing is None.
"""

import grp
import os
import pwd
import re
import stat
from typing import Any, Dict, List, Optional

from clusteradm.node.probe import pcie, usb
from clusteradm.node.probe.driver import driver
from clusteradm.node.probe.kernel_log import kernel_log
from clusteradm.node.probe.lock import tpu_lock
from clusteradm.node.probe.programs import output
from clusteradm.node.probe.system import uptime
from clusteradm.node.spec.wire.job_names import SERVER
from clusteradm.node.texts import names, read

# A trial's time limit (trial.py), and a little.
_LOCK_SECONDS = 40.0
_LSPCI = ["lspci", "-D", "-n", "-d", "1ac1:089a"]


def probe(root: str, options: Dict[str, Any]) -> Dict[str, Any]:
    """The facts of lspci, /proc, sysfs, /dev and the kernel's log, each on its own; the admin side compares them."""
    user = options.get("user")
    cards = pcie.cards(root)
    with tpu_lock(root, _LOCK_SECONDS):
        devices = apex(root, user)
        accelerators = [_accelerator(root, about, user) for about in usb.accelerators(root)]
    seconds = uptime(root)
    return {
        "lspci": lspci(),
        "proc": proc(read(root, "proc/bus/pci/devices")),
        "pci": cards,
        "bridges": pcie.bridges(root),
        "slots": pcie.slots(root),
        "vectors": pcie.vectors(root),
        "apex": devices,
        "lsusb": usb.lsusb() if accelerators else None,
        "usb": accelerators,
        "driver": driver(root),
        "kernel_log": kernel_log(root),
        "uptime": None if seconds is None else int(seconds),
        "page_size": os.sysconf("SC_PAGE_SIZE"),
        "device_tree": device_tree(root),
        "group": group(root, "apex"),
        "user_in_group": in_group(user, "apex"),
    }


def lspci() -> Optional[List[str]]:
    """PCI addresses of the Edge TPUs, by the host's own lspci; None where it is not installed."""
    said = output(_LSPCI)
    return None if said is None else [line.split()[0] for line in said.splitlines() if line.strip()]


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
    "hw_temp_warn2",
    "hw_temp_warn2_en",
    "node_0_num_mapped_pages",
    "unique_id",
    "dev",
)


def apex(root: str, user: Optional[str] = None) -> List[Dict[str, Any]]:
    """Per device of the driver: its files in sysfs, its owner (with the job, if it is a rank of `user`'s), its node."""
    found = []
    base = os.path.join(root, "sys/class/apex")
    for name in names(base):
        if not name.startswith("apex_"):
            continue
        about: Dict[str, Any] = {file: read(base, name, file) for file in _FILES}
        about["name"] = name
        about["node"] = node(root, "/dev/" + name)
        about["in_place"] = None if about["node"] else in_place(root, "/dev/" + name)
        about["owner"] = process(root, about["device_owner"], user)
        found.append(about)
    return found


def _accelerator(root: str, about: Dict[str, Any], user: Optional[str]) -> Dict[str, Any]:
    """A USB Accelerator with its device node, and its owner as that of a device of the driver's."""
    path, holders = about["path"], about.pop("holders")
    about["node"] = node(root, path) if path else None
    about["owner"] = process(root, holders[0], user) if holders else None
    about["user_in_group"] = in_group(user, about["node"]["group"]) if about["node"] else None
    return about


def node(root: str, path: str) -> Optional[Dict[str, Any]]:
    """Mode (octal), owner, group and numbers of a device node; None if it is missing or not a character device."""
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
        owning = grp.getgrgid(about.st_gid).gr_name
    except KeyError:
        owning = str(about.st_gid)
    return {
        "path": path,
        "mode": "%04o" % stat.S_IMODE(about.st_mode),
        "owner": owner,
        "group": owning,
        "major": os.major(about.st_rdev),
        "minor": os.minor(about.st_rdev),
    }


def in_place(root: str, path: str) -> str:
    """What is at the path of a device node that is not there: "nothing", or such as "a plain file"."""
    try:
        mode = os.lstat(os.path.join(root, path.lstrip("/"))).st_mode
    except OSError:
        return "nothing"
    kinds = {
        stat.S_IFREG: "a plain file",
        stat.S_IFDIR: "a folder",
        stat.S_IFLNK: "a link that leads to no device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")


# The command that the supervisor gives to mpirun (node/job/supervisor.py).
_RANK = re.compile(r"\bclusteradm\.node\.job\.rank \S*/([^/\s]+)/? \d+\b")
# An engine of the host's server.
_ENGINE = re.compile(r"\bclusteradm\.node\.serve\b")


def process(root: str, pid: Optional[str], user: Optional[str] = None) -> Optional[Dict[str, Any]]:
    """The process that owns a TPU: pid, user, command line, its job (SERVER for a server), whether it is in a pod
    of Kubernetes; None if there is none."""
    if not pid or not pid.isdigit() or pid == "0":
        return None
    folder = os.path.join(root, "proc", pid)
    command = (read(folder, "cmdline") or "").replace("\0", " ").strip()
    try:
        owner: Optional[str] = pwd.getpwuid(os.stat(folder).st_uid).pw_name
    except (OSError, KeyError):
        owner = None
    # Any user can run a process with a rank's command line: it has to be the cluster user's.
    mine = user is not None and owner == user
    rank = _RANK.search(command) if mine else None
    job = rank.group(1) if rank else SERVER if mine and _ENGINE.search(command) else None
    pod = "kubepods" in (read(folder, "cgroup") or "")
    return {"pid": int(pid), "user": owner, "command": command[:200] or None, "job": job, "pod": pod}


def in_group(user: Optional[str], name: str) -> Optional[bool]:
    """Whether the user is in the group; None if one of them does not exist."""
    if not user:
        return None
    try:
        account, members = pwd.getpwnam(user), grp.getgrnam(name)
    except KeyError:
        return None
    return user in members.gr_mem or account.pw_gid == members.gr_gid


def group(root: str, name: str) -> Optional[Dict[str, Any]]:
    """Number and members of a group in /etc/group; None if it is missing."""
    for line in (read(root, "etc/group") or "").splitlines():
        fields = line.split(":")
        if len(fields) == 4 and fields[0] == name:
            return {"gid": fields[2], "members": [member for member in fields[3].split(",") if member]}
    return None


def device_tree(root: str) -> Optional[Dict[str, Any]]:
    """Model and compatible of the board, and the status of each Edge TPU core that an overlay describes.

    None if the machine has no device tree. A core without a status is okay, by the device tree specification.
    """
    base = os.path.join(root, "proc/device-tree")
    if not os.path.isdir(base):
        return None
    cores: Dict[str, str] = {}
    for parent in names(base):
        if parent.split("@")[0] != "yorktown-tpu":
            continue
        for core in names(base, parent):
            if core.startswith("akira"):
                cores[core] = _property(base, parent, core, "status") or "okay"
    compatible = read(base, "compatible")
    return {
        "model": _property(base, "model"),
        "compatible": [text for text in (compatible or "").split("\0") if text],
        "cores": cores,
    }


def _property(*parts: str) -> Optional[str]:
    return (read(*parts) or "").rstrip("\0") or None
