"""USB bus in a board's view: its USB Accelerators, as the kernel and lsusb show them.

An accelerator is 1a6e:089a until its first use, which gives it its firmware: it leaves the bus and comes back as
18d1:9302. A real one comes back with another device number; here it keeps its number, and so its device node.
"""

from __future__ import annotations

import struct
import time
from pathlib import Path

from clusteradm.lab import sysfs
from clusteradm.lab.topology import Accelerator, Board

NEW, READY = (0x1A6E, 0x089A), (0x18D1, 0x9302)
_ROOT_HUB = (0x1D6B, 0x0003)
_AWAY_SECONDS = 0.3  # of one that comes back with its firmware


def folder_of(view: Path, accelerator: Accelerator) -> Path:
    """The folder behind /sys/bus/usb/devices/PORT."""
    return view / "sys-bus" / "usb" / "devices" / accelerator.name


def write(view: Path, board: Board) -> None:
    """Files of the bus and of the board's accelerators, before their first use; none where it has no accelerator."""
    if not board.usb:
        return
    devices = view / "sys-bus" / "usb" / "devices"
    _device(devices / "usb2", _ROOT_HUB, 1, "0mA", "xHCI Host Controller", 9)
    for accelerator in board.usb:
        _device(folder_of(view, accelerator), NEW, accelerator.device, "224mA", "", 0)
        port = devices / "2-0:1.0" / f"usb2-port{accelerator.number}"
        sysfs.files(port, {"over_current_count": "0\n", "connect_type": "hotplug\n"}, 0o444)
        (folder_of(view, accelerator) / "port").symlink_to(f"../2-0:1.0/usb2-port{accelerator.number}")


def use(folder: Path) -> None:
    """What its first use makes of a device, which is off the bus meanwhile."""
    if (folder / "idVendor").read_text(encoding="ascii") == f"{READY[0]:04x}\n":
        return
    away = folder.parent.parent / f"away-{folder.name}"
    folder.rename(away)
    try:
        time.sleep(_AWAY_SECONDS)
        load(away)
    finally:
        away.rename(folder)


def load(folder: Path) -> None:
    """Make it the device that has its firmware."""
    _identify(folder, READY, 0)
    sysfs.put(folder / "bMaxPower", "896mA\n")


def configure(folder: Path, is_used: bool) -> None:
    """What the kernel makes of a device that it may use, or not (Documentation/usb/authorization.rst)."""
    sysfs.put(folder / "bConfigurationValue", "1\n" if is_used else "")


def _device(folder: Path, identity: tuple[int, int], number: int, power: str, product: str, code: int) -> None:
    files = {
        "busnum": "2\n",
        "devnum": f"{number}\n",
        "devpath": f"{folder.name.rpartition('-')[2] if '-' in folder.name else 0}\n",
        "speed": "5000\n",
        "version": " 3.10\n",
        "maxchild": "4\n" if code else "0\n",
        "bConfigurationValue": "1\n",
        "bNumConfigurations": "1\n",
        "bDeviceClass": f"{code:02x}\n",
        "bMaxPower": f"{power}\n",
        "authorized": "1\n",
    }
    if product:
        files["product"] = f"{product}\n"
    sysfs.files(folder, files, 0o644)
    _identify(folder, identity, code)


def _identify(folder: Path, identity: tuple[int, int], code: int) -> None:
    vendor, product = identity
    sysfs.files(folder, {"idVendor": f"{vendor:04x}\n", "idProduct": f"{product:04x}\n"}, 0o444)
    # USB 3.1: a device descriptor, and a configuration with one interface that has no endpoint.
    body = struct.pack("<BBHBBBBHHHBBBB", 18, 1, 0x0310, code, 0, 3, 9, vendor, product, 0x0100, 0, 0, 0, 1)
    body += struct.pack("<BBHBBBBB", 9, 2, 18, 1, 1, 0, 0x80, 112)
    body += struct.pack("<BBBBBBBBB", 9, 4, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0)
    (folder / "descriptors").write_bytes(body)
