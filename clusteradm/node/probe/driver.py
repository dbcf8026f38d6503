"""The drivers apex and gasket: version, whether loaded and built, and the kernel's log lines about them."""

import os
import re
from typing import Any, Dict, List, Optional, Sequence

from clusteradm.node.texts import names, read

# Package gasket-dkms, whose build DKMS repeats for each kernel.
_DKMS = "var/lib/dkms/gasket"
_LOG_LINES = 40
_KERNEL_LINES = 200
_ABOUT_THEM = re.compile(r"\b(apex|gasket)\b|map pfn RAM range req uncached-minus")
_PRIORITY = re.compile(r"^\d+,\d+,(\d+),[^;]*;(.*)$")


def driver(root: str) -> Dict[str, Any]:
    """Versions (None: unknown), whether the modules are loaded, where they come from, and DKMS's state of them."""
    kernel = read(root, "proc/sys/kernel/osrelease")
    modules = os.path.join(root, "lib/modules", kernel or "")
    return {
        "version": read(root, "sys/module/apex/version"),
        "gasket_version": read(root, "sys/module/gasket/version"),
        "loaded": os.path.isdir(os.path.join(root, "sys/module/apex")),
        "kernel": kernel,
        "file": _file(modules) if kernel else None,
        "in_tree": _staging(root),
        "dma_bit_mask": read(root, "sys/module/gasket/parameters/dma_bit_mask"),
        "blacklisted": _blacklisted(root),
        "headers": os.path.exists(os.path.join(modules, "build", "Makefile")) if kernel else None,
        "dkms": dkms(root, kernel),
    }


def _file(modules: str) -> Optional[str]:
    """Path of the module for the running kernel, relative to that kernel's modules."""
    for folder in ("updates", "updates/dkms", "extra", "kernel/drivers/staging/gasket", "kernel/drivers/misc"):
        for name in names(modules, folder):
            if re.match(r"apex\.ko(\.\w+)?$", name):
                return "%s/%s" % (folder, name)
    return None


def _staging(root: str) -> Optional[bool]:
    """Whether the loaded module is the kernel's own staging driver (taint "C"); None if none is loaded."""
    taint = read(root, "sys/module/apex/taint")
    return None if taint is None else "C" in taint


def _blacklisted(root: str) -> bool:
    for folder in ("etc/modprobe.d", "lib/modprobe.d", "usr/lib/modprobe.d"):
        for name in names(root, folder):
            text = read(root, folder, name) or ""
            if name.endswith(".conf") and re.search(r"^\s*blacklist\s+apex\b", text, re.M):
                return True
    return False


def dkms(root: str, kernel: Optional[str]) -> Optional[Dict[str, Any]]:
    """DKMS's state of gasket for this kernel; None if DKMS does not have it.

    {"version", "built": for the running kernel, "log": the build log's last lines, if it is not built}
    """
    base = os.path.join(root, _DKMS)
    versions = [name for name in names(base) if re.match(r"\d", name) and os.path.isdir(os.path.join(base, name))]
    if not versions:
        return None
    version = versions[-1]
    built = bool(kernel) and os.path.isdir(os.path.join(base, version, str(kernel)))
    log = None if built else read(base, version, "build", "make.log")
    return {"version": version, "built": built, "log": log.splitlines()[-_LOG_LINES:] if log else None}


def kernel_log(root: str, words: Sequence[str] = ()) -> Optional[List[str]]:
    """The kernel's last log lines about the drivers, or with one of the words ("[seconds] text"); None: no log.

    Read from /dev/kmsg, which needs no program and gives one record at a time.
    """
    records = _records(os.path.join(root, "dev/kmsg"))
    if records is None:
        return None
    found = []
    for record in records:
        match = _PRIORITY.match(record)
        if not match:
            continue
        text = match.group(2)
        if _ABOUT_THEM.search(text) or any(word in text for word in words):
            found.append("[%.6f] %s" % (int(match.group(1)) / 1e6, text))
    return found[-_KERNEL_LINES:]


def _records(path: str) -> Optional[List[str]]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    data: List[bytes] = []
    try:
        while True:
            try:
                piece = os.read(descriptor, 1 << 16)
            except BlockingIOError:  # the device: all records are read
                break
            except BrokenPipeError:  # this record was overwritten meanwhile; the next is there
                continue
            except OSError:
                return None
            if not piece:
                break
            data.append(piece)
    finally:
        os.close(descriptor)
    return b"".join(data).decode("utf-8", "replace").splitlines()
