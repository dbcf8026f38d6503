"""Reset of one Edge TPU: removed from the PCI bus and found again, which recovers some that hang without a reboot. One
on USB is usb_reset's.

Kernel: Documentation/ABI/testing/sysfs-bus-pci, /sys/bus/pci/devices/.../remove and /sys/bus/pci/rescan.
"""

import os
import time
from typing import List, Optional, Tuple

from clusteradm.node.fleet import kernel, usb_reset
from clusteradm.node.fleet.owner import busy
from clusteradm.node.handler import handles
from clusteradm.node.probe import pcie
from clusteradm.node.spec.wire.fleet import (
    DENIED,
    DONE,
    FOUND,
    LOST,
    STAYS,
    UNDRIVEN,
    UNKNOWN,
    Card,
    ResetOutcome,
    ResetTpu,
)
from clusteradm.node.spec.wire.job_names import USB
from clusteradm.node.texts import names, read

# udev applies its rules to a new device node a little after it is there.
_UDEV_SECONDS = 2.0
_APEX = "apex"
_FILES = ("status", "temp", "unique_id", "is_device_owned", "device_owner", "write_open_count")


@handles(ResetTpu)
def run(request: ResetTpu) -> ResetOutcome:
    """Remove the TPU and scan the bus; wait for each of the two to show.

    One that is not on the bus is looked for first: a reset that was ended half-way has left it off.
    """
    if request.tpu.startswith(USB):
        return usb_reset.run(request)
    root = request.root
    tpus, before = _named(root, request.tpu)
    if before is None:
        return _look_for(request)
    if before.driver not in (None, _APEX) or not os.path.isdir(os.path.join(root, "sys/bus/pci/drivers", _APEX)):
        return ResetOutcome(UNDRIVEN, tpus, before)
    address, former = before.address, before.node
    refused = busy(request, tpus, before)
    if refused is not None:
        return refused
    start = time.monotonic()
    bus = os.path.join(root, "sys/bus/pci")
    folder = os.path.join(bus, "devices", address)
    try:
        kernel.write(os.path.join(folder, "remove"), "1\n")
        gone = kernel.wait(request.seconds, lambda: not os.path.exists(folder))
        kernel.write(os.path.join(bus, "rescan"), "1\n")
    except OSError as error:
        return ResetOutcome(DENIED, tpus, before, reason=str(error))
    if not gone:
        return ResetOutcome(STAYS, tpus, before)

    def present() -> Optional[Card]:
        return next((card for card in look(root) if card.address == address), None)

    def node() -> Optional[str]:
        card = present()
        return card.node if card else None

    back = kernel.wait(request.seconds, lambda: bool(node()))
    if back and former:
        kernel.wait(_UDEV_SECONDS, lambda: node() == former)
    seconds = round(time.monotonic() - start, 1)
    return ResetOutcome(DONE if back else LOST, tpus, before, present(), seconds=seconds)


def _named(root: str, name: str) -> Tuple[Tuple[Card, ...], Optional[Card]]:
    tpus = tuple(look(root))
    return tpus, next((card for card in tpus if name in (card.address, card.device)), None)


def _look_for(request: ResetTpu) -> ResetOutcome:
    """Scan the bus for a TPU that is not on it."""
    root, start = request.root, time.monotonic()
    before = tuple(look(root))
    try:
        kernel.write(os.path.join(root, "sys/bus/pci/rescan"), "1\n")
    except OSError as error:
        return ResetOutcome(DENIED, before, reason=str(error))
    # The kernel scans before the write returns; driver and udev follow.
    kernel.wait(min(_UDEV_SECONDS, request.seconds), lambda: _named(root, request.tpu)[1] is not None)
    tpus, after = _named(root, request.tpu)
    if after is None:
        return ResetOutcome(UNKNOWN, tpus)
    if os.path.isdir(os.path.join(root, "sys/bus/pci/drivers", _APEX)):
        address = after.address
        kernel.wait(request.seconds, lambda: any(card.address == address and card.node for card in look(root)))
        tpus, after = _named(root, address)
    return ResetOutcome(FOUND, tpus, None, after, seconds=round(time.monotonic() - start, 1))


def look(root: str) -> List[Card]:
    """Every Edge TPU on the bus."""
    base = os.path.join(root, "sys/class/apex")
    devices = {read(base, name, "pci_address"): name for name in names(base) if name.startswith("apex_")}
    found = []
    for card in pcie.cards(root):
        device = devices.get(card["address"])
        files = {file: read(base, device, file) if device else None for file in _FILES}
        node = kernel.node(os.path.join(root, "dev", device)) if device else None
        found.append(Card(card["address"], card["driver"], device, node, **files))
    return found
