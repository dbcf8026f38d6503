"""The drivers apex and gasket: versions, whether they are loaded, excluded or built, and what a failed build said."""

import os
import re
from typing import Any, Dict, List, Optional

from clusteradm.node.texts import names, read

# What the package is called in DKMS, which repeats its build for each kernel: by Google, and by others.
_DKMS = "var/lib/dkms"
_DKMS_NAMES = ("gasket", "gasket-dkms", "gasket-driver")
# Lines told of a build's log: its first ones name the kernel, the errors say what failed, the last ones how it ended.
_FIRST, _AROUND, _LAST = 2, 20, 18
_ERROR = re.compile(
    r"(\berror|\berreur|\bFehler|\bошибка|错误|エラー) ?[:：]|^ERROR: |\*\*\* |: not found$|format error|^Error! "
)
_EXCLUDES = re.compile(r"^\s*(blacklist\s+apex\b|install\s+apex\s+\S*/(false|true)\b)", re.M)
# The firmware's variable, by the UEFI specification.
_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def driver(root: str) -> Dict[str, Any]:
    """Versions (None: unknown), whether the modules are loaded, where they come from, and DKMS's state of them."""
    kernel = read(root, "proc/sys/kernel/osrelease")
    modules = os.path.join(root, "lib/modules", kernel or "")
    blacklist = _blacklist(root)
    return {
        "version": read(root, "sys/module/apex/version"),
        "gasket_version": read(root, "sys/module/gasket/version"),
        "loaded": os.path.isdir(os.path.join(root, "sys/module/apex")),
        "kernel": kernel,
        "file": _file(modules) if kernel else None,
        "in_tree": _staging(root),
        "dma_bit_mask": read(root, "sys/module/gasket/parameters/dma_bit_mask"),
        "blacklisted": blacklist is not None,
        "blacklist": blacklist,
        "secure_boot": _secure_boot(root),
        "headers": os.path.exists(os.path.join(modules, "build", "Makefile")) if kernel else None,
        "dkms": dkms(root, kernel),
    }


def _file(modules: str) -> Optional[str]:
    """Path of the module for the running kernel, relative to that kernel's modules."""
    listed = re.search(r"^(\S*/)?apex\.ko(\.\w+)?(?=:)", read(modules, "modules.dep") or "", re.M)
    if listed:
        return listed.group(0)
    for folder in ("updates", "updates/dkms", "extra", "kernel/drivers/staging/gasket", "kernel/drivers/misc"):
        for name in names(modules, folder):
            if re.match(r"apex\.ko(\.\w+)?$", name):
                return "%s/%s" % (folder, name)
    return None


def _staging(root: str) -> Optional[bool]:
    """Whether the loaded module is the kernel's own staging driver (taint "C"); None if none is loaded."""
    taint = read(root, "sys/module/apex/taint")
    return None if taint is None else "C" in taint


def _blacklist(root: str) -> Optional[str]:
    """What keeps the module from being loaded by itself: a file of modprobe's, or the kernel's command line."""
    for folder in ("etc/modprobe.d", "run/modprobe.d", "lib/modprobe.d", "usr/lib/modprobe.d"):
        for name in names(root, folder):
            text = read(root, folder, name) or ""
            if name.endswith(".conf") and _EXCLUDES.search(text):
                return "/%s/%s" % (folder, name)
    line = read(root, "proc/cmdline") or ""
    if re.search(r"\b(module_blacklist|modprobe\.blacklist)=(\S*,)?(apex|gasket)\b", line):
        return "the kernel's command line"
    return None


def _secure_boot(root: str) -> Optional[bool]:
    """Whether the firmware starts, and the kernel loads, only what is signed; None if the machine does not tell."""
    locked = read(root, "sys/kernel/security/lockdown")
    if locked and "[none]" not in locked:
        return True
    try:
        with open(os.path.join(root, _SECURE_BOOT), "rb") as file:
            value = file.read(16)
    except OSError:
        return None
    # Four bytes of attributes, then the variable.
    return value[4:5] == b"\x01" if len(value) > 4 else None


def dkms(root: str, kernel: Optional[str]) -> Optional[Dict[str, Any]]:
    """DKMS's state of gasket for this kernel; None if DKMS does not have it.

    {"name", "version", "built": for the running kernel, "log": the build log's first lines, errors and last lines, if
    it is not built}
    """
    found = None
    for package in _DKMS_NAMES:
        base = os.path.join(root, _DKMS, package)
        for version in names(base):
            if not re.match(r"\d", version) or not os.path.isdir(os.path.join(base, version)):
                continue
            built = bool(kernel) and os.path.isdir(os.path.join(base, version, str(kernel)))
            if found is None or built >= found["built"]:
                log = None if built else read(base, version, "build", "make.log")
                found = {"name": package, "version": version, "built": built, "log": _excerpt(log) if log else None}
    return found


def _excerpt(log: str) -> List[str]:
    """The lines of a build's log that say what failed, in its order."""
    lines = log.splitlines()
    errors = [number for number, line in enumerate(lines) if _ERROR.search(line)]
    undefined = [number for number, line in enumerate(lines) if line.endswith("undefined!")]
    # With make's own words about it; of a build that ends with another error, they are warnings.
    if undefined and (not errors or lines[errors[0]].startswith(("make", "Error!"))):
        errors = undefined
    first = max(errors[0] - 2, 0) if errors else 0
    kept = {*range(_FIRST), *range(first, first + _AROUND), *range(len(lines) - _LAST, len(lines))}
    return [line[:1000] for number, line in enumerate(lines) if number in kept]
