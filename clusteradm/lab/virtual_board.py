"""One virtual board: its disk mounted, its cables plugged, its container booted, and booted again when it reboots."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shlex
import stat
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from clusteradm.lab import apex, net, pci, usb
from clusteradm.lab.bus import Listener
from clusteradm.lab.cgroup import UNIFIED, BoardGroup
from clusteradm.lab.fault_kinds import FAULTS
from clusteradm.lab.machine import LabError
from clusteradm.lab.ready import ReadySocket
from clusteradm.lab.topology import Board, Tpu
from clusteradm.lab.tpus import VirtualTpus

# systemd-nspawn's exit status when the container asked for a reboot.
REBOOT = 133


@dataclass
class VirtualBoard:
    """A board that can be started, faulted (see `faults`) and restored.

    `spec`: its names, addresses and TPUs. `folder` holds upper/ (the disk), shared/ (on the board: /run/clusteradm-lab)
    and console.log. `lower`: layers of the image, topmost first. `memory`: bytes. `changed` is called when its state or
    its faults change. `state`: off, booting, running. `faults`: kind -> numbers of the Edge TPUs that have it, none for
    a fault of the board. `leader`: process id, on this machine, of the board's first process; 0 if it is off.
    """

    spec: Board
    folder: Path
    lower: tuple[Path, ...]
    group: BoardGroup
    memory: int
    changed: Callable[[], None]
    state: str = "off"
    faults: dict[str, list[int]] = field(default_factory=dict)
    boots: int = 0
    leader: int = 0
    tpus: VirtualTpus = field(init=False, repr=False)
    _task: asyncio.Task[None] | None = None
    _process: asyncio.subprocess.Process | None = field(default=None, repr=False)
    _bus: Listener | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.tpus = VirtualTpus(self.spec, self.shared)

    @property
    def shared(self) -> Path:
        return self.folder / "shared"

    @property
    def on(self) -> bool:
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Switch the board on, unless it is."""
        if not self.on:
            self.faults.pop("power", None)
            self._task = asyncio.create_task(self._live())

    def power_off(self) -> None:
        """Cut the power: network cables first, so that no connection is closed in order."""
        net.cable(self.spec, False)
        self.group.kill()
        self.tpus.end()

    async def ended(self) -> None:
        """Wait until the board is off."""
        if self._task is not None:
            await self._task

    async def run(self, *argv: str) -> str:
        """Run a command on the board as root; its standard output. Raises LabError if it fails or cannot run."""
        if not self.leader or "freeze" in self.faults:
            raise LabError(f"{self.spec.name} is {'frozen' if self.leader else 'off'}")
        process = await asyncio.create_subprocess_exec(
            *self.group.enter(self.leader, argv),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, error = await process.communicate()
        if process.returncode:
            said = error.decode(errors="replace").strip()
            raise LabError(f"{self.spec.name}: {' '.join(argv)}: exit {process.returncode}: {said}")
        return out.decode(errors="replace")

    # ---- its bus ----

    async def unplug_tpu(self, tpu: Tpu) -> None:
        """Take an Edge TPU off the bus."""
        await self.tpus.unplug(tpu)
        if self.leader:
            self._device_node(tpu).unlink(missing_ok=True)

    async def plug_tpu(self, tpu: Tpu) -> None:
        """Put an Edge TPU on the bus, as a boot or a rescan finds it: with its lasting faults."""
        await self.tpus.plug(tpu, self._lasting_faults(tpu))
        if self._bus is not None and self.tpus.on_bus(tpu):
            self._hear_remove(self._bus, tpu)
        if self.leader and self.tpus.bound(tpu):
            node = self._device_node(tpu)
            with contextlib.suppress(FileExistsError):
                os.mknod(node, 0o600 | stat.S_IFCHR, os.makedev(*apex.DEVICE_NUMBER))
            await self.run("udevadm", "trigger", "--subsystem-match=apex")

    async def rescan(self) -> None:
        """Find the Edge TPUs that are not on the bus."""
        for tpu in self.spec.tpus:
            if not self.tpus.on_bus(tpu):
                await self.plug_tpu(tpu)

    def _device_node(self, tpu: Tpu) -> Path:
        return Path(f"/proc/{self.leader}/root/dev/apex_{tpu.number}")

    def _lasting_faults(self, tpu: Tpu) -> list[str]:
        return [kind for kind, numbers in self.faults.items() if FAULTS[kind].lasting and tpu.number in numbers]

    def _hear_remove(self, bus: Listener, tpu: Tpu) -> None:
        bus.hear(pci.folder_of(self.tpus.view, tpu) / "remove", functools.partial(self.unplug_tpu, tpu))

    # ---- its boots ----

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
        """Boot once; the exit status of systemd-nspawn when the board is down."""
        self.boots += 1
        self._to("booting")
        while self.group.alive():  # processes of the last boot, which may still hold the disk
            await asyncio.sleep(0.02)
        self.group.clear()
        self.group.make(self.memory)
        self.faults = {kind: numbers for kind, numbers in self.faults.items() if FAULTS[kind].lasting}
        await self.tpus.boot({tpu.number: self._lasting_faults(tpu) for tpu in self.spec.tpus})
        self._bus = bus = Listener()
        try:
            bus.hear(self.tpus.view / "bus-pci" / "rescan", self.rescan)
            for tpu in self.spec.tpus:
                if self.tpus.on_bus(tpu):
                    self._hear_remove(bus, tpu)
            for accelerator in self.spec.usb:
                path = usb.folder_of(self.tpus.view, accelerator) / "authorized"
                bus.heed(path, functools.partial(self.tpus.authorize, accelerator))
            namespace = net.plug(self.spec)
            if "cut" in self.faults:
                net.cable(self.spec, False)
            with ReadySocket(self.folder / "ready") as ready, (self.folder / "console.log").open("ab") as console:
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
        overlay = shlex.join(["mount", "-t", "overlay", "-o", options, f"lab-{self.spec.name}", str(root)])
        return ["set -e", overlay, f"test -e {UNIFIED}/cgroup.procs || mount -t cgroup2 none {UNIFIED}", 'exec "$@"']

    async def _spawn(self, namespace: str, ready: ReadySocket, console: int) -> asyncio.subprocess.Process:
        entrances = [os.open(path, os.O_WRONLY) for path in self.group.entrances()]

        def enter() -> None:
            for entrance in entrances:
                os.write(entrance, b"0")

        try:
            return await asyncio.create_subprocess_exec(
                # Not nspawn's own option for this: the board's sysfs would be that of the namespace outside.
                *("nsenter", f"--net={namespace}"),
                *("unshare", "--mount", "--propagation", "slave", "sh", "-c", "; ".join(self._mounts()), "sh"),
                *("systemd-nspawn", "--quiet", "--boot"),
                *(f"--directory={self.folder / 'root'}", f"--machine={self.spec.name}"),
                *("--register=no", "--keep-unit", "--capability=CAP_NET_ADMIN"),
                *("--console=pipe", "--link-journal=no", "--resolv-conf=off", "--timezone=off", "--notify-ready=yes"),
                *("--bind=/dev/fuse", f"--bind={self.shared}:/run/clusteradm-lab"),
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
            for entrance in entrances:
                os.close(entrance)

    async def _await_ready(self, ready: ReadySocket) -> None:
        async for line in ready.lines():
            if line.startswith("X_NSPAWN_LEADER_PID="):
                self.leader = int(line.partition("=")[2])
            elif line == "READY=1":
                self._to("running")

    def _to(self, state: str) -> None:
        self.state = state
        self.changed()
