"""USB Accelerators as the kernel shows them, for section "tpu": identity, speed, power, device node, owner."""

import os
import re
from typing import Any, Dict, Iterator, List, Optional

from clusteradm.node import usb
from clusteradm.node.probe.programs import output
from clusteradm.node.texts import names, number, read

_LSUSB = re.compile(r"Bus (\d{3}) Device (\d{3}): ID (%s|%s)\b" % (usb.BOOTLOADER, usb.READY))
_FILES = {
    "speed": "speed",  # Mbit/s
    "max_power": "bMaxPower",  # "896mA"
    "configuration": "bConfigurationValue",  # empty where the kernel has chosen none, as for want of power
    "authorized": "authorized",
    "serial": "serial",
}


def lsusb() -> Optional[List[str]]:
    """Bus and device of the accelerators, as "002/003", by the host's own lsusb; None where it is not installed."""
    said = output(["lsusb"])
    return None if said is None else ["%s/%s" % found.group(1, 2) for found in _LSUSB.finditer(said)]


def accelerators(root: str) -> List[Dict[str, Any]]:
    """Each accelerator: `address`, `name`, `id`; its files, as they are; `over_current`: how often its port was
    switched off; `path` of its device node; `holders`: the processes that have that open, by their ids."""
    found = []
    base = os.path.join(root, usb.DEVICES)
    for each in usb.accelerators(root):
        about: Dict[str, Any] = {"address": each.address, "name": each.name, "id": each.id}
        about.update({key: read(base, each.name, file) for key, file in _FILES.items()})
        about["over_current"] = number(read(usb.port_of(base, each.name), "over_current_count"))
        about["path"] = usb.device_node(root, each.name)
        about["holders"] = list(_holders(root, about["path"])) if about["path"] else []
        found.append(about)
    return found


def _holders(root: str, path: str) -> Iterator[str]:
    """The processes that have a device node open."""
    for process in names(root, "proc"):
        if not process.isdigit():
            continue
        folder = os.path.join(root, "proc", process, "fd")
        for descriptor in names(folder):
            try:
                if os.readlink(os.path.join(folder, descriptor)) == path:
                    yield process
                    break
            except OSError:  # it has ended meanwhile, or is another user's
                continue
