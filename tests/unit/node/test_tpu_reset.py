"""Off the bus and back, with a kernel that this test plays on the lab's view of a board's sysfs."""

from __future__ import annotations

import os
import pwd
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clusteradm.errors import ClusteradmError
from clusteradm.fleet import tpu_reset
from clusteradm.lab import apex, hardware, pci, sysfs
from clusteradm.lab.topology import boards
from clusteradm.node.spec.wire.decode import decode
from clusteradm.node.spec.wire.fleet import ResetOutcome

BOARD = boards(2, 2)[1]
TPU = BOARD.tpus[0]
ME = pwd.getpwuid(os.getuid()).pw_name


def size(path: Path) -> int:
    """Bytes of a file that may only be written."""
    return path.stat().st_size


class Kernel:
    """Obeys remove and rescan in the tree below `root`, until it is stopped. `comes_back`: what it does at a rescan."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.view = root / "view"
        self.obeys = True
        self.comes_back: Callable[[], None] = self.plug
        self._stop = threading.Event()
        hardware.make(self.view, BOARD)
        (root / "sys/bus").mkdir(parents=True)
        (root / "sys/class").mkdir()
        (root / "sys/bus/pci").symlink_to(self.view / "bus-pci")
        (root / "sys/class/apex").symlink_to(self.view / "sys-class/apex")
        (root / "dev").mkdir()
        for one in BOARD.tpus:
            (root / f"dev/apex_{one.number}").touch(0o660)
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def plug(self) -> None:
        if pci.folder_of(self.view, TPU).exists():
            return
        hardware.plug(self.view, BOARD, TPU)
        time.sleep(0.2)
        (self.root / "dev/apex_0").touch(0o660)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _live(self) -> None:
        remove, rescan = pci.folder_of(self.view, TPU) / "remove", self.view / "bus-pci/rescan"
        while not self._stop.wait(0.02):
            if remove.exists() and size(remove) and self.obeys:
                hardware.unplug(self.view, BOARD, TPU)
                (self.root / "dev/apex_0").unlink()
            if size(rescan) and self.obeys:
                sysfs.put(rescan, "")
                self.comes_back()


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    one = Kernel(tmp_path)
    yield one
    one.stop()


Reset = Callable[..., ResetOutcome]


@pytest.mark.parametrize("name", [TPU.address, "apex_0"])
def test_it_comes_back(kernel: Kernel, reset: Reset, name: str) -> None:
    apex.set_temperature(kernel.view, TPU, 60050)
    reply = reset(name)
    assert reply.outcome == "done" and reply.seconds < 5
    assert (reply.before.temp, reply.after.temp) == ("60050", str(apex.usual(BOARD, TPU)))
    assert reply.before.node == reply.after.node is not None
    assert reply.after.address == TPU.address and reply.after.device == "apex_0"


def test_a_name_that_is_not_there(reset: Reset) -> None:
    reply = reset("apex_7")
    assert reply.outcome == "unknown"
    assert [(card.address, card.device) for card in reply.tpus] == [
        ("0000:04:00.0", "apex_1"),
        ("0000:05:00.0", "apex_0"),
    ]


@pytest.mark.parametrize("file", ["is_device_owned", "write_open_count", "device_owner"])
def test_nothing_is_done_while_a_process_has_it(kernel: Kernel, reset: Reset, file: str) -> None:
    sysfs.put(apex.folder_of(kernel.view, TPU) / file, "1\n")
    assert reset("apex_0").outcome == "busy"
    assert apex.folder_of(kernel.view, TPU).exists()
    assert size(pci.folder_of(kernel.view, TPU) / "remove") == 0


def test_a_job_of_the_cluster_is_named(kernel: Kernel, reset: Reset) -> None:
    folder = kernel.root / "proc" / "77"
    folder.mkdir(parents=True)
    command = ["python3", "-m", "clusteradm.node.job.rank", "/srv/cluster/jobs/j12", "1"]
    (folder / "cmdline").write_text("\0".join(command))
    sysfs.put(apex.folder_of(kernel.view, TPU) / "device_owner", "77\n")
    owner = reset("apex_0", ME).owner
    assert (owner.pid, owner.user, owner.job) == (77, ME, "j12")
    assert reset("apex_0", "another").owner.job is None, "anybody can call a process like that"


def test_a_chip_that_the_driver_gives_up_on(kernel: Kernel, reset: Reset) -> None:
    kernel.comes_back = lambda: hardware.plug(kernel.view, BOARD, TPU, driver=False)
    reply = reset("apex_0", seconds=3.0)
    assert reply.outcome == "lost"
    assert reply.after.driver is None and reply.after.device is None


def test_a_chip_that_is_gone(kernel: Kernel, reset: Reset) -> None:
    kernel.comes_back = lambda: None
    reply = reset("apex_0", seconds=3.0)
    assert (reply.outcome, reply.after) == ("lost", None)


def test_one_without_a_driver_can_be_reset(kernel: Kernel, reset: Reset) -> None:
    hardware.unplug(kernel.view, BOARD, TPU)
    hardware.plug(kernel.view, BOARD, TPU, driver=False)
    reply = reset(TPU.address)
    assert reply.outcome == "done" and reply.before.device is None


def test_one_that_is_off_the_bus_is_found_by_a_scan(kernel: Kernel, reset: Reset) -> None:
    """As a reset leaves it that was ended between remove and rescan."""
    hardware.unplug(kernel.view, BOARD, TPU)
    (kernel.root / "dev/apex_0").unlink()
    reply = reset(TPU.address)
    assert reply.outcome == "found" and reply.before is None
    assert (reply.after.address, reply.after.device) == (TPU.address, "apex_0") and reply.after.node


def test_one_that_never_had_a_driver_is_left_alone(kernel: Kernel, reset: Reset) -> None:
    hardware.unplug(kernel.view, BOARD, TPU)
    hardware.plug(kernel.view, BOARD, TPU, driver=False)
    shutil.rmtree(kernel.view / "bus-pci/drivers/apex")
    assert reset(TPU.address).outcome == "undriven"
    assert size(pci.folder_of(kernel.view, TPU) / "remove") == 0


def test_one_that_is_passed_to_a_virtual_machine_is_left_alone(kernel: Kernel, reset: Reset) -> None:
    hardware.unplug(kernel.view, BOARD, TPU)
    hardware.plug(kernel.view, BOARD, TPU, driver=False)
    (kernel.view / "bus-pci/drivers/vfio-pci").mkdir()
    (pci.folder_of(kernel.view, TPU) / "driver").symlink_to("../../../../bus/pci/drivers/vfio-pci")
    reply = reset(TPU.address)
    assert (reply.outcome, reply.before.driver) == ("undriven", "vfio-pci")
    assert size(pci.folder_of(kernel.view, TPU) / "remove") == 0


def test_a_kernel_that_does_not_obey(kernel: Kernel, reset: Reset) -> None:
    kernel.obeys = False
    assert reset("apex_0", seconds=1.0).outcome == "stays"


def test_a_bus_that_cannot_be_written_to(kernel: Kernel, reset: Reset) -> None:
    (pci.folder_of(kernel.view, TPU) / "remove").unlink()
    reply = reset("apex_0")
    assert reply.outcome == "denied" and "remove" in reply.reason


# ---- what a person is told ----

CARD = {"address": TPU.address, "device": "apex_0", "driver": "apex", "node": None}
OWNER = {"pid": 77, "user": "ann", "command": "python3 camera.py", "job": None}


@pytest.mark.parametrize(
    ("reply", "said", "status"),
    [
        ({"outcome": "unknown"}, f"a scan of the bus finds none\n  it has: {TPU.address} = apex_0", 2),
        ({"outcome": "busy", "owner": OWNER}, "in use by process 77 of ann (python3 camera.py); nothing was done", 3),
        ({"outcome": "busy", "owner": {**OWNER, "job": "j12"}}, "in use by job j12 of this cluster", 3),
        ({"outcome": "busy"}, "a process that does not show who it is", 3),
        ({"outcome": "denied", "reason": "Read-only file system"}, "Read-only file system", 3),
        ({"outcome": "undriven", "before": {**CARD, "driver": None}}, "has no driver: a reset does not help", 3),
        ({"outcome": "undriven", "before": {**CARD, "driver": "vfio-pci"}}, "to the driver vfio-pci", 3),
        ({"outcome": "found", "before": None, "after": {**CARD, "device": None, "driver": None}}, "modprobe apex", 3),
        ({"outcome": "stays"}, "could not be taken off the bus", 3),
        ({"outcome": "lost"}, "did not come back: it is not on the bus any more\n  switch the host off and on", 3),
        ({"outcome": "lost", "after": {**CARD, "driver": None}}, "the driver gave up on it", 3),
        ({"outcome": "lost", "after": CARD}, "has no device node", 3),
    ],
)
def test_each_outcome_but_done_is_an_error_that_says_what_to_do(reply: dict[str, Any], said: str, status: int) -> None:
    with pytest.raises(ClusteradmError) as raised:
        nothing = {"before": CARD, "after": None, "owner": None, "reason": None, "tpus": [CARD]}
        tpu_reset.judge("w1", "apex_0", decode(ResetOutcome, {**nothing, **reply}))
    assert said in str(raised.value) and raised.value.exit_code == status
    assert raised.value.next_step
