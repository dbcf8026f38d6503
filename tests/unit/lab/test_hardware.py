"""What a board shows of its Edge TPUs, held against the formats of the drivers."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from types import ModuleType

import pytest

from clusteradm.lab import apex, fault_kinds, hardware, layer, pci, sysfs
from clusteradm.lab.topology import boards

MENDEL, PC = boards(2, 2)


@pytest.fixture
def view(tmp_path: Path) -> Path:
    hardware.make(tmp_path / "view", PC)
    return tmp_path / "view"


def read(view: Path, name: str) -> str:
    return (view / "sys-class" / "apex" / name).read_text(encoding="ascii")


def test_the_generic_files_have_the_drivers_formats(view: Path) -> None:
    formats = {
        "status": r"ALIVE\n",
        "driver_version": r"1\.2\n",
        "framework_version": r"1\.1\.4\n",
        "device_type": r"apex\n",
        "pci_address": r"0000:05:00\.0\n",
        "is_device_owned": r"0\n",
        "device_owner": r"0\n",
        "write_open_count": r"0\n",
        "reset_count": r"0\n",
        "bar_offsets": r"2: 0x0\n",
        "bar_sizes": r"2: 0x100000\n",
        "user_mem_ranges": r"(0x[0-9a-f]{8}-0x[0-9a-f]{8}\n)+",
        "interrupt_counts": r"(0x[0-9a-f]{2}: \d+\n){13}",
        "temp": r"\d+(050|300|550|800)\n",
        "trip_point0_temp": r"84800\n",
        "trip_point1_temp": r"89800\n",
        "trip_point2_temp": r"94800\n",
        "hw_temp_warn1": r"99800\n",
        "hw_temp_warn2_en": r"1\n",
        "temp_poll_interval": r"5000\n",
        "node_0_num_mapped_pages": r"0\n",
        "unique_id": r"[0-9a-f]{32}\n",
    }
    for name, pattern in formats.items():
        assert re.fullmatch(pattern, read(view, f"apex_0/{name}")), name


def test_mendels_older_driver_lacks_what_it_lacked_and_does_not_throttle(tmp_path: Path) -> None:
    hardware.make(tmp_path / "view", MENDEL)
    folder = tmp_path / "view" / "sys-class" / "apex" / "apex_0"
    assert not (folder / "unique_id").exists()
    assert (folder / "driver_version").read_text() == "1.1\n"
    assert (folder / "temp_poll_interval").read_text() == "0\n"
    assert (folder / "hw_temp_warn2_en").read_text() == "0\n"
    speed = tmp_path / "view" / "bus-pci" / "devices" / "0001:01:00.0" / "current_link_speed"
    assert speed.read_text() == "5 GT/s\n"


def test_the_higher_number_is_the_lower_pci_address(view: Path) -> None:
    assert read(view, "apex_0/pci_address") == "0000:05:00.0\n"
    assert read(view, "apex_1/pci_address") == "0000:04:00.0\n"
    assert (view / "sys-class/apex/apex_1/device").readlink().name == "0000:04:00.0"
    assert (view / "bus-pci/devices/0000:04:00.0/driver").readlink().name == "apex"


def test_proc_bus_pci_devices_is_in_the_kernels_format(view: Path) -> None:
    lines = (view / "proc-bus-pci-devices").read_text().splitlines()
    tpus = [line for line in lines if line.split("\t")[1] == "1ac1089a"]
    assert [line.split("\t")[0] for line in tpus] == ["0400", "0500"]
    for line in tpus:
        columns = line.split("\t")
        assert len(columns) == 3 + 7 + 7 + 1
        assert all(len(column) == 16 for column in columns[3:17])
        assert columns[-1] == "apex"
        assert int(columns[10], 16) == 0x4000 and int(columns[12], 16) == 0x100000


def test_configuration_space_begins_with_vendor_and_device_and_has_msix(view: Path) -> None:
    config = (view / "bus-pci/devices/0000:04:00.0/config").read_bytes()
    assert config[:4] == bytes.fromhex("c11a9a08")
    assert config[0x09:0x0C] == bytes.fromhex("ff8008")
    assert config[0xD0] == 0x11 and int.from_bytes(config[0xD2:0xD4], "little") & 0x7FF == 127


def test_a_board_without_a_tpu_shows_no_class(tmp_path: Path) -> None:
    hardware.make(tmp_path / "view", boards(1, 0)[0])
    assert not (tmp_path / "view" / "sys-class" / "apex").exists()
    assert not (tmp_path / "view" / "bus-pci" / "drivers" / "apex").exists()
    assert (tmp_path / "view" / "proc-bus-pci-devices").read_text() == ""


def test_temperatures_are_the_sensors_steps() -> None:
    assert [apex.settable(value) for value in (85000, 90000, 95000, 100000)] == [84800, 89800, 94800, 99800]
    assert apex.temperature(0x3FF) == -89700, "a chip that fell off the bus"


def test_a_file_is_replaced_in_place(tmp_path: Path) -> None:
    path = tmp_path / "temp"
    sysfs.put(path, "44550\n")
    before = path.stat().st_ino
    sysfs.put(path, "9\n")
    assert path.read_text() == "9\n" and path.stat().st_ino == before


def board_program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, layer.BOARD / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_udev_rules_decide_on_the_device_node() -> None:
    udevadm = board_program("udevadm")
    rules = [
        '# SUBSYSTEM=="apex", MODE="0777"',
        'SUBSYSTEM=="apex", MODE="0660", GROUP="apex"',
        'SUBSYSTEM=="block", MODE="0600"',
        'KERNEL=="apex_[1-9]", OWNER="somebody"',
        'SUBSYSTEM=="apex", ATTR{temp}=="1", MODE="0000"',
        'SUBSYSTEM=="apex", ACTION!="add", MODE="0000"',
    ]
    assert udevadm.permissions(rules, udevadm.of_apex("apex_0")) == {"MODE": "0660", "GROUP": "apex"}
    assert udevadm.permissions(rules, udevadm.of_apex("apex_1"))["OWNER"] == "somebody"
    assert udevadm.permissions([], udevadm.of_apex("apex_0")) == {}


def test_a_rule_file_of_the_admin_replaces_the_one_of_the_package(tmp_path: Path) -> None:
    udevadm = board_program("udevadm")
    for folder, name in (("etc", "60-a.rules"), ("lib", "60-a.rules"), ("lib", "50-b.rules")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).touch()
    found = udevadm.rule_files([str(tmp_path / "etc"), str(tmp_path / "lib")])
    assert [os.path.relpath(path, tmp_path) for path in found] == ["lib/50-b.rules", "etc/60-a.rules"]


@pytest.mark.parametrize(
    ("arguments", "heard"),
    [
        ("trigger", True),
        ("trigger --action=add --subsystem-match=apex", True),
        ("trigger -s apex", True),
        ("trigger --subsystem-match=net", False),
        ("trigger --dry-run", False),
        ("settle", False),
        ("control --reload", False),
    ],
)
def test_only_a_trigger_that_means_the_tpus_is_heard(arguments: str, heard: bool) -> None:
    assert board_program("udevadm").wants(arguments.split(), "apex") is heard


def tree(view: Path) -> dict[str, object]:
    """Every file, link and folder of a view, and what is in it; of what may only be written the size."""

    def inside(path: Path) -> object:
        if path.is_symlink():
            return path.readlink()
        if path.is_dir():
            return True
        return path.read_bytes() if path.stat().st_mode & 0o400 else path.stat().st_size

    return {str(path.relative_to(view)): inside(path) for path in view.rglob("*")}


def test_removed_from_the_bus_nothing_of_it_is_left_and_found_again_it_is_as_at_boot(view: Path) -> None:
    before, tpu = tree(view), PC.tpus[1]
    sysfs.put(apex.folder_of(view, tpu) / "interrupt_counts", apex.interrupt_counts(7))
    hardware.unplug(view, PC, tpu)
    assert [name for name in tree(view) if "apex_1" in name or tpu.address in name] == []
    assert len((view / "proc-bus-pci-devices").read_text().splitlines()) == 2, "the bridge and the other one"
    hardware.unplug(view, PC, tpu)
    hardware.plug(view, PC, tpu)
    assert tree(view) == before


def test_a_chip_that_the_driver_gave_up_on_is_on_the_bus_alone(view: Path) -> None:
    tpu = PC.tpus[1]
    hardware.unplug(view, PC, tpu)
    hardware.plug(view, PC, tpu, driver=False)
    bus = pci.folder_of(view, tpu)
    assert (bus / "vendor").read_text() == "0x1ac1\n"
    assert not (bus / "driver").is_symlink() and not (bus / "msi_irqs").exists()
    assert "DRIVER" not in (bus / "uevent").read_text()
    assert not apex.folder_of(view, tpu).exists()
    line = next(line for line in (view / "proc-bus-pci-devices").read_text().splitlines() if line.startswith("0400"))
    assert line.endswith("\t")


def test_hot_is_between_two_trip_points_and_a_wedge_is_all_ones(view: Path) -> None:
    assert re.fullmatch(r"\d+(050|300|550|800)", str(apex.HOT))
    assert int(read(view, "apex_0/trip_point1_temp")) < apex.HOT < int(read(view, "apex_0/trip_point2_temp"))
    assert apex.OFF_BUS == -89700
    apex.set_temperature(view, PC.tpus[0], apex.OFF_BUS)
    assert read(view, "apex_0/temp") == "-89700\n" and read(view, "apex_0/status") == "ALIVE\n"


def test_a_lamed_chip_has_no_interrupts_anywhere(view: Path) -> None:
    tpu = PC.tpus[0]
    hardware.lame(view, tpu)
    assert read(view, "apex_0/status") == "LAMED\n"
    assert not (view / "sys-class/apex/apex_0/interrupt_counts").exists()
    assert not (pci.folder_of(view, tpu) / "msi_irqs").exists()
    config = (pci.folder_of(view, tpu) / "config").read_bytes()
    assert int.from_bytes(config[0xD2:0xD4], "little") == 127, "128 vectors, not enabled"


def test_every_fault_is_listed_in_the_page() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/lab.md").read_text(encoding="utf-8")
    assert [kind for kind in [*fault_kinds.FAULTS, "restore"] if f"| `{kind}` |" not in page] == []
