"""PCI bus in a board's view: its Edge TPUs, the bridge in front of them, and /proc/bus/pci/devices."""

from __future__ import annotations

import struct
from pathlib import Path

from clusteradm.lab import sysfs
from clusteradm.lab.topology import Board, Tpu

VENDOR, DEVICE = 0x1AC1, 0x089A
# BAR 0: 16 KiB, BAR 2: 1 MiB, both 64 bits wide and prefetchable.
BARS = {0: 0x4000, 2: 0x100000}
_MEMORY_64_PREFETCHABLE = 0x14220C
_MSIX_CONTROL = 0xD3  # in configuration space: the byte whose highest bit is "enabled"
_MODALIAS = f"pci:v{VENDOR:08X}d{DEVICE:08X}sv{VENDOR:08X}sd{DEVICE:08X}bc08sc80iFF"


def folder_of(view: Path, tpu: Tpu) -> Path:
    """The folder behind /sys/bus/pci/devices/ADDRESS."""
    return view / "bus-pci" / "devices" / tpu.address


def add(view: Path, tpu: Tpu, mendel: bool) -> None:
    """Files of one Edge TPU on the bus, without a driver."""
    starts = _starts(tpu)
    # Newer kernels write "5.0 GT/s PCIe" where Mendel's writes "5 GT/s".
    speed = "5 GT/s" if mendel else "5.0 GT/s PCIe"
    folder = folder_of(view, tpu)
    regions = [
        f"0x{starts[bar]:016x} 0x{starts[bar] + BARS[bar] - 1:016x} 0x{_MEMORY_64_PREFETCHABLE:016x}"
        if bar in BARS
        else f"0x{0:016x} 0x{0:016x} 0x{0:016x}"
        for bar in range(13)
    ]
    files = {
        **_identity(VENDOR, DEVICE, 0x0880FF, VENDOR, DEVICE, irq(tpu)),
        "resource": "\n".join(regions) + "\n",
        "current_link_speed": f"{speed}\n",
        "current_link_width": "1\n",
        "max_link_speed": f"{speed}\n",
        "max_link_width": "1\n",
        "modalias": f"{_MODALIAS}\n",
        "power_state": "D0\n",
        "uevent": uevent(tpu),
    }
    sysfs.files(folder, files, 0o444)
    sysfs.files(folder, {"enable": "1\n", "driver_override": "(null)\n"}, 0o644)
    sysfs.files(folder, {"remove": "", "rescan": "", "reset": ""}, 0o200)
    (folder / "config").write_bytes(_tpu_config(starts))
    (folder / "subsystem").symlink_to("../../../../bus/pci")


def disable_interrupts(view: Path, tpu: Tpu) -> None:
    """Clear the bit of MSI-X in the configuration space."""
    path = folder_of(view, tpu) / "config"
    config = bytearray(path.read_bytes())
    config[_MSIX_CONTROL] &= 0x7F  # Enable-
    path.write_bytes(config)


def uevent(tpu: Tpu) -> str:
    """Text of a TPU's uevent on the bus."""
    identity = f"{VENDOR:04X}:{DEVICE:04X}"
    return (
        f"PCI_CLASS=880FF\nPCI_ID={identity}\nPCI_SUBSYS_ID={identity}\n"
        f"PCI_SLOT_NAME={tpu.address}\nMODALIAS={_MODALIAS}\n"
    )


def irq(tpu: Tpu) -> int:
    """Number of a TPU's legacy interrupt; those of its MSI-X vectors follow it."""
    return 100 + _bus(tpu)


def add_bridge(view: Path, board: Board) -> None:
    """Files of the bridge in front of the Edge TPUs."""
    vendor, device = _bridge_id(board)
    folder = view / "bus-pci" / "devices" / f"{board.tpus[0].address.partition(':')[0]}:00:00.0"
    files = {**_identity(vendor, device, 0x060400, 0, 0, 99), "resource": f"0x{0:016x} 0x{0:016x} 0x{0:016x}\n" * 13}
    sysfs.files(folder, files, 0o444)
    config = bytearray(64)
    struct.pack_into("<HHHH", config, 0, vendor, device, 0x0507, 0x0010)
    config[8:16] = bytes((1, 0, 4, 6, 0x10, 0, 1, 0))
    config[0x18:0x1B] = bytes((0, 1, 0xFF))
    (folder / "config").write_bytes(config)


