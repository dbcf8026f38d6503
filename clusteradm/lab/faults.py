"""What can be done to a board, and how it is undone: to its simulated Edge TPUs as the real driver would show it, to
the rest of it by its own tools. Nothing of it knows the programs that run there.

Values and formats: the gasket and apex drivers (google/gasket-driver, src/gasket_core.c and src/apex_driver.c).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clusteradm.lab import hardware, net
from clusteradm.lab.machine import LabError
from clusteradm.lab.topology import CLUSTER, Tpu

if TYPE_CHECKING:
    from clusteradm.lab.node import Node

# Above the second trip point (90 °C) and below the third: a driver that looks has it run at a quarter of its clock.
HOT = hardware.temperature(300)
# All ones from the sensor: what a chip reads that has fallen off its bus.
WEDGED = hardware.temperature(0x3FF)
DISK = "/run/clusteradm-lab-over/disk"
SERVER = "nfs-ganesha"

_HOLD = """\
import os, signal, socket, sys
node = os.open("/dev/" + sys.argv[1], os.O_RDWR)
channel = socket.socket(socket.AF_UNIX)
channel.connect("/run/clusteradm-lab/tpu/" + sys.argv[1] + ".sock")
if channel.recv(1) != b"R":
    sys.exit(sys.argv[1] + " is in use")
