"""Faults done to a virtual board, and undone: to its simulated Edge TPUs as the real driver shows them, to the rest of
it with its own tools. A fault does not depend on the programs that run on the board.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from clusteradm.lab import net
from clusteradm.lab.fault_kinds import FAULTS
from clusteradm.lab.machine import LabError
from clusteradm.lab.topology import CLUSTER, Tpu
from clusteradm.lab.virtual_board import VirtualBoard

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


async def do(board: VirtualBoard, kind: str, numbers: Sequence[int]) -> None:
    """Do a fault to the board, or to its Edge TPUs with these numbers; one that is there already is not done again."""
    fault = FAULTS[kind]
    if fault.tpu:
        for tpu in board.spec.tpus:
            if tpu.number in numbers and tpu.number not in board.faults.get(kind, ()):
                await _TPU[kind][0](board, tpu)
                board.faults.setdefault(kind, []).append(tpu.number)
    elif kind not in board.faults:
        # Noted first: a board that is switched off must not boot again.
        board.faults[kind] = []
        try:
            await _BOARD[kind][0](board)
        except BaseException:
            del board.faults[kind]
            raise
    board.changed()


async def restore(board: VirtualBoard) -> None:
    """Undo all faults of the board, and switch it on if it is off."""
    done, board.faults = board.faults, {}
    if "power" in done:
        await board.ended()
    if board.on:
        board.group.freeze(False)
        net.cable(board.spec, True)
        for kind, numbers in done.items():
            if not FAULTS[kind].tpu:
                await _BOARD[kind][1](board)
                continue
            for tpu in board.spec.tpus:
                if tpu.number in numbers:
                    await _TPU[kind][1](board, tpu)
        await board.rescan()  # TPUs that somebody removed from the bus
    else:
        board.tpus.end()  # they may be wedged
    board.start()
    board.changed()


def describe(board: VirtualBoard) -> list[str]:
    """Faults of the board in words: "hot", or "hot apex_1" if it has other Edge TPUs."""
    return [
        " ".join([kind, *(f"apex_{number}" for number in sorted(numbers))])
        if 0 < len(numbers) < len(board.spec.tpus)
        else kind
        for kind, numbers in board.faults.items()
    ]


# ---- the board as a whole ----


async def _cut(board: VirtualBoard) -> None:
    net.cable(board.spec, False)


async def _freeze(board: VirtualBoard) -> None:
    board.group.freeze(True)


async def _power(board: VirtualBoard) -> None:
    board.power_off()


async def _as_restored(board: VirtualBoard) -> None:
    """Nothing more to do: `restore` plugs the cables in, and unfreezes or starts every board."""


# ---- Edge TPUs: what the kernel shows of them ----


async def _hot(board: VirtualBoard, tpu: Tpu) -> None:
    board.tpus.heat(tpu)


async def _cool(board: VirtualBoard, tpu: Tpu) -> None:
    board.tpus.cool(tpu)


async def _wedge(board: VirtualBoard, tpu: Tpu) -> None:
    board.tpus.wedge(tpu)


async def _lame(board: VirtualBoard, tpu: Tpu) -> None:
    board.tpus.lame(tpu)


async def _take_out(board: VirtualBoard, tpu: Tpu) -> None:
    await board.unplug_tpu(tpu)


async def _replace(board: VirtualBoard, tpu: Tpu) -> None:
    await board.unplug_tpu(tpu)
    await board.plug_tpu(tpu)


# ---- Edge TPUs: the board's side of them ----


async def _lock_up(board: VirtualBoard, tpu: Tpu) -> None:
    await board.run("sh", "-c", f"chown root:root /dev/apex_{tpu.number} && chmod 600 /dev/apex_{tpu.number}")


async def _as_udev_has_it(board: VirtualBoard, tpu: Tpu) -> None:
    await board.run("udevadm", "trigger", "--subsystem-match=apex")


async def _hold(board: VirtualBoard, tpu: Tpu) -> None:
    (board.shared / "hold_tpu.py").write_text(_HOLD, encoding="ascii")
    name = f"apex_{tpu.number}"
    start = ["systemd-run", "--quiet", "--collect", f"--unit=lab-busy-{name}"]
    await board.run(*start, "python3", "/run/clusteradm-lab/hold_tpu.py", name)
    for _ in range(100):
        owner = board.tpus.owner(tpu)
        unit = await board.run("sh", "-c", f"systemctl show -p MainPID --value lab-busy-{name}")
        if owner != "0" and owner == unit.strip():
            return
        await asyncio.sleep(0.05)
    await _let_go(board, tpu)
    raise LabError(f"{board.spec.name}: {name} cannot be opened: another process has it, or it does not answer")


async def _let_go(board: VirtualBoard, tpu: Tpu) -> None:
    await board.run("sh", "-c", f"systemctl stop lab-busy-apex_{tpu.number} 2>/dev/null || true")


# ---- the rest of the board ----


async def _fill(board: VirtualBoard) -> None:
    # A full layer over /var: its files stay readable, nothing can be written.
    await board.run(
        *("sh", "-ec"),
        f"mkdir -p {DISK}; mount -t tmpfs -o size=4m,mode=755 lab-disk {DISK}; mkdir {DISK}/upper {DISK}/work;"
        f" chmod --reference=/var {DISK}/upper;"
        f" mount -t overlay -o lowerdir=/var,upperdir={DISK}/upper,workdir={DISK}/work lab-disk /var;"
        f" head -c 8M /dev/zero >{DISK}/full 2>/dev/null || true",
    )


async def _empty(board: VirtualBoard) -> None:
    await board.run("umount", "--lazy", "/var", DISK)


async def _stop_server(board: VirtualBoard) -> None:
    state = await board.run("sh", "-c", f"systemctl is-active {SERVER} || true")
    if state.strip() != "active":
        raise LabError(f"{board.spec.name} runs no NFS server ({SERVER}); the head does, after bootstrap")
    await board.run("systemctl", "kill", "--signal=STOP", SERVER)


async def _continue_server(board: VirtualBoard) -> None:
    await board.run("systemctl", "kill", "--signal=CONT", SERVER)


async def _claim(board: VirtualBoard) -> None:
    await board.run("ip", "address", "replace", _foreign(board), "dev", board.spec.cluster_interface)


async def _disclaim(board: VirtualBoard) -> None:
    await board.run("ip", "address", "delete", _foreign(board), "dev", board.spec.cluster_interface)
    # NetworkManager keeps a connection for an address that it found, even after that is gone.
    name = board.spec.cluster_interface
    found = f"nmcli -t -f DEVICE,STATE device 2>/dev/null | grep -qx '{name}:connected (externally)'"
    await board.run("sh", "-c", f"! {found} || nmcli device disconnect {name}")


def _foreign(board: VirtualBoard) -> str:
    """Cluster address of the head; for the head, that of w1."""
    return f"{CLUSTER}.{2 if board.spec.number == 1 else 1}/24"


async def _stop_sshd(board: VirtualBoard) -> None:
    await board.run("systemctl", "stop", "ssh")


async def _start_sshd(board: VirtualBoard) -> None:
    await board.run("systemctl", "start", "ssh")


_OnBoard = Callable[[VirtualBoard], Awaitable[None]]
_OnTpu = Callable[[VirtualBoard, Tpu], Awaitable[None]]
# kind -> functions that do and undo it.
_BOARD: dict[str, tuple[_OnBoard, _OnBoard]] = {
    "cut": (_cut, _as_restored),
    "freeze": (_freeze, _as_restored),
    "power": (_power, _as_restored),
    "disk": (_fill, _empty),
    "nfs": (_stop_server, _continue_server),
    "address": (_claim, _disclaim),
    "sshd": (_stop_sshd, _start_sshd),
}
_TPU: dict[str, tuple[_OnTpu, _OnTpu]] = {
    "hot": (_hot, _cool),
    "wedged": (_wedge, _replace),
    "lamed": (_lame, _replace),
    "absent": (_take_out, _replace),
    "permission": (_lock_up, _as_udev_has_it),
    "busy": (_hold, _let_go),
}
