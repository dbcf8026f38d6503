"""One Edge TPU off the PCI bus and found again: what helps some that hang, without a reboot.

Kernel: Documentation/ABI/testing/sysfs-bus-pci, /sys/bus/pci/devices/.../remove and /sys/bus/pci/rescan.
"""

import grp
import os
import pwd
import stat
import time
from typing import Any, Callable, Dict, List, Optional

from clusteradm.node.probe import pcie
from clusteradm.node.probe.tpu import process
from clusteradm.node.texts import names, read

SECONDS = 10.0
# udev applies its rules to a new device node a little after it is there.
_UDEV_SECONDS = 2.0
_FILES = ("status", "temp", "unique_id", "is_device_owned", "device_owner", "write_open_count")


def run(request: Dict[str, Any], reply: Callable[[Dict[str, Any]], None]) -> Dict[str, Any]:
    """{"tpu": PCI address or apex_N, "user": the cluster's} -> what reset() returns. Tests set "root" and "seconds"."""
    where, seconds = str(request.get("root", "/")), float(request.get("seconds", SECONDS))
    return reset(where, str(request["tpu"]), request.get("user"), seconds)


def reset(root: str, name: str, user: Optional[str], seconds: float) -> Dict[str, Any]:
    """Remove it and scan the bus; wait up to `seconds` for each of the two to show.

    {"outcome", "before", "after", "owner", "reason", "tpus", "seconds"}. `outcome`: done; unknown (`tpus` are there);
    busy (`owner` has it: nothing was done); denied (`reason`: nothing was done); stays (it was not taken off the bus);
    lost (it did not come back as a device). `before`, `after`, and each of `tpus`: see look().
    """
    tpus = look(root)
    result: Dict[str, Any] = {"before": None, "after": None, "owner": None, "reason": None, "tpus": tpus}
    before = next((tpu for tpu in tpus if name in (tpu["address"], tpu["device"])), None)
    if before is None:
        return dict(result, outcome="unknown")
    result["before"] = before
    if _owned(before):
        return dict(result, outcome="busy", owner=process(root, before["device_owner"], user))
    start = time.monotonic()
    bus = os.path.join(root, "sys/bus/pci")
    card = os.path.join(bus, "devices", before["address"])
    try:
        _ask(os.path.join(card, "remove"))
        gone = _wait(seconds, lambda: not os.path.exists(card))
        _ask(os.path.join(bus, "rescan"))
    except OSError as error:
        return dict(result, outcome="denied", reason=str(error))
    if not gone:
        return dict(result, outcome="stays")

    def again() -> Dict[str, Any]:
        return next((tpu for tpu in look(root) if tpu["address"] == before["address"]), {})

    back = _wait(seconds, lambda: bool(again().get("node")))
    if back and before["node"]:
        _wait(_UDEV_SECONDS, lambda: again().get("node") == before["node"])
    result["after"] = again() or None
    return dict(result, outcome="done" if back else "lost", seconds=round(time.monotonic() - start, 1))


def look(root: str) -> List[Dict[str, Any]]:
    """Every Edge TPU on the bus: address, driver, device (apex_N), its node ("0660 root:apex"), files of the driver.

    What there is not is None.
    """
    base = os.path.join(root, "sys/class/apex")
    devices = {read(base, name, "pci_address"): name for name in names(base) if name.startswith("apex_")}
    found = []
    for card in pcie.cards(root):
        device = devices.get(card["address"])
        about: Dict[str, Any] = {file: read(base, device, file) if device else None for file in _FILES}
        node = _node(os.path.join(root, "dev", device)) if device else None
        found.append(dict(about, address=card["address"], driver=card["driver"], device=device, node=node))
    return found


def _node(path: str) -> Optional[str]:
    try:
        about = os.stat(path)
        owner, group = pwd.getpwuid(about.st_uid).pw_name, grp.getgrgid(about.st_gid).gr_name
    except (OSError, KeyError):
        return None
    return "%04o %s:%s" % (stat.S_IMODE(about.st_mode), owner, group)


def _owned(tpu: Dict[str, Any]) -> bool:
    return any(tpu[file] not in (None, "", "0") for file in ("is_device_owned", "device_owner", "write_open_count"))


def _ask(path: str) -> None:
    # For writing alone: the kernel lets nobody read them, not even root.
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, b"1\n")
    finally:
        os.close(descriptor)


def _wait(seconds: float, reached: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