signal.pause()
"""


@dataclass(frozen=True)
class Fault:
    """`tpu`: done to Edge TPUs, one by one: do(node, tpu); otherwise do(node). `lasts`: a reboot does not undo it."""

    summary: str
    do: Callable[..., Coroutine[Any, Any, None]]
    undo: Callable[..., Coroutine[Any, Any, None]]
    tpu: bool = False
    lasts: bool = False


def ills(node: Node, tpu: Tpu) -> list[str]:
    """What ails an Edge TPU and still does after a reset of its bus."""
    return [kind for kind, numbers in node.faults.items() if FAULTS[kind].lasts and tpu.number in numbers]


def shown(node: Node) -> list[str]:
    """What was done to a board, in words: "hot", or "hot apex_1" where it has other Edge TPUs."""
    return [
        " ".join([kind, *(f"apex_{number}" for number in sorted(numbers))])
        if 0 < len(numbers) < len(node.board.tpus)
        else kind
        for kind, numbers in node.faults.items()
    ]


# ---- the board as a whole ----


async def _cut(node: Node) -> None:
    net.cable(node.board, False)


async def _freeze(node: Node) -> None:
    node.group.freeze(True)


async def _power(node: Node) -> None:
    node.power_off()


async def _as_restored(node: Node) -> None:
    """Whatever was done, a board that is restored has its cables and is neither frozen nor off."""


# ---- Edge TPUs: the view of them ----


async def _hot(node: Node, tpu: Tpu) -> None:
    hardware.heat(node.view, tpu, HOT)


async def _cool(node: Node, tpu: Tpu) -> None:
    with contextlib.suppress(FileNotFoundError):  # removed from the bus meanwhile
        hardware.heat(node.view, tpu, hardware.usual(node.board, tpu))


async def _wedge(node: Node, tpu: Tpu) -> None:
    node.halt_tpu(tpu)
    with contextlib.suppress(FileNotFoundError):  # found again by a rescan, it has no driver
        hardware.heat(node.view, tpu, WEDGED)


async def _lame(node: Node, tpu: Tpu) -> None:
    node.halt_tpu(tpu)
    hardware.lame(node.view, tpu)


async def _take_out(node: Node, tpu: Tpu) -> None:
    await node.unplug_tpu(tpu)


async def _replace(node: Node, tpu: Tpu) -> None:
    await node.unplug_tpu(tpu)
    await node.plug_tpu(tpu)


# ---- Edge TPUs: the board's side of them ----


async def _lock_up(node: Node, tpu: Tpu) -> None:
    await node.run("sh", "-c", f"chown root:root /dev/apex_{tpu.number} && chmod 600 /dev/apex_{tpu.number}")


async def _as_udev_has_it(node: Node, tpu: Tpu) -> None:
    await node.run("udevadm", "trigger", "--subsystem-match=apex")


async def _hold(node: Node, tpu: Tpu) -> None:
    (node.folder / "shared" / "hold_tpu.py").write_text(_HOLD, encoding="ascii")
    name = f"apex_{tpu.number}"
    start = ["systemd-run", "--quiet", "--collect", f"--unit=lab-busy-{name}"]
    await node.run(*start, "python3", "/run/clusteradm-lab/hold_tpu.py", name)
    for _ in range(100):
        about = (hardware.class_folder(node.view, tpu) / "device_owner").read_text(encoding="ascii")
        unit = await node.run("sh", "-c", f"systemctl show -p MainPID --value lab-busy-{name}")
        if about.strip() != "0" and about.strip() == unit.strip():
            return
        await asyncio.sleep(0.05)
    await _let_go(node, tpu)
    raise LabError(f"{node.board.name}: {name} cannot be opened: another process has it, or it does not answer")


async def _let_go(node: Node, tpu: Tpu) -> None:
    await node.run("sh", "-c", f"systemctl stop lab-busy-apex_{tpu.number} 2>/dev/null || true")


# ---- the rest of the board ----


async def _fill(node: Node) -> None:
    # A layer with no room left over /var: what is there stays readable, nothing more can be written.
    await node.run(
        *("sh", "-ec"),
        f"mkdir -p {DISK}; mount -t tmpfs -o size=4m,mode=755 lab-disk {DISK}; mkdir {DISK}/upper {DISK}/work;"
        f" chmod --reference=/var {DISK}/upper;"
        f" mount -t overlay -o lowerdir=/var,upperdir={DISK}/upper,workdir={DISK}/work lab-disk /var;"
        f" head -c 8M /dev/zero >{DISK}/full 2>/dev/null || true",
    )


async def _empty(node: Node) -> None:
    await node.run("umount", "--lazy", "/var", DISK)


async def _stop_server(node: Node) -> None:
    about = await node.run("sh", "-c", f"systemctl is-active {SERVER} || true")
    if about.strip() != "active":
        raise LabError(f"{node.board.name} runs no NFS server ({SERVER}); the head does, after bootstrap")
    await node.run("systemctl", "kill", "--signal=STOP", SERVER)


async def _continue_server(node: Node) -> None:
    await node.run("systemctl", "kill", "--signal=CONT", SERVER)


async def _claim(node: Node) -> None:
    await node.run("ip", "address", "replace", _foreign(node), "dev", node.board.cluster_interface)


async def _disclaim(node: Node) -> None:
    await node.run("ip", "address", "delete", _foreign(node), "dev", node.board.cluster_interface)
    # What NetworkManager found there and did not make, it keeps as a connection of its own without the address.
    name = node.board.cluster_interface
    found = f"nmcli -t -f DEVICE,STATE device | grep -qx '{name}:connected (externally)'"
    await node.run("sh", "-c", f"! {found} || nmcli device disconnect {name}")


def _foreign(node: Node) -> str:
    """The head's address in the cluster's network; on the head, that of w1."""
    return f"{CLUSTER}.{2 if node.board.number == 1 else 1}/24"


async def _stop_sshd(node: Node) -> None:
    await node.run("systemctl", "stop", "ssh")


async def _start_sshd(node: Node) -> None:
    await node.run("systemctl", "start", "ssh")


FAULTS = {
    "cut": Fault("its network cables are pulled", _cut, _as_restored, lasts=True),
    "freeze": Fault("everything on it stands still, with its connections open", _freeze, _as_restored),
    "power": Fault("the plug is pulled", _power, _as_restored),
    "hot": Fault("an Edge TPU above its second trip point", _hot, _cool, tpu=True, lasts=True),
    "wedged": Fault("an Edge TPU that does not answer, though it says ALIVE", _wedge, _replace, tpu=True, lasts=True),
    "lamed": Fault("an Edge TPU without interrupts", _lame, _replace, tpu=True, lasts=True),
    "absent": Fault("an Edge TPU that is not on the bus", _take_out, _replace, tpu=True, lasts=True),
    "permission": Fault("/dev/apex_N for root alone, until udev is triggered", _lock_up, _as_udev_has_it, tpu=True),
    "busy": Fault("a process on the board has the Edge TPU open", _hold, _let_go, tpu=True),
    "disk": Fault("/var is full", _fill, _empty),
    "nfs": Fault("its NFS server does not answer any more: mounts of it hang", _stop_server, _continue_server),
    "address": Fault("it has the head's cluster address too (the head: that of w1)", _claim, _disclaim),
    "sshd": Fault("its sshd is dead; connections that are open live on", _stop_sshd, _start_sshd),
}
