"""One running board: its disk mounted, its cables plugged, its container booted, and booted again when it reboots."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import socket
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from clusteradm.lab import hardware, net
from clusteradm.lab.cgroup import UNIFIED, NodeGroup
from clusteradm.lab.topology import Board

# systemd-nspawn's exit status when the container asked for a reboot.
REBOOT = 133


@dataclass
class Node:
    """`folder` holds upper/ (the disk), shared/ (seen by the board as /run/clusteradm-lab) and console.log.
    `memory` is in bytes.

    `state`: off, booting, running; `fault`: the fault done to it, or "".
    """

    board: Board
    folder: Path
    lower: tuple[Path, ...]
    group: NodeGroup
    memory: int
    changed: Callable[[], None]
    state: str = "off"
    fault: str = ""
    boots: int = 0
    leader: int = 0
    _task: asyncio.Task[None] | None = None
    _tpus: list[asyncio.subprocess.Process] = field(default_factory=list, repr=False)
    _process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    def start(self) -> None:
        """Switch the board on, unless it is."""
        if self._task is None or self._task.done():
            self.fault = ""
            self._task = asyncio.create_task(self._live())

    def power_off(self) -> None:
        """As if the plug were pulled: cables dead first, so that no packet says goodbye."""
        self.fault = "power"
        net.cable(self.board, False)
        self.group.kill()

    def freeze(self) -> None:
        self.group.freeze(True)
        self.fault = "freeze"
        self.changed()

    def cut(self) -> None:
        net.cable(self.board, False)
        self.fault = "cut"
        self.changed()

    async def restore(self) -> None:
        """Undo whatever fault was done to the board."""
        if self._task is not None and not self._task.done():
            if self.fault == "power":
                await self._task
            else:
                self.group.freeze(False)
                net.cable(self.board, True)
        self.fault = ""
        self.start()
        self.changed()

    async def _live(self) -> None:
        try:
            while True:
                code = await self._boot()
                if code != REBOOT or self.fault == "power":
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
        await self._hardware()
        try:
            namespace = net.plug(self.board)
            with _Ready(self.folder / "ready") as ready, (self.folder / "console.log").open("ab") as console:
                self._process = await self._spawn(namespace, ready, console.fileno())
                waiter = asyncio.create_task(self._await_ready(ready))
                code = await self._process.wait()
                waiter.cancel()
            return code
        finally:
            self.leader = 0
            self._process = None

    @property
    def _view(self) -> Path:
        return self.folder / "shared" / "hardware"

    async def _hardware(self) -> None:
        """What the board will find, and one process per Edge TPU; those outlive a reboot, as a chip does."""
        hardware.make(self._view, self.board)
        sockets = self.folder / "shared" / "tpu"
        sockets.mkdir(exist_ok=True)
        if self._tpus:
            return
        for tpu in self.board.tpus:
            folder = hardware.class_folder(self._view, tpu)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "clusteradm.lab.device", str(sockets / f"apex_{tpu.number}.sock"), str(folder)),
                stdin=asyncio.subprocess.DEVNULL,
            )
            self._tpus.append(process)

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
