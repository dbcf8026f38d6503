"""View of a board's Edge TPUs in /sys and /proc: a tree of plain files that the board mounts over its own.

Names, formats and modes are those of the gasket and apex drivers: the one in Mendel's kernel (apex 1.1) on the boards
that are Mendel's, the one of the package gasket-dkms 1.0-18 (apex 1.2) on the others. Every file can be changed while
the board runs; its next read returns the new text.

    bus-pci/               -> /sys/bus/pci           devices and the driver bound to them
    sys-class/apex/        -> /sys/class/apex        one folder per Edge TPU
    sys-module/            -> /sys/module/{apex,gasket}
    proc-bus-pci-devices   -> /proc/bus/pci/devices
"""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

from clusteradm.lab.topology import Board, Tpu

VENDOR, DEVICE = 0x1AC1, 0x089A
INTERRUPTS = 13
# BAR 0: 16 KiB, BAR 2: 1 MiB, both 64 bits wide and prefetchable.
BARS = {0: 0x4000, 2: 0x100000}
_MEMORY_64_PREFETCHABLE = 0x14220C
_MSIX_CONTROL = 0xD3  # in configuration space: the byte whose highest bit is "enabled"
_MODALIAS = f"pci:v{VENDOR:08X}d{DEVICE:08X}sv{VENDOR:08X}sd{DEVICE:08X}bc08sc80iFF"
# Number of the board's device nodes, which are null devices: udev compares it with the view's.
DEVICE_NUMBER = (1, 3)


def temperature(adc: int) -> int:
    """Milli-degrees of a reading of the sensor: the driver's linear fit, in steps of a quarter of a degree."""
    return (662 - adc) * 250 + 550


# Above the second trip point (90 °C) and below the third: a driver that polls runs the TPU at a quarter of its clock.
HOT = temperature(300)
# Sensor of a chip that has fallen off the bus: all ones.
OFF_BUS = temperature(0x3FF)


def put(path: Path, text: str) -> None:
    """Replace a file's text in place, so that a reader never sees it empty."""
    body = text.encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.pwrite(descriptor, body, 0)
        os.ftruncate(descriptor, len(body))
    finally:
        os.close(descriptor)


