"""Reset of one USB Accelerator: taken from whoever uses it, and configured anew by the kernel.

Kernel: Documentation/usb/authorization.rst, /sys/bus/usb/devices/.../authorized: with 0 it has no configuration and no
interfaces, with 1 the kernel asks it for them again, and says by the file bConfigurationValue whether it has answered.
A reset of its port (USBDEVFS_RESET) would be nothing new to it, as libedgetpu makes one at every use; the file `remove`
of a device takes it away until somebody plugs it in; and its power is its hub's, which few hubs can switch.
"""

import os
import time
from typing import List, Optional, Tuple

from clusteradm.node.fleet import kernel
from clusteradm.node.fleet.owner import busy
from clusteradm.node.probe import usb
from clusteradm.node.spec.wire.fleet import (
    DENIED,
    DONE,
    LOST,
    STAYS,
    UNKNOWN,
    Card,
    ResetOutcome,
    ResetTpu,
)
from clusteradm.node.texts import read
from clusteradm.node.usb import DEVICES


def run(request: ResetTpu) -> ResetOutcome:
    """Take it out of use and back; wait for each of the two to show."""
    root, address = request.root, request.tpu
    tpus, before, name = _named(root, address)
    if before is None:
        return ResetOutcome(UNKNOWN, tpus)
    refused = busy(request, tpus, before)
    if refused is not None:
        return refused
    start = time.monotonic()
    authorized = os.path.join(root, DEVICES, name, "authorized")
    try:
        kernel.write(authorized, "0\n")
        gone = kernel.wait(request.seconds, lambda: not read(root, DEVICES, name, "bConfigurationValue"))
        kernel.write(authorized, "1\n")
    except OSError as error:
        return ResetOutcome(DENIED, tpus, before, reason=str(error))
    if not gone:
        return ResetOutcome(STAYS, tpus, before)

    def back() -> bool:
        _, after, again = _named(root, address)
        return after is not None and after.node is not None and bool(read(root, DEVICES, again, "bConfigurationValue"))

    kind = DONE if kernel.wait(request.seconds, back) else LOST
    return ResetOutcome(kind, tpus, before, _named(root, address)[1], seconds=round(time.monotonic() - start, 1))


def _named(root: str, address: str) -> Tuple[Tuple[Card, ...], Optional[Card], str]:
    """The accelerators, the one at this address, and its name in sysfs."""
    found: List[Card] = []
    mine: Optional[Card] = None
    name = ""
    for each in usb.accelerators(root):
        path, holders = each["path"], each["holders"]
        node = kernel.node(os.path.join(root, path.lstrip("/"))) if path else None
        device = path[len("/dev/") :] if path else None
        owner = holders[0] if holders else None
        card = Card(each["address"], each["id"], device, node, device_owner=owner)
        found.append(card)
        if card.address == address:
            mine, name = card, each["name"]
    return tuple(found), mine, name
