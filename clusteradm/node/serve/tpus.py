"""TPUs of this host as sysfs shows them: which there are, and why one cannot serve now. None is opened."""

import os
from typing import List, NamedTuple, Optional, Tuple

from clusteradm.node import usb
from clusteradm.node.spec.wire.job_names import USB
from clusteradm.node.texts import number, read

_CLASS = "sys/class/apex"
_LOST = -50000  # millidegrees that a chip reads that has fallen off the bus (gasket_core.c, apex_driver.c)
# Out of rotation from the second trip point on, where the driver quarters the clock; back so much below it.
_COOLER = 3000


class Condition(NamedTuple):
    """`temperature`: degrees Celsius; `reason`: why it cannot serve, None where it can."""

    temperature: Optional[float]
    reason: Optional[str]


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
    if temperature <= _LOST:
        return Condition(degrees, "it reads %.1f °C, as a chip that fell off the bus: run clusteradm health" % degrees)
    trip = number(read(folder, "trip_point1_temp"))
    if trip is not None and temperature >= trip - (_COOLER if was_hot else 0):
        return Condition(
            degrees, "it is hot, %.1f °C: its clock is a quarter from %.1f °C on" % (degrees, trip / 1000.0)
        )
    return Condition(degrees, None)


def _devices(root: str) -> List[Tuple[str, str]]:
    folder = os.path.join(root, _CLASS)
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    found = [(read(root, "%s/%s/pci_address" % (_CLASS, name)), os.path.join(folder, name)) for name in names]
    return [(address, path) for address, path in found if address]
