"""The PCI Express bus below and around the Edge TPUs: cards, links, interrupts, bridges, slots."""

import os
import re
from typing import Any, Dict, List, Optional

from clusteradm.node.texts import names, number, read

# Only the ids are matched: class and vendor texts differ with the age of pci.ids and with the driver's fix-up.
VENDOR, DEVICE = "0x1ac1", "0x089a"
_BRIDGE = "0x0604"
_DEVICES = "sys/bus/pci/devices"
_SECONDARY_BUS, _SUBORDINATE_BUS = 0x19, 0x1A  # in a bridge's configuration space


def cards(root: str) -> List[Dict[str, Any]]:
    """The Edge TPUs of /sys/bus/pci/devices, in the order of their addresses."""
    found = []
    base = os.path.join(root, _DEVICES)
    for address in names(base):
        if read(base, address, "vendor") != VENDOR or read(base, address, "device") != DEVICE:
            continue
        found.append(
            {
                "address": address,
                "driver": _driver(base, address),
                "driver_override": read(base, address, "driver_override"),
                "link_speed": read(base, address, "current_link_speed"),
                "link_width": read(base, address, "current_link_width"),
                "max_link_speed": read(base, address, "max_link_speed"),
                "max_link_width": read(base, address, "max_link_width"),
                "vectors": _vectors(base, address),
                "numa_node": number(read(base, address, "numa_node")),
            }
        )
    return found


def _driver(base: str, address: str) -> Optional[str]:
    link = os.path.join(base, address, "driver")
    return os.path.basename(os.readlink(link)) if os.path.islink(link) else None


def _vectors(base: str, address: str) -> Optional[int]:
    """Number of MSI-X vectors that the device has; None if the kernel does not show them."""
    folder = os.path.join(base, address, "msi_irqs")
    if not os.path.isdir(folder):
        return None
    return sum(read(folder, number) == "msix" for number in names(folder))


def vectors(root: str) -> Optional[Dict[str, int]]:
    """Interrupt vectors of a PC, allocated and free; None on other machines, and if debugfs is not mounted."""
    text = read(root, "sys/kernel/debug/irq/domains/VECTOR") or ""
    found = dict(re.findall(r"^(Global available|Total allocated):\s*(\d+)$", text, re.M))
    if len(found) != 2:
        return None
    return {"free": int(found["Global available"]), "allocated": int(found["Total allocated"])}


def bridges(root: str) -> List[Dict[str, Any]]:
    """Every bridge, with the range of buses behind it, and the devices behind no further bridge."""
    base = os.path.join(root, _DEVICES)
    addresses = names(base)
    found = []
    for address in addresses:
        if not (read(base, address, "class") or "").startswith(_BRIDGE):
            continue
        vendor, device = read(base, address, "vendor") or "", read(base, address, "device") or ""
        found.append(
            {
                "address": address,
                "id": "%s:%s" % (vendor[2:], device[2:]),
                "secondary": _bus(base, address, "secondary_bus_number", _SECONDARY_BUS),
                "subordinate": _bus(base, address, "subordinate_bus_number", _SUBORDINATE_BUS),
                "below": [],
            }
        )
    for address in addresses:
        above = [bridge for bridge in found if _is_behind(bridge, address)]
        if above:
            max(above, key=lambda bridge: int(bridge["secondary"]))["below"].append(address)
    return found


def _is_behind(bridge: Dict[str, Any], address: str) -> bool:
    domain, bus = address.split(":")[:2]
    first, last = bridge["secondary"], bridge["subordinate"]
    # 0: the firmware has not set up the bridge.
    return bool(first) and bridge["address"].split(":")[0] == domain and first <= int(bus, 16) <= (last or first)


def _bus(base: str, address: str, file: str, offset: int) -> Optional[int]:
    """A bridge's bus number, from its file or, with older kernels, from its configuration space."""
    text = read(base, address, file)
    if text is not None and text.isdigit():
        return int(text)
    try:
        with open(os.path.join(base, address, "config"), "rb") as file_:
            head = file_.read(64)
    except OSError:
        return None
    return head[offset] if len(head) > offset else None


def slots(root: str) -> Dict[str, Optional[str]]:
    """The machine's physical slots by name, each with the address of a card in it ("0000:04:00")."""
    base = os.path.join(root, "sys/bus/pci/slots")
    return {name: read(base, name, "address") for name in names(base)}
