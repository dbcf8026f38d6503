"""Out of use and back, with a kernel that this test plays on the lab's view of a board's USB bus."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clusteradm.errors import ClusteradmError
from clusteradm.fleet import tpu_reset
from clusteradm.lab import hardware, usb
from clusteradm.lab.topology import boards
from clusteradm.node.spec.wire.decode import decode
from clusteradm.node.spec.wire.fleet import ResetOutcome

BOARD = boards(2, 1, usb=2)[1]
STICK = BOARD.usb[1]


class Kernel:
    """Obeys `authorized` of one accelerator in the tree below `root`, until it is stopped. `configures`: whether the
    accelerator answers it."""

    def __init__(self, root: Path) -> None:
        self.root, self.obeys, self.configures = root, True, True
        self.seen: list[str] = []
        view = root / "view"
        hardware.make(view, BOARD)
        (root / "sys").mkdir()
        (root / "sys/bus").symlink_to(view / "sys-bus")
        for one in BOARD.usb:
            node = root / one.node.lstrip("/")
            node.parent.mkdir(parents=True, exist_ok=True)
            node.touch(0o660)
        self.folder = usb.folder_of(view, STICK)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _live(self) -> None:
        before = "1"
        while not self._stop.wait(0.01):
            said = (self.folder / "authorized").read_text().strip()
            if said and said != before:
                before = said
                self.seen.append(said)
                if self.obeys and (said == "0" or self.configures):
                    usb.configure(self.folder, said == "1")


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    one = Kernel(tmp_path)
    yield one
    one.stop()


Reset = Callable[..., ResetOutcome]


def test_it_is_taken_out_of_use_and_back(kernel: Kernel, reset: Reset) -> None:
    usb.load(kernel.folder)
    reply = reset("usb:2-2")
    assert reply.outcome == "done" and reply.seconds < 10 and kernel.seen == ["0", "1"]
    assert reply.before == reply.after is not None
    assert (reply.after.driver, reply.after.device) == ("18d1:9302", "bus/usb/002/003") and reply.after.node
    assert tpu_reset.judge("w1", "usb:2-2", reply).after.address == "usb:2-2"


def test_one_that_was_not_authorized_is(kernel: Kernel, reset: Reset) -> None:
    (kernel.folder / "authorized").write_text("0\n")
    usb.configure(kernel.folder, False)
    assert reset("usb:2-2").outcome == "done"


def test_a_name_that_is_not_there(kernel: Kernel, reset: Reset) -> None:
    reply = reset("usb:1-7")
    assert reply.outcome == "unknown" and [card.address for card in reply.tpus] == ["usb:2-1", "usb:2-2"]
    assert kernel.seen == []


def test_nothing_is_done_while_a_process_has_it(kernel: Kernel, reset: Reset) -> None:
    descriptors = kernel.root / "proc/77/fd"
    descriptors.mkdir(parents=True)
    (descriptors / "5").symlink_to(STICK.node)
    reply = reset("usb:2-2")
    assert reply.outcome == "busy" and reply.owner is not None and reply.owner.pid == 77
    assert kernel.seen == []


def test_one_that_does_not_answer(kernel: Kernel, reset: Reset) -> None:
    kernel.configures = False
    reply = reset("usb:2-2", seconds=0.5)
    assert reply.outcome == "lost" and reply.after is not None


def test_a_kernel_that_does_not_obey(kernel: Kernel, reset: Reset) -> None:
    kernel.obeys = False
    assert reset("usb:2-2", seconds=0.5).outcome == "stays"
    assert (kernel.folder / "authorized").read_text() == "1\n"


def test_a_bus_that_cannot_be_written_to(kernel: Kernel, reset: Reset) -> None:
    kernel.stop()
    (kernel.folder / "authorized").unlink()
    reply = reset("usb:2-2")
    assert reply.outcome == "denied" and reply.reason is not None and "authorized" in reply.reason


CARD = {"address": "usb:2-2", "device": "bus/usb/002/003", "driver": "18d1:9302", "node": None}


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ({"outcome": "unknown"}, "w1 has no USB Accelerator 'usb:2-2'\n  it has: usb:2-2 = bus/usb/002/003"),
        ({"outcome": "denied", "reason": "Read-only file system"}, "taken out of use: Read-only file system"),
        ({"outcome": "stays"}, "usb:2-2 could not be taken out of use\n  unplug it"),
        ({"outcome": "lost"}, "did not come back: it is not on the bus any more\n  unplug it"),
        ({"outcome": "lost", "after": CARD}, "does not answer the kernel that configures it"),
    ],
)
def test_each_outcome_but_done_is_an_error_that_says_what_to_do(reply: dict[str, Any], said: str) -> None:
    with pytest.raises(ClusteradmError) as raised:
        tpu_reset.judge("w1", "usb:2-2", decode(ResetOutcome, {"before": CARD, "tpus": [CARD], **reply}))
    assert said in str(raised.value) and raised.value.next_step
