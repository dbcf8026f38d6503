"""One running board: its disk mounted, its cables plugged, its container booted, and booted again when it reboots."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shlex
import signal
import socket
import stat
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clusteradm.lab import faults, hardware, net
from clusteradm.lab.bus import Listener
from clusteradm.lab.cgroup import UNIFIED, NodeGroup
from clusteradm.lab.machine import LabError
from clusteradm.lab.topology import Board, Tpu

# systemd-nspawn's exit status when the container asked for a reboot.
REBOOT = 133


@dataclass
class Node:
    """`folder` holds upper/ (the disk), shared/ (seen by the board as /run/clusteradm-lab) and console.log.
    `memory` is in bytes.

    `state`: off, booting, running; `faults`: what was done to it, each with the Edge TPUs (by number) it was done to.
    """

    board: Board
    folder: Path
    lower: tuple[Path, ...]
    group: NodeGroup
    memory: int
    changed: Callable[[], None]
    state: str = "off"
    faults: dict[str, list[int]] = field(default_factory=dict)
    boots: int = 0
    leader: int = 0
    _task: asyncio.Task[None] | None = None
    _tpus: dict[int, asyncio.subprocess.Process] = field(default_factory=dict, repr=False)
    _process: asyncio.subprocess.Process | None = field(default=None, repr=False)
    _bus: Listener | None = field(default=None, repr=False)

    def start(self) -> None:
        """Switch the board on, unless it is."""
        if not self._on:
            self.faults.pop("power", None)
            self._task = asyncio.create_task(self._live())

    @property
    def _on(self) -> bool:
        return self._task is not None and not self._task.done()

    def power_off(self) -> None:
        """As if the plug were pulled: cables dead first, so that no packet says goodbye."""
        net.cable(self.board, False)
        self.group.kill()
        self._end_tpus()

    async def fault(self, kind: str, numbers: Sequence[int]) -> None:
        """Do `kind` (one of faults.FAULTS) to the board, or to those of its Edge TPUs; what is done already is left."""
        fault = faults.FAULTS[kind]
        if not fault.tpu and kind not in self.faults:
            self.faults[kind] = []
            try:
                await fault.do(self)
            except BaseException:
                del self.faults[kind]
                raise
        for tpu in self.board.tpus:
            if fault.tpu and tpu.number in numbers and tpu.number not in self.faults.get(kind, ()):
                await fault.do(self, tpu)
                self.faults.setdefault(kind, []).append(tpu.number)
        self.changed()

    async def restore(self) -> None:
        """Undo whatever faults were done to the board."""
        done, self.faults = self.faults, {}
        if self._task is not None and self._on and "power" in done:
            await self._task
        if self._on:
            self.group.freeze(False)
            net.cable(self.board, True)
            for kind, numbers in done.items():
                fault = faults.FAULTS[kind]
                if not fault.tpu:
                    await fault.undo(self)
                for tpu in self.board.tpus:
                    if tpu.number in numbers:
                        await fault.undo(self, tpu)
            await self._rescan()  # what somebody took off the bus
        else:
            self._end_tpus()  # wedged ones, maybe
        self.start()
        self.changed()

    # ---- what faults are done with ----

    async def run(self, *argv: str) -> str:
        """Run a command on the board, as root; its standard output. Raises LabError where it fails or cannot run."""
        if not self.leader or "freeze" in self.faults:
            raise LabError(f"{self.board.name} is {'frozen' if self.leader else 'off'}")
        process = await asyncio.create_subprocess_exec(
            *self.group.enter(self.leader, argv),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, error = await process.communicate()
        if process.returncode:
            said = error.decode(errors="replace").strip()
            raise LabError(f"{self.board.name}: {' '.join(argv)}: exit {process.returncode}: {said}")
        return out.decode(errors="replace")

    @property
    def view(self) -> Path:
        return self.folder / "shared" / "hardware"

    def halt_tpu(self, tpu: Tpu) -> None:
        """Its process stands still: who opens it waits for the driver's 12 s, who uses it waits for ever."""
        process = self._tpus.get(tpu.number)
        if process is None:
            raise LabError(f"{self.board.name}: apex_{tpu.number} is not on the bus, or without power")
        process.send_signal(signal.SIGSTOP)

    async def unplug_tpu(self, tpu: Tpu) -> None:
        """Off the bus: whoever had it open has lost it."""
        process = self._tpus.pop(tpu.number, None)
        if process is not None:
            process.kill()
            await process.wait()
        hardware.unplug(self.view, self.board, tpu)
        if self.leader:
            self._device_node(tpu).unlink(missing_ok=True)

    async def plug_tpu(self, tpu: Tpu) -> None:
        """Found on the bus, as a kernel finds it at a boot or a rescan; what ails it still does."""
        ills = faults.ills(self, tpu)
        if "absent" in ills:
            return
        answers = "wedged" not in ills
        await self._start_tpu(tpu)
        hardware.plug(self.view, self.board, tpu, driver=answers)
        for kind in ills if answers else ["wedged"]:
            await faults.FAULTS[kind].do(self, tpu)
        if self._bus is not None:
            self._hear_remove(self._bus, tpu)
        if self.leader and answers:
            node = self._device_node(tpu)
            with contextlib.suppress(FileExistsError):
                os.mknod(node, 0o600 | stat.S_IFCHR, os.makedev(*hardware.DEVICE_NUMBER))
            await self.run("udevadm", "trigger", "--subsystem-match=apex")

    def _device_node(self, tpu: Tpu) -> Path:
        return Path(f"/proc/{self.leader}/root/dev/apex_{tpu.number}")

    async def _rescan(self) -> None:
        for tpu in self.board.tpus:
            if not hardware.bus_folder(self.view, tpu).exists():
                await self.plug_tpu(tpu)

    def _hear_remove(self, bus: Listener, tpu: Tpu) -> None:
        bus.hear(hardware.bus_folder(self.view, tpu) / "remove", functools.partial(self.unplug_tpu, tpu))

    # ---- its life ----

    async def _live(self) -> None:
        try:
            while True:
                code = await self._boot()
                if code != REBOOT or "power" in self.faults:
                    return
        except Exception:
            with (self.folder / "console.log").open("a", encoding="utf-8") as console:
                traceback.print_exc(file=console)
        finally:
            self._to("off")

    async def _boot(self) -> int:
        self.boots += 1
        self._to("booting")
        while self.group.alive():  # the last boot's processes, which may still hold the disk
            await asyncio.sleep(0.02)
        self.group.clear()
        self.group.make(self.memory)
        self.faults = {kind: numbers for kind, numbers in self.faults.items() if faults.FAULTS[kind].lasts}
        await self._hardware()
        self._bus = bus = Listener()
        try:
            bus.hear(self.view / "bus-pci" / "rescan", self._rescan)
            for tpu in self.board.tpus:
                if hardware.bus_folder(self.view, tpu).exists():
                    self._hear_remove(bus, tpu)
            namespace = net.plug(self.board)
            if "cut" in self.faults:
                net.cable(self.board, False)
            with _Ready(self.folder / "ready") as ready, (self.folder / "console.log").open("ab") as console:
                self._process = await self._spawn(namespace, ready, console.fileno())
                waiter = asyncio.create_task(self._await_ready(ready))
                code = await self._process.wait()
                waiter.cancel()
            return code
        finally:
            bus.close()
            self._bus = None
            self.leader = 0
            self._process = None

    async def _hardware(self) -> None:
        """What the board will find, and one process per Edge TPU; those outlive a reboot, as a chip does."""
        hardware.make(self.view, self.board)
        self._sockets.mkdir(exist_ok=True)
        for tpu in self.board.tpus:
            if tpu.number not in self._tpus:
                await self._start_tpu(tpu)
            if faults.ills(self, tpu):
                await self.unplug_tpu(tpu)
                await self.plug_tpu(tpu)

    @property
    def _sockets(self) -> Path:
        return self.folder / "shared" / "tpu"

    async def _start_tpu(self, tpu: Tpu) -> None:
        """Start the process behind an Edge TPU; returns when it can be opened."""
        socket_file = self._sockets / f"apex_{tpu.number}.sock"
        socket_file.unlink(missing_ok=True)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "clusteradm.lab.device"),
            *(str(socket_file), str(hardware.class_folder(self.view, tpu))),
            stdin=asyncio.subprocess.DEVNULL,
        )
        self._tpus[tpu.number] = process
        while not socket_file.exists():
            if process.returncode is not None:
                raise LabError(f"{self.board.name}: the process of apex_{tpu.number} ended at once")
            await asyncio.sleep(0.02)

    def _end_tpus(self) -> None:
        for process in self._tpus.values():
            process.kill()
        self._tpus.clear()

    def _mounts(self) -> list[str]:
        """Shell commands for the board's own mount namespace: its root, and cgroup2 where nspawn looks for it.

        In a namespace of its own, the root is released with the board's last process.
        """
        root, work = self.folder / "root", self.folder / "work"
        root.mkdir(exist_ok=True)
        work.mkdir(exist_ok=True)
        lower = ":".join(str(path) for path in self.lower)
        # nfs_export and index: file handles, which an NFS server on the board gives out.
        options = f"lowerdir={lower},upperdir={self.folder / 'upper'},workdir={work},nfs_export=on,index=on"
        overlay = shlex.join(["mount", "-t", "overlay", "-o", options, f"lab-{self.board.name}", str(root)])
        return ["set -e", overlay, f"test -e {UNIFIED}/cgroup.procs || mount -t cgroup2 none {UNIFIED}", 'exec "$@"']

    async def _spawn(self, namespace: str, ready: _Ready, console: int) -> asyncio.subprocess.Process:
        doors = [os.open(door, os.O_WRONLY) for door in self.group.doors()]

        def enter() -> None:
            for door in doors:
                os.write(door, b"0")

        try:
            return await asyncio.create_subprocess_exec(
                # Not nspawn's own option for this: the board's sysfs would be that of the namespace outside.
                *("nsenter", f"--net={namespace}"),
                *("unshare", "--mount", "--propagation", "slave", "sh", "-c", "; ".join(self._mounts()), "sh"),
                *(
                    "systemd-nspawn",
                    "--quiet",
                    "--boot",
                    f"--directory={self.folder / 'root'}",
                    f"--machine={self.board.name}",
                ),
                *(
                    "--register=no",
                    "--keep-unit",
                    "--capability=CAP_NET_ADMIN",
                ),
                *("--console=pipe", "--link-journal=no", "--resolv-conf=off", "--timezone=off", "--notify-ready=yes"),
                *("--bind=/dev/fuse", f"--bind={self.folder / 'shared'}:/run/clusteradm-lab"),
                # For an NFS server in user space.
                "--system-call-filter=open_by_handle_at name_to_handle_at",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": str(ready.path), "SYSTEMD_LOG_LEVEL": "notice"},
                preexec_fn=enter,
                start_new_session=True,
            )
        finally:
            for door in doors:
                os.close(door)

    async def _await_ready(self, ready: _Ready) -> None:
        async for text in ready.messages():
            for line in text.splitlines():
                if line.startswith("X_NSPAWN_LEADER_PID="):
                    self.leader = int(line.partition("=")[2])
                elif line == "READY=1":
                    self._to("running")

    def halt(self) -> None:
        """An orderly shutdown."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def _to(self, state: str) -> None:
        self.state = state
        self.changed()


class _Ready:
    """The socket on which the container manager says how far it is (sd_notify(3))."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))

    def __enter__(self) -> _Ready:
        return self

    def __exit__(self, *ignored: object) -> None:
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    async def messages(self) -> AsyncIterator[str]:
        loop = asyncio.get_running_loop()
        while True:
            yield (await loop.sock_recv(self._socket, 4096)).decode(errors="replace")