def write_list(view: Path, board: Board) -> None:
    """Write /proc/bus/pci/devices: the bridge and every Edge TPU on the bus, in the order of addresses."""
    lines = []
    if board.tpus:
        lines.append(_proc_line(0, *_bridge_id(board), 99, [0] * 7, [0] * 7, "pcieport"))
    for tpu in sorted(board.tpus, key=lambda tpu: tpu.address):
        if not folder_of(view, tpu).exists():
            continue
        starts = _starts(tpu)
        bars = [starts[bar] | 0xC if bar in BARS else 0 for bar in range(7)]
        sizes = [BARS.get(bar, 0) for bar in range(7)]
        driver = "apex" if (folder_of(view, tpu) / "driver").is_symlink() else ""
        lines.append(_proc_line(_bus(tpu), VENDOR, DEVICE, irq(tpu), bars, sizes, driver))
    sysfs.put(view / "proc-bus-pci-devices", "".join(lines))


def _bus(tpu: Tpu) -> int:
    return int(tpu.address[5:7], 16)


def _starts(tpu: Tpu) -> dict[int, int]:
    """Address of each BAR."""
    return {0: 0x18100000 + _bus(tpu) * 0x200000, 2: 0x18000000 + _bus(tpu) * 0x200000}


def _bridge_id(board: Board) -> tuple[int, int]:
    """Vendor and device of the bridge in front of the Edge TPUs."""
    return (0x16C3, 0xABCD) if board.mendel else (0x8086, 0xA33C)


def _identity(vendor: int, device: int, code: int, subvendor: int, subdevice: int, irq: int) -> dict[str, str]:
    return {
        "vendor": f"0x{vendor:04x}\n",
        "device": f"0x{device:04x}\n",
        "class": f"0x{code:06x}\n",
        "subsystem_vendor": f"0x{subvendor:04x}\n",
        "subsystem_device": f"0x{subdevice:04x}\n",
        "revision": "0x00\n",
        "irq": f"{irq}\n",
        "numa_node": "-1\n",
        "local_cpus": "f\n",
        "local_cpulist": "0-3\n",
    }


def _proc_line(bus: int, vendor: int, device: int, irq: int, bars: list[int], sizes: list[int], driver: str) -> str:
    """One line, in the format of the kernel's drivers/pci/proc.c, show_device()."""
    columns = "".join(f"\t{value:16x}" for value in (*bars, *sizes))
    return f"{bus:02x}00\t{vendor:04x}{device:04x}\t{irq:x}{columns}\t{driver}\n"


def _tpu_config(starts: dict[int, int]) -> bytes:
    """Configuration space: header, PCI Express (link 5 GT/s x1), MSI-X (128 vectors, enabled), power management."""
    config = bytearray(256)
    struct.pack_into("<HHHH", config, 0x00, VENDOR, DEVICE, 0x0406, 0x0010)
    config[0x08:0x10] = bytes((0x00, 0xFF, 0x80, 0x08, 0x10, 0, 0, 0))
    for bar, start in starts.items():
        struct.pack_into("<Q", config, 0x10 + 4 * bar, start | 0xC)
    struct.pack_into("<HH", config, 0x2C, VENDOR, DEVICE)
    config[0x34], config[0x3C], config[0x3D] = 0x80, 0xFF, 1
    # Express capability, version 2, endpoint; link capability: 5 GT/s, x1, L0s and L1; link status: the same.
    struct.pack_into("<BBHI", config, 0x80, 0x10, 0xD0, 0x0002, 0x00008FC1)
    struct.pack_into("<HHIHH", config, 0x88, 0x2810, 0x0000, 0x0003DC12, 0x0040, 0x1012)
    struct.pack_into("<BBHII", config, 0xD0, 0x11, 0xF8, 0x807F, 0x00046800 | 2, 0x00046068 | 2)
    struct.pack_into("<BBHHH", config, 0xF8, 0x01, 0x00, 0x0003, 0x0000, 0x0000)
    return bytes(config)
