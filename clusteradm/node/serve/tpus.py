"""TPUs of this host as sysfs shows them: which there are, and why one cannot serve now. None is opened."""

import os
from typing import List, NamedTuple, Optional, Tuple

from clusteradm.node import usb
from clusteradm.node.spec.apex import WEDGED_MILLIDEGREES, megahertz
from clusteradm.node.spec.wire.job_names import USB
from clusteradm.node.texts import number, read

_CLASS = "sys/class/apex"
# Out of rotation from the second trip point on, where the driver quarters the clock; back so much below it.
_COOLER = 3000


class Condition(NamedTuple):
    """`temperature`: degrees Celsius; `reason`: why it cannot serve, None where it can; `megahertz`: its clock, where
    that is known."""

    temperature: Optional[float]
    reason: Optional[str]
    megahertz: Optional[float] = None


def addresses(root: str = "/") -> List[str]:
    """The addresses of the Edge TPUs that can be used: those on PCI that have a driver, those on USB."""
    return [*sorted(address for address, _ in _devices(root)), *(each.address for each in usb.accelerators(root))]


def condition(pci_address: str, was_hot: bool, root: str = "/") -> Condition:
    """The condition of a TPU. `was_hot`: whether it is out of rotation for its heat."""
    if pci_address.startswith(USB):
        there = any(each.address == pci_address for each in usb.accelerators(root))
        return Condition(None, None if there else "it is not there any more: run clusteradm health")
    folder = next((folder for address, folder in _devices(root) if address == pci_address), None)
    if folder is None:
        return Condition(None, "it is not there any more: run clusteradm health")
    temperature = number(read(folder, "temp"))
    if temperature is None:
        return Condition(None, None)
    degrees = temperature / 1000.0
    if temperature <= WEDGED_MILLIDEGREES:
        return Condition(degrees, "it reads %.1f °C, as a chip that fell off the bus: run clusteradm health" % degrees)
    trips = [number(read(folder, "trip_point%d_temp" % each)) for each in range(3)]
    known = [trip for trip in trips if trip is not None]
    clock = megahertz(
        temperature, known if len(known) == len(trips) else (), number(read(folder, "temp_poll_interval"))
    )
    hot = trips[1]
    if hot is not None and temperature >= hot - (_COOLER if was_hot else 0):
        reason = "it is hot, %.1f °C: its clock is a quarter from %.1f °C on" % (degrees, hot / 1000.0)
        return Condition(degrees, reason, clock)
    return Condition(degrees, None, clock)


def _devices(root: str) -> List[Tuple[str, str]]:
    folder = os.path.join(root, _CLASS)
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    found = [(read(root, "%s/%s/pci_address" % (_CLASS, name)), os.path.join(folder, name)) for name in names]
    return [(address, path) for address, path in found if address]
