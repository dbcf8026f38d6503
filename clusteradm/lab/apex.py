"""Drivers gasket and apex in a board's view: their modules, and the class device of each Edge TPU that they drive.

Names, formats and modes are those of the driver in Mendel's kernel (apex 1.1) on the boards that are Mendel's, of the
package gasket-dkms 1.0-18 (apex 1.2) on the others (google/gasket-driver, src/gasket_core.c and src/apex_driver.c).
"""

from __future__ import annotations

from pathlib import Path

from clusteradm.lab import pci, sysfs
from clusteradm.lab.topology import Board, Tpu

INTERRUPTS = 13
# Number of the board's device nodes, which are null devices: udev compares it with the view's.
DEVICE_NUMBER = (1, 3)


def temperature(adc: int) -> int:
    """Milli-degrees of a reading of the sensor: the driver's linear fit, in steps of a quarter of a degree."""
    return (662 - adc) * 250 + 550


# Above the second trip point (90 °C) and below the third: a driver that polls runs the TPU at a quarter of its clock.
HOT = temperature(300)
# Sensor of a chip that has fallen off the bus: all ones.
OFF_BUS = temperature(0x3FF)


def settable(millidegrees: int) -> int:
    """Value that the driver reads back after a temperature was set: the sensor's next lower step (85000 -> 84800)."""
    return temperature(-((millidegrees - 550) // 250) + 662)


def usual(board: Board, tpu: Tpu) -> int:
    """Milli-degrees of an idle Edge TPU; each has its own."""
    return temperature(486 - board.number - 2 * tpu.number)


def folder_of(view: Path, tpu: Tpu) -> Path:
    """The folder behind /sys/class/apex/apex_N."""
    return view / "sys-class" / "apex" / f"apex_{tpu.number}"


def set_temperature(view: Path, tpu: Tpu, millidegrees: int) -> None:
    """Set the temperature that the sensor reads."""
    sysfs.put(folder_of(view, tpu) / "temp", f"{millidegrees}\n")


def write_modules(view: Path, board: Board) -> None:
    """Files of /sys/module/{apex,gasket} and of the driver on the bus."""
    driver = view / "bus-pci" / "drivers" / "apex"
    sysfs.files(driver, {"bind": "", "unbind": "", "new_id": "", "remove_id": "", "uevent": ""}, 0o200)
    (driver / "module").symlink_to("../../../../module/apex")
    for module, version in (("apex", _version(board)[0]), ("gasket", _version(board)[1])):
        files = {
            "version": f"{version}\n",
            "refcnt": "0\n",
            "initstate": "live\n",
            "taint": "OE\n",
            "coresize": "24576\n",
        }
        sysfs.files(view / "sys-module" / module, files, 0o444)
    (view / "sys-module" / "apex" / "drivers").mkdir()
    (view / "sys-module" / "apex" / "drivers" / "pci:apex").symlink_to("../../../bus/pci/drivers/apex")
    limits = _limits(board)
    parameters = {name: f"{value}\n" for name, value in limits.items() if not name.endswith("_en")}
    parameters |= {name: ("Y\n" if value else "N\n") for name, value in limits.items() if name.endswith("_en")}
    parameters |= {"allow_power_save": "1\n", "allow_sw_clock_gating": "0\n", "allow_hw_clock_gating": "1\n"}
    sysfs.files(view / "sys-module" / "apex" / "parameters", {**parameters, "bypass_top_level": "0\n"}, 0o444)
    sysfs.files(view / "sys-module" / "gasket" / "parameters", {"dma_bit_mask": "64\n"}, 0o444)


def write_class(view: Path, board: Board, tpu: Tpu) -> None:
    """Files of /sys/class/apex/apex_N, with counters at 0."""
    folder = folder_of(view, tpu)
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
        read_only["unique_id"] = f"{0x5C0B0000 + board.number:08x}{tpu.number:08x}{0x1ABDE5:08x}{pci.VENDOR:08x}\n"
    sysfs.files(folder, read_only, 0o444)
    limits = _limits(board)
    thermal = {
        name: settable(value) if name.endswith(("_temp", "_warn1", "_warn2")) else value
        for name, value in limits.items()
    }
    sysfs.files(folder, {name: f"{value}\n" for name, value in thermal.items()}, 0o644)
    sysfs.files(folder, {"uevent": uevent(tpu)}, 0o644)
    (folder / "device").symlink_to(f"../../../bus/pci/devices/{tpu.address}")
    (folder / tpu.address).symlink_to(f"../../../bus/pci/devices/{tpu.address}")
    (folder / "subsystem").symlink_to("../../../class/apex")


def uevent(tpu: Tpu) -> str:
    """Text of the class device's uevent."""
    return "MAJOR={}\nMINOR={}\nDEVNAME=apex_{}\n".format(*DEVICE_NUMBER, tpu.number)


def interrupt_counts(inferences: int) -> str:
    """Text of interrupt_counts: interrupt 0x03 (output activation queue) counts the inferences."""
    return "".join(f"0x{line:02x}: {inferences if line == 3 else 0}\n" for line in range(INTERRUPTS))


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