def settable(millidegrees: int) -> int:
    """Value that the driver reads back after a temperature was set: the sensor's next lower step (85000 -> 84800)."""
    return temperature(-((millidegrees - 550) // 250) + 662)


def usual(board: Board, tpu: Tpu) -> int:
    """Milli-degrees of an idle Edge TPU; each has its own."""
    return temperature(486 - board.number - 2 * tpu.number)


def class_folder(view: Path, tpu: Tpu) -> Path:
    """The folder behind /sys/class/apex/apex_N."""
    return view / "sys-class" / "apex" / f"apex_{tpu.number}"


def bus_folder(view: Path, tpu: Tpu) -> Path:
    """The folder behind /sys/bus/pci/devices/ADDRESS."""
    return view / "bus-pci" / "devices" / tpu.address


def make(view: Path, board: Board) -> None:
    """Write the whole view anew, as at a boot."""
    shutil.rmtree(view, ignore_errors=True)
    for place in ("bus-pci/devices", "bus-pci/drivers", "bus-pci/slots", "sys-class/apex", "sys-module"):
        (view / place).mkdir(parents=True)
    for name in ("rescan", "drivers_probe", "uevent"):
        _files(view / "bus-pci", {name: ""}, 0o200)
    _files(view / "bus-pci", {"drivers_autoprobe": "1\n"}, 0o644)
    if board.tpus:
        _driver(view, board)
        _bridge(view, board)
    else:
        (view / "sys-class" / "apex").rmdir()
    for tpu in board.tpus:
        _pci(view, tpu, board.mendel)
        _bind(view, board, tpu)
    _proc(view, board)


def plug(view: Path, board: Board, tpu: Tpu, *, driver: bool = True) -> None:
    """Add an Edge TPU to the bus. `driver`: apex binds to it, which fails (-110) if the chip does not answer."""
    _pci(view, tpu, board.mendel)
    if driver:
        _bind(view, board, tpu)
    _proc(view, board)


def unplug(view: Path, board: Board, tpu: Tpu) -> None:
    """Remove an Edge TPU from the bus and from the driver."""
    shutil.rmtree(class_folder(view, tpu), ignore_errors=True)
    (view / "bus-pci" / "drivers" / "apex" / tpu.address).unlink(missing_ok=True)
    shutil.rmtree(bus_folder(view, tpu), ignore_errors=True)
    _proc(view, board)


def heat(view: Path, tpu: Tpu, millidegrees: int) -> None:
    """Set the temperature that the sensor reads."""
    put(class_folder(view, tpu) / "temp", f"{millidegrees}\n")


def lame(view: Path, tpu: Tpu) -> None:
    """Remove its MSI-X vectors: the driver's status is LAMED, and there are no interrupt counts."""
    put(class_folder(view, tpu) / "status", "LAMED\n")
    (class_folder(view, tpu) / "interrupt_counts").unlink()
    shutil.rmtree(bus_folder(view, tpu) / "msi_irqs")
    config = bytearray((bus_folder(view, tpu) / "config").read_bytes())
    config[_MSIX_CONTROL] &= 0x7F  # Enable-
    (bus_folder(view, tpu) / "config").write_bytes(config)


def _files(folder: Path, files: dict[str, str], mode: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        put(folder / name, text)
        (folder / name).chmod(mode)


def _driver(view: Path, board: Board) -> None:
    driver = view / "bus-pci" / "drivers" / "apex"
    _files(driver, {"bind": "", "unbind": "", "new_id": "", "remove_id": "", "uevent": ""}, 0o200)
    (driver / "module").symlink_to("../../../../module/apex")
    for module, version in (("apex", _version(board)[0]), ("gasket", _version(board)[1])):
        files = {
            "version": f"{version}\n",
            "refcnt": "0\n",
            "initstate": "live\n",
            "taint": "OE\n",
            "coresize": "24576\n",
        }
        _files(view / "sys-module" / module, files, 0o444)
    (view / "sys-module" / "apex" / "drivers").mkdir()
    (view / "sys-module" / "apex" / "drivers" / "pci:apex").symlink_to("../../../bus/pci/drivers/apex")
    limits = _limits(board)
    parameters = {name: f"{value}\n" for name, value in limits.items() if not name.endswith("_en")}
    parameters |= {name: ("Y\n" if value else "N\n") for name, value in limits.items() if name.endswith("_en")}
    parameters |= {"allow_power_save": "1\n", "allow_sw_clock_gating": "0\n", "allow_hw_clock_gating": "1\n"}
    _files(view / "sys-module" / "apex" / "parameters", {**parameters, "bypass_top_level": "0\n"}, 0o444)
    _files(view / "sys-module" / "gasket" / "parameters", {"dma_bit_mask": "64\n"}, 0o444)


def _version(board: Board) -> tuple[str, str]:
    """Versions of the drivers apex and gasket."""
    return ("1.1", "1.1.3") if board.mendel else ("1.2", "1.1.4")


def _limits(board: Board) -> dict[str, int]:
    """Default parameters of the driver. Mendel's neither throttles nor shuts a TPU down."""
    trips = {f"trip_point{number}_temp": value for number, value in enumerate((85000, 90000, 95000))}
    if board.mendel:
        rest = {"temp_poll_interval": 0, "hw_temp_warn1": 100000, "hw_temp_warn2": 110000, "hw_temp_warn2_en": 0}
    else:
        rest = {"temp_poll_interval": 5000, "hw_temp_warn1": 100000, "hw_temp_warn2": 100000, "hw_temp_warn2_en": 1}
    return {**trips, **rest, "hw_temp_warn1_en": 0}


def _apex(folder: Path, board: Board, tpu: Tpu) -> None:
    apex, gasket = _version(board)
    read_only = {
        "status": "ALIVE\n",
        "driver_version": f"{apex}\n",
        "framework_version": f"{gasket}\n",
        "device_type": "apex\n",
        "revision": "0\n",
        "pci_address": f"{tpu.address}\n",
        "is_device_owned": "0\n",
        "device_owner": "0\n",
        "write_open_count": "0\n",
        "reset_count": "0\n",
        "bar_offsets": "2: 0x0\n",
        "bar_sizes": "2: 0x100000\n",
        "user_mem_ranges": "0x00040000-0x00041000\n0x00044000-0x00045000\n0x00048000-0x00049000\n",
        "interrupt_counts": interrupt_counts(0),
        "temp": f"{usual(board, tpu)}\n",
        "node_0_page_table_entries": "8192\n",
        "node_0_simple_page_table_entries": "8192\n",
        "node_0_num_mapped_pages": "0\n",
        "dev": "{}:{}\n".format(*DEVICE_NUMBER),
    }
    if not board.mendel:
        read_only["unique_id"] = f"{0x5C0B0000 + board.number:08x}{tpu.number:08x}{0x1ABDE5:08x}{VENDOR:08x}\n"
    _files(folder, read_only, 0o444)
    limits = _limits(board)
    thermal = {
        name: settable(value) if name.endswith(("_temp", "_warn1", "_warn2")) else value
        for name, value in limits.items()
    }
    _files(folder, {name: f"{value}\n" for name, value in thermal.items()}, 0o644)
    _files(folder, {"uevent": uevent(tpu)}, 0o644)
    (folder / "device").symlink_to(f"../../../bus/pci/devices/{tpu.address}")
    (folder / tpu.address).symlink_to(f"../../../bus/pci/devices/{tpu.address}")
    (folder / "subsystem").symlink_to("../../../class/apex")


def uevent(tpu: Tpu) -> str:
    return "MAJOR={}\nMINOR={}\nDEVNAME=apex_{}\n".format(*DEVICE_NUMBER, tpu.number)


def interrupt_counts(inferences: int) -> str:
    """Text of interrupt_counts: interrupt 0x03 (output activation queue) counts the inferences."""
    return "".join(f"0x{line:02x}: {inferences if line == 3 else 0}\n" for line in range(INTERRUPTS))


def _pci(view: Path, tpu: Tpu, mendel: bool) -> None:
    """Files of one Edge TPU on the bus, without a driver."""
    starts, irq = _starts(tpu), _irq(tpu)
    # Newer kernels write "5.0 GT/s PCIe" where Mendel's writes "5 GT/s".
    speed = "5 GT/s" if mendel else "5.0 GT/s PCIe"
    folder = bus_folder(view, tpu)
    regions = [
        f"0x{starts[bar]:016x} 0x{starts[bar] + BARS[bar] - 1:016x} 0x{_MEMORY_64_PREFETCHABLE:016x}"
        if bar in BARS
        else f"0x{0:016x} 0x{0:016x} 0x{0:016x}"
        for bar in range(13)
    ]
    files = {
        **_identity(VENDOR, DEVICE, 0x0880FF, VENDOR, DEVICE, irq),
        "resource": "\n".join(regions) + "\n",
        "current_link_speed": f"{speed}\n",
        "current_link_width": "1\n",
        "max_link_speed": f"{speed}\n",
        "max_link_width": "1\n",
        "modalias": f"{_MODALIAS}\n",
        "power_state": "D0\n",
        "uevent": _pci_uevent(tpu),
    }
    _files(folder, files, 0o444)
    _files(folder, {"enable": "1\n", "driver_override": "(null)\n"}, 0o644)
    _files(folder, {"remove": "", "rescan": "", "reset": ""}, 0o200)
    (folder / "config").write_bytes(_tpu_config(starts))
    (folder / "subsystem").symlink_to("../../../../bus/pci")


def _bind(view: Path, board: Board, tpu: Tpu) -> None:
    """Files of an Edge TPU that the driver binds to: interrupts, links, class device with counters at 0."""
    folder = bus_folder(view, tpu)
    irqs = (str(_irq(tpu) + 1 + number) for number in range(INTERRUPTS))
    _files(folder / "msi_irqs", dict.fromkeys(irqs, "msix\n"), 0o444)
    put(folder / "uevent", f"DRIVER=apex\n{_pci_uevent(tpu)}")
    (folder / "driver").symlink_to("../../../../bus/pci/drivers/apex")
    (folder / "apex").mkdir()
    (folder / "apex" / f"apex_{tpu.number}").symlink_to(f"../../../../../class/apex/apex_{tpu.number}")
    (view / "bus-pci" / "drivers" / "apex" / tpu.address).symlink_to(f"../../../../bus/pci/devices/{tpu.address}")
    _apex(class_folder(view, tpu), board, tpu)


def _pci_uevent(tpu: Tpu) -> str:
    identity = f"{VENDOR:04X}:{DEVICE:04X}"
    return (
        f"PCI_CLASS=880FF\nPCI_ID={identity}\nPCI_SUBSYS_ID={identity}\n"
        f"PCI_SLOT_NAME={tpu.address}\nMODALIAS={_MODALIAS}\n"
    )


def _bus(tpu: Tpu) -> int:
    return int(tpu.address[5:7], 16)


def _irq(tpu: Tpu) -> int:
    return 100 + _bus(tpu)


def _starts(tpu: Tpu) -> dict[int, int]:
    """Address of each BAR."""
    return {0: 0x18100000 + _bus(tpu) * 0x200000, 2: 0x18000000 + _bus(tpu) * 0x200000}


def _proc(view: Path, board: Board) -> None:
    """Write /proc/bus/pci/devices: the bridge and every Edge TPU on the bus, in the order of addresses."""
    lines = []
    if board.tpus:
        lines.append(_proc_line(0, *_bridge_id(board), 99, [0] * 7, [0] * 7, "pcieport"))
    for tpu in sorted(board.tpus, key=lambda tpu: tpu.address):
        if not bus_folder(view, tpu).exists():
            continue
        starts = _starts(tpu)
        bars = [starts[bar] | 0xC if bar in BARS else 0 for bar in range(7)]
        sizes = [BARS.get(bar, 0) for bar in range(7)]
        driver = "apex" if (bus_folder(view, tpu) / "driver").is_symlink() else ""
        lines.append(_proc_line(_bus(tpu), VENDOR, DEVICE, _irq(tpu), bars, sizes, driver))
    put(view / "proc-bus-pci-devices", "".join(lines))


def _bridge_id(board: Board) -> tuple[int, int]:
    """Vendor and device of the bridge in front of the Edge TPUs."""
    return (0x16C3, 0xABCD) if board.mendel else (0x8086, 0xA33C)


def _bridge(view: Path, board: Board) -> None:
    vendor, device = _bridge_id(board)
    folder = view / "bus-pci" / "devices" / f"{board.tpus[0].address.partition(':')[0]}:00:00.0"
    files = {**_identity(vendor, device, 0x060400, 0, 0, 99), "resource": f"0x{0:016x} 0x{0:016x} 0x{0:016x}\n" * 13}
    _files(folder, files, 0o444)
    config = bytearray(64)
    struct.pack_into("<HHHH", config, 0, vendor, device, 0x0507, 0x0010)
    config[8:16] = bytes((1, 0, 4, 6, 0x10, 0, 1, 0))
    config[0x18:0x1B] = bytes((0, 1, 0xFF))
    (folder / "config").write_bytes(config)


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
