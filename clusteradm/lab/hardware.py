"""View of a board's Edge TPUs in /sys and /proc: a tree of plain files that the board mounts over its own.

Every file can be changed while the board runs; its next read returns the new text.

    bus-pci/               -> /sys/bus/pci           devices and the driver bound to them (pci)
    sys-class/apex/        -> /sys/class/apex        one folder per Edge TPU (apex)
    sys-module/            -> /sys/module/{apex,gasket}
    proc-bus-pci-devices   -> /proc/bus/pci/devices
    sys-bus/usb/           -> /sys/bus/usb           devices (usb), where the board has one
"""

from __future__ import annotations

import shutil
from pathlib import Path

from clusteradm.lab import apex, pci, sysfs, usb
from clusteradm.lab.topology import Board, Tpu


def make(view: Path, board: Board) -> None:
    """Write the whole view anew, as at a boot."""
    shutil.rmtree(view, ignore_errors=True)
    for place in ("bus-pci/devices", "bus-pci/drivers", "bus-pci/slots", "sys-class/apex", "sys-module"):
        (view / place).mkdir(parents=True)
    for name in ("rescan", "drivers_probe", "uevent"):
        sysfs.files(view / "bus-pci", {name: ""}, 0o200)
    sysfs.files(view / "bus-pci", {"drivers_autoprobe": "1\n"}, 0o644)
    if board.tpus:
        apex.write_modules(view, board)
        pci.add_bridge(view, board)
    else:
        (view / "sys-class" / "apex").rmdir()
    for tpu in board.tpus:
        pci.add(view, tpu, board.mendel)
        _bind(view, board, tpu)
    pci.write_list(view, board)
    usb.write(view, board)


def plug(view: Path, board: Board, tpu: Tpu, *, driver: bool = True) -> None:
    """Add an Edge TPU to the bus. `driver`: apex binds to it, which fails (-110) if the chip does not answer."""
    pci.add(view, tpu, board.mendel)
    if driver:
        _bind(view, board, tpu)
    pci.write_list(view, board)


def unplug(view: Path, board: Board, tpu: Tpu) -> None:
    """Remove an Edge TPU from the bus and from the driver."""
    shutil.rmtree(apex.folder_of(view, tpu), ignore_errors=True)
    (view / "bus-pci" / "drivers" / "apex" / tpu.address).unlink(missing_ok=True)
    shutil.rmtree(pci.folder_of(view, tpu), ignore_errors=True)
    pci.write_list(view, board)


def lame(view: Path, tpu: Tpu) -> None:
    """Remove its MSI-X vectors: the driver's status is LAMED, and there are no interrupt counts."""
    sysfs.put(apex.folder_of(view, tpu) / "status", "LAMED\n")
    (apex.folder_of(view, tpu) / "interrupt_counts").unlink()
    shutil.rmtree(pci.folder_of(view, tpu) / "msi_irqs")
    pci.disable_interrupts(view, tpu)


def _bind(view: Path, board: Board, tpu: Tpu) -> None:
    """Files of an Edge TPU that the driver binds to: interrupts, links, class device with counters at 0."""
    folder = pci.folder_of(view, tpu)
    irqs = (str(pci.irq(tpu) + 1 + number) for number in range(apex.INTERRUPTS))
    sysfs.files(folder / "msi_irqs", dict.fromkeys(irqs, "msix\n"), 0o444)
    sysfs.put(folder / "uevent", f"DRIVER=apex\n{pci.uevent(tpu)}")
    (folder / "driver").symlink_to("../../../../bus/pci/drivers/apex")
    (folder / "apex").mkdir()
    (folder / "apex" / f"apex_{tpu.number}").symlink_to(f"../../../../../class/apex/apex_{tpu.number}")
    (view / "bus-pci" / "drivers" / "apex" / tpu.address).symlink_to(f"../../../../bus/pci/devices/{tpu.address}")
    apex.write_class(view, board, tpu)
