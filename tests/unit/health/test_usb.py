"""USB Accelerators: from trees of sysfs files to one state each, and to the devices that a rank opens."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusteradm import shipped
from clusteradm.health import tpu
from clusteradm.health.finding import Finding, Severity
from clusteradm.health.tpu import facts as tpu_facts
from clusteradm.node import usb
from clusteradm.node.edgetpu import engine
from clusteradm.node.edgetpu.engine import device_path
from clusteradm.node.edgetpu.library import Device, DeviceError, device_option
from clusteradm.node.job import granted
from clusteradm.node.probe import tpu as probe
from clusteradm.node.probe import trial
from clusteradm.node.serve import tpus as served

from .conftest import DKMS_1_2, Tree

READY = {"idVendor": "18d1", "idProduct": "9302", "speed": "5000"}
NEW = {"idVendor": "1a6e", "idProduct": "089a", "speed": "480"}
RUNTIME = {"ok": True, "library": "BuildLabel(N/A), RuntimeVersion(14)", "litert": "2.3.0"}


class Bus:
    """The USB bus of a root. The node of each device is what udev makes of it."""

    def __init__(self, root: Path) -> None:
        self.root, self.base = root, root / "sys/bus/usb/devices"
        self.nodes: dict[str, dict[str, Any] | None] = {}

    def plug(self, name: str, files: dict[str, str], peer: str = "", **changed: str) -> Path:
        folder = self.base / name
        folder.mkdir(parents=True)
        bus, number = name.partition("-")[0], str(2 + len(self.nodes))
        usual = {
            "busnum": bus,
            "devnum": number,
            "bConfigurationValue": "1",
            "bMaxPower": "896mA",
            "authorized": "1",
        }
        for file, text in {**usual, **files, **changed}.items():
            (folder / file).write_text(text + "\n")
        port = self.root / "ports" / self.port(name)
        port.mkdir(parents=True, exist_ok=True)
        (port / "over_current_count").write_text("0\n")
        (folder / "port").symlink_to(port)
        if peer:
            other = self.root / "ports" / self.port(peer)
            other.mkdir()
            (port / "peer").symlink_to(other)
        path = f"/dev/bus/usb/{bus.rjust(3, '0')}/{number.rjust(3, '0')}"
        self.nodes[path] = {"path": path, "mode": "0660", "owner": "root", "group": "apex"}
        return folder

    @staticmethod
    def port(name: str) -> str:
        """The kernel's name of a device's port: 2-1 is in usb2-port1, 2-1.4 in 2-1-port4."""
        if name.startswith("usb"):
            return "none"
        above, dot, last = name.rpartition(".")
        bus, _, number = name.partition("-")
        return f"{above}-port{last}" if dot else f"usb{bus}-port{number}"

    def open(self, path: str, pid: int, command: str) -> None:
        folder = self.root / "proc" / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "fd/0").symlink_to("/dev/null")
        (folder / "fd/5").symlink_to(path)
        (folder / "cmdline").write_text(command.replace(" ", "\0"))


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bus:
    found = Bus(tmp_path)
    monkeypatch.setattr(probe, "node", lambda root, path: found.nodes.get(path))
    monkeypatch.setattr(probe, "in_group", lambda user, group: group == "apex")
    monkeypatch.setattr(probe.usb, "output", lambda command: "Bus 002 Device 002: ID 18d1:9302 Google Inc.\n")
    return found


def document(bus: Bus, **more: Any) -> dict[str, Any]:
    return {"tpu": probe.probe(str(bus.root), {"user": "cluster"}), **more}


def one(bus: Bus, **more: Any) -> Finding:
    (finding,) = [each for each in tpu.judge("h", None, document(bus, **more)) if each.check == tpu.CHECK]
    return finding


def attempt(**result: Any) -> dict[str, Any]:
    usual = {"ok": False, "stage": "load", "access": True, "stderr": []}
    return {"attempts": {"usb:2-1": {**usual, **result}}}


def test_one_that_is_well(bus: Bus) -> None:
    bus.plug("2-1", READY)
    listed = {**RUNTIME, "devices": ["/sys/bus/usb/devices/2-1"]}
    finding = one(bus, runtime=listed, trial=attempt(ok=True, stage="done", inference=True))
    assert (finding.subject, finding.state) == ("h usb:2-1", "OK"), finding
    assert finding.detail == "/dev/bus/usb/002/002, usb:0, 5000 Mbit/s, 18d1:9302"
    assert tpu.healthy("h", document(bus)) == (tpu.Tpu("usb:2-1", "/dev/bus/usb/002/002"),)


def test_one_before_its_first_use_is_as_good(bus: Bus) -> None:
    bus.plug("1-2.3", NEW)
    finding = one(bus)
    assert (finding.subject, finding.state) == ("h usb:1-2.3", "OK")
    assert "1a6e:089a, before its first use" in finding.detail


@pytest.mark.parametrize(("name", "peer"), [("2-3", "1-3"), ("2-1.4", "1-1.4"), ("1-3", "2-3"), ("1-3", "")])
def test_its_address_stays_when_it_changes_the_bus(bus: Bus, name: str, peer: str) -> None:
    bus.plug(name, READY, peer)
    (found,) = usb.accelerators(str(bus.root))
    assert found.address == "usb:" + (name if name.startswith("1") else peer)
    assert found.path == f"/sys/bus/usb/devices/{name}"


def test_they_are_told_from_others_and_ordered_by_port(bus: Bus) -> None:
    bus.plug("2-10", READY)
    bus.plug("2-9", NEW)
    bus.plug("2-1", {"idVendor": "18d1", "idProduct": "4ee1"})
    bus.plug("usb2", {"idVendor": "1d6b", "idProduct": "0003"})
    assert [each.address for each in usb.accelerators(str(bus.root))] == ["usb:2-9", "usb:2-10"]


@pytest.mark.parametrize(
    ("files", "state", "cause"),
    [
        ({"speed": "480"}, "LINK", "480 Mbit/s"),
        ({"bConfigurationValue": ""}, "POWER", "896mA"),
        ({"authorized": "0", "bConfigurationValue": ""}, "NO_PERMISSION", "authorized"),
        ({"devnum": ""}, "NO_NODE", "/dev/bus/usb"),
    ],
)
def test_what_its_files_tell(bus: Bus, files: dict[str, str], state: str, cause: str) -> None:
    bus.plug("2-1", READY, **files)
    finding = one(bus)
    assert finding.state == state and cause in finding.cause and finding.remedy
    assert bool(tpu.healthy("h", document(bus))) is (state == "LINK")


@pytest.mark.parametrize(
    ("node", "state"),
    [
        ({"mode": "0664", "group": "root"}, "NO_PERMISSION"),
        ({"mode": "0600", "group": "apex"}, "NO_PERMISSION"),
        ({"mode": "0666", "group": "root"}, "OK"),
        (None, "NO_NODE"),
    ],
)
def test_who_may_open_it(bus: Bus, node: dict[str, str] | None, state: str) -> None:
    bus.plug("2-1", READY)
    (path,) = bus.nodes
    bus.nodes[path] = None if node is None else {"path": path, "owner": "root", **node}
    finding = one(bus)
    assert finding.state == state
    if state == "NO_PERMISSION":
        assert path in finding.cause and finding.remedy == "run clusteradm bootstrap"


def test_one_in_use(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    bus.plug("2-1", READY)
    bus.open("/dev/bus/usb/002/002", 77, "python3 detect.py")
    finding = one(bus)
    assert finding.state == "BUSY" and "process 77" in finding.cause and "python3 detect.py" in finding.cause
    assert tpu.healthy("h", document(bus)) == ()
    # A rank's is in use by its job, and others may wait for it.
    monkeypatch.setattr(probe, "process", lambda root, pid, user: {"pid": int(pid), "user": "cluster", "job": "j-1"})
    assert (one(bus).state, one(bus).severity) == ("OK", Severity.OK) and "in use by job j-1" in one(bus).detail
    assert tpu.healthy("h", document(bus)) == ()
    for whose in ({"of_jobs": True}, {"of_others": True}):  # the latter of jobs on Slurm, which knows who has it
        assert [each.pci_address for each in tpu.healthy("h", document(bus), **whose)] == ["usb:2-1"]


@pytest.mark.parametrize(
    ("result", "state", "cause"),
    [
        ({"stage": "load", "error": "Failed to load delegate"}, "WEDGED", "does not open"),
        ({"stage": "invoke", "timeout": True}, "WEDGED", "hung (invoke)"),
        ({"stage": "invoke", "signal": 11}, "RUNTIME", "signal 11"),
        ({"stage": "import", "timeout": True}, "OK", ""),
    ],
)
def test_a_trial_that_failed(bus: Bus, result: dict[str, Any], state: str, cause: str) -> None:
    bus.plug("2-1", READY)
    finding = one(bus, trial=attempt(**result))
    assert finding.state == state and cause in finding.cause


def test_they_count_as_the_hosts_tpus(bus: Bus, tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.card("0000:01:00.0", 0, DKMS_1_2)
    bus.nodes.update(tree.nodes)
    bus.plug("2-1", READY)
    found = [(each.subject, each.state) for each in tpu.judge("h", 3, document(bus)) if each.check == tpu.CHECK]
    assert found == [("h 0000:01:00.0", "OK"), ("h usb:2-1", "OK"), ("h", "ABSENT")]
    assert list(tpu_facts.read(document(bus)).addresses) == ["0000:01:00.0", "usb:2-1", "apex_0"]
    # For a server, too.
    assert served.addresses(str(tmp_path)) == ["0000:01:00.0", "usb:2-1"]
    assert served.condition("usb:2-1", False, str(tmp_path)).reason is None
    assert "not there any more" in (served.condition("usb:2-2", False, str(tmp_path)).reason or "")


def test_a_rank_opens_it_by_the_librarys_own_name(bus: Bus) -> None:
    bus.plug("2-1", READY, "1-1")
    path = device_path("usb:1-1", str(bus.root))
    assert path == "/sys/bus/usb/devices/2-1"
    listed = [
        Device("usb", "/sys/bus/usb/devices/2-7"),
        Device("pci", "/dev/apex_0"),
        Device("usb", "/sys/bus/usb/devices/2-1"),
    ]
    assert device_option(path, listed) == "usb:1"
    with pytest.raises(DeviceError, match="no USB Accelerator at usb:1-9 \\(of usb:1-1 here\\)"):
        device_path("usb:1-9", str(bus.root))


def test_why_it_did_not_open_is_said_of_its_device_node(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    node = bus.root / "node"
    node.touch()
    monkeypatch.setattr(usb, "device_node", lambda root, name: str(node) if name == "2-1" else None)
    said = engine._refused("/sys/bus/usb/devices/2-1", ValueError("Failed to load delegate"))
    assert said.startswith(f"{node} did not open (Failed to load delegate): another process owns it, or it hangs")


def test_it_is_tried_where_it_is_free(bus: Bus) -> None:
    bus.plug("2-1", READY)
    bus.plug("2-2", READY)
    bus.plug("2-3", READY, bConfigurationValue="")
    bus.open("/dev/bus/usb/002/003", 77, "python3 detect.py")
    (found,) = trial.free(str(bus.root))
    assert found == {
        "name": "2-1",
        "address": "usb:2-1",
        "path": "/sys/bus/usb/devices/2-1",
        "node": "/dev/bus/usb/002/002",
    }


def test_lsusb_is_told_where_there_is_one(bus: Bus) -> None:
    assert document(bus)["tpu"]["lsusb"] is None
    bus.plug("2-1", READY)
    assert document(bus)["tpu"]["lsusb"] == ["002/002"]


@pytest.mark.parametrize("value", [None, 3, "x", [], {"address": "usb:1-1"}, {"address": 1, "name": 2}])
def test_a_damaged_document_is_no_crash(value: Any) -> None:
    assert list(tpu.judge("h", None, {"tpu": {"usb": [value], "lspci": [], "proc": []}})) == []


def test_slurms_configuration_and_its_jobs_name_it_as_health_does(tmp_path: Path) -> None:
    bus = Bus(tmp_path)
    for name, files, peer in (
        ("2-2", READY, "1-2"),
        ("1-4.1", NEW, "2-4.1"),
        ("10-1", READY, "9-1"),
        ("3-1.2.3", READY, ""),
        ("2-3", {**READY, "idProduct": "1234"}, ""),
    ):
        bus.plug(name, files, peer)
    (bus.base / "2-0:1.0").mkdir()
    addresses = [each.address for each in usb.accelerators(str(tmp_path))]
    assert addresses == ["usb:1-2", "usb:1-4.1", "usb:3-1.2.3", "usb:9-1"]

    def shell(script: str) -> str:
        here = script.replace("/sys/", f"{tmp_path}/sys/")
        return subprocess.run(["sh", "-c", here], capture_output=True, text=True, check=True).stdout

    variables = yaml.safe_load((shipped.PLAYBOOKS / "vars/slurm.yml").read_text(encoding="utf-8"))
    assert sorted(shell(variables["slurm_look_at_usb"]).split()) == sorted(addresses)
    assert granted.tpus_of(shell(granted._QUESTION % "/dev/null"), None) == sorted(addresses)
