"""One running board: its disk mounted, its cables plugged, its container booted, and booted again when it reboots."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from clusteradm.lab import net
from clusteradm.lab.cgroup import NodeGroup
from clusteradm.lab.machine import run
from clusteradm.lab.topology import Board

# systemd-nspawn's exit status when the container asked for a reboot.
REBOOT = 133


@dataclass
class Node:
    """`folder` holds upper/ (the disk), shared/ (seen by the board as /run/clusteradm-lab) and console.log.
    `wrapper` goes before the container manager's command line; `memory` is in bytes.

    `state`: off, booting, running, frozen; `fault`: the fault done to it, or "".
    """

    board: Board
    folder: Path
    lower: tuple[Path, ...]
    group: NodeGroup
    wrapper: list[str]
    memory: int
    changed: Callable[[], None]
    state: str = "off"
    fault: str = ""
    boots: int = 0
    leader: int = 0
    _task: asyncio.Task[None] | None = None
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
        finally:
            self._to("off")

    async def _boot(self) -> int:
        self.boots += 1
        self._to("booting")
        self.group.clear()
        self.group.make(self.memory)
        root = self._mount()
        try:
            namespace = net.plug(self.board)
            with _Ready(self.folder / "ready") as ready, (self.folder / "console.log").open("ab") as console:
                self._process = await self._spawn(root, namespace, ready, console.fileno())
                waiter = asyncio.create_task(self._await_ready(ready))
                code = await self._process.wait()
                waiter.cancel()
            return code
        finally:
            self.leader = 0
            self._process = None
            run(["umount", "--lazy", str(root)])

    def _mount(self) -> Path:
        root, work = self.folder / "root", self.folder / "work"
        root.mkdir(exist_ok=True)
        work.mkdir(exist_ok=True)
        lower = ":".join(str(path) for path in self.lower)
        # nfs_export and index: file handles, which an NFS server on the board gives out.
        options = f"lowerdir={lower},upperdir={self.folder / 'upper'},workdir={work},nfs_export=on,index=on"
        run(["mount", "-t", "overlay", "-o", options, f"lab-{self.board.name}", str(root)])
        return root

    async def _spawn(self, root: Path, namespace: str, ready: _Ready, console: int) -> asyncio.subprocess.Process:
        doors = [os.open(door, os.O_WRONLY) for door in self.group.doors()]

        def enter() -> None:
            for door in doors:
                os.write(door, b"0")

        try:
            return await asyncio.create_subprocess_exec(
                *self.wrapper,
                *("systemd-nspawn", "--quiet", "--boot", f"--directory={root}", f"--machine={self.board.name}"),
                *(
                    "--register=no",
                    "--keep-unit",
                    f"--network-namespace-path={namespace}",
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
        import socket

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

    async def messages(self):  # type: ignore[no-untyped-def]
        loop = asyncio.get_running_loop()
        while True:
            yield (await loop.sock_recv(self._socket, 4096)).decode(errors="replace")
