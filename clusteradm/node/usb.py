"""USB Accelerators of this host: which there are, and the names that one has. None is opened.

An Edge TPU on USB is 1a6e:089a until its first use, which uploads its firmware; it then comes back as 18d1:9302, maybe
on another bus, as a port has one for USB 2 and one for USB 3. An address is a port's, and so it stays: `usb:1-2.3`, by
the name that the kernel gives the device (Documentation/ABI/stable/sysfs-bus-usb) on the first of the two buses.
"""

import os
import re
from typing import List, NamedTuple, Optional

from clusteradm.node.spec.wire.job_names import USB
from clusteradm.node.texts import names, read

DEVICES = "sys/bus/usb/devices"
BOOTLOADER, READY = "1a6e:089a", "18d1:9302"
# BUS-PORT, and the ports of hubs behind it.
_NAME = re.compile(r"(\d{1,3})-(\d{1,3}(?:\.\d{1,3}){0,6})\Z")
# The kernel's name of a port: usb2-port3 of a root hub, 2-1.4-port3 of another.
_PORT = re.compile(r"(?:usb(\d{1,3})|(\d{1,3}-[\d.]{1,30}))-port(\d{1,3})\Z")


class Accelerator(NamedTuple):
    """`address`: usb:PORT; `name`: of the device in sysfs; `id`: BOOTLOADER or READY."""

    address: str
    name: str
    id: str

    @property
    def path(self) -> str:
        """Its path, as libedgetpu lists it."""
        return "/%s/%s" % (DEVICES, self.name)


def accelerators(root: str = "/") -> List[Accelerator]:
    """The accelerators, in the order of their addresses."""
    base = os.path.join(root, DEVICES)
    found = []
    for name in names(base):
        if not _NAME.match(name):
            continue
        ident = "%s:%s" % (read(base, name, "idVendor"), read(base, name, "idProduct"))
        if ident in (BOOTLOADER, READY):
            peer = os.path.join(port_of(base, name), "peer")
            other = os.path.basename(os.path.realpath(peer)) if os.path.islink(peer) else ""
            found.append(Accelerator(address(name, other), name, ident))
    return sorted(found, key=lambda each: _order(each.address[len(USB) :]))


def device_node(root: str, name: str) -> Optional[str]:
    """/dev/bus/usb/BUS/DEVICE of a device; None where sysfs does not say it."""
    bus, device = (read(root, DEVICES, name, file) or "" for file in ("busnum", "devnum"))
    if not (bus.isdigit() and device.isdigit()):
        return None
    return "/dev/bus/usb/%03d/%03d" % (int(bus), int(device))


def port_of(base: str, name: str) -> str:
    """The folder of the port that a device is in."""
    return os.path.realpath(os.path.join(base, name, "port"))


def address(name: str, peer: str) -> str:
    """The address of a device: by its name on the first of the two buses of its port. `peer`: the kernel's name of the
    port on the other one, "" where there is none."""
    found = _PORT.match(peer)
    if found is None:
        return USB + name
    other = "%s-%s" % (found.group(1), found.group(3)) if found.group(1) else "%s.%s" % (found.group(2), found.group(3))
    return USB + (min(name, other, key=_order) if _NAME.match(other) else name)


def _order(name: str) -> List[int]:
    return [int(number) for number in re.findall(r"\d+", name)]
