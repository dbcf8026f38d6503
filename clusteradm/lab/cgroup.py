"""Control groups of a lab: everything that it starts is in them, so that ending the lab ends exactly that.

Two kinds of machine. Where PID 1 is systemd, the lab runs in a scope that systemd delegates to it. Elsewhere (in a
container) it makes a group below the root of the cgroup2 mount. The memory controller may be on either hierarchy.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clusteradm.lab.machine import LabError

UNIFIED = Path("/sys/fs/cgroup")
MEMORY_V1 = Path("/sys/fs/cgroup/memory")


def has_systemd(run: Path = Path("/run")) -> bool:
    """True if PID 1 of this machine is systemd (the test of sd_booted(3))."""
    return (run / "systemd" / "system").is_dir()


def mount_point(mounts: str) -> Path:
    """Where cgroup2 is mounted, from the text of /proc/self/mounts."""
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) > 2 and fields[2] == "cgroup2":
            return Path(fields[1])
    raise LabError(
        "no cgroup2 file system is mounted here",
        next_step="try: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified",
    )


@dataclass(frozen=True)
class Groups:
    """The control groups of one lab. `memory`: the v1 group, where that controller is on v1."""

    path: Path
    memory: Path | None
    scope: str | None

    @classmethod
    def of(cls, lab: str, *, systemd: bool | None = None) -> Groups:
        root = mount_point(Path("/proc/self/mounts").read_text(encoding="utf-8"))
        v1 = MEMORY_V1 / "clusteradm-lab" / lab if (MEMORY_V1 / "memory.limit_in_bytes").exists() else None
        if has_systemd() if systemd is None else systemd:
            scope = f"clusteradm-lab-{lab}.scope"
            return cls(root / "system.slice" / scope, v1, scope)
        return cls(root / "clusteradm-lab" / lab, v1, None)

    def launcher(self) -> list[str]:
        """Prefix of the supervisor's command line."""
        if self.scope is None:
            return []
        return ["systemd-run", "--scope", "--quiet", "--collect", f"--unit={self.scope}", "-p", "Delegate=yes"]

    def board(self, name: str) -> BoardGroup:
        """The groups of one board."""
        return BoardGroup(self.path / f"node-{name}", self.memory / name if self.memory else None)

    def enter(self) -> None:
        """Move this process into the lab's group, where systemd has not already put it there."""
        own = self.path / "supervisor"
        own.mkdir(parents=True, exist_ok=True)
        (own / "cgroup.procs").write_text("0")
        # A group with children may hold no process itself, so controllers are passed on only now.
        available = (self.path / "cgroup.controllers").read_text().split()
        for controller in ("memory", "pids"):
            if controller in available:
                (self.path / "cgroup.subtree_control").write_text(f"+{controller}")

    def alive(self) -> bool:
        """True while any process is in the lab's group."""
        return _populated(self.path)

    def end(self, within: float = 20.0) -> None:
        """End every process of the lab and remove its groups."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / "cgroup.kill").write_text("1")
        deadline = time.monotonic() + within
        while self.alive():
            if time.monotonic() > deadline:
                raise LabError(f"processes of the lab do not end; they are listed in {self.path}/**/cgroup.procs")
            time.sleep(0.02)
        for top in (self.path, self.memory):
            if top is not None:
                _remove(top)


@dataclass(frozen=True)
class BoardGroup:
    """The control groups of one board."""

    path: Path
    memory: Path | None

    def make(self, limit: int) -> None:
        """`limit`: bytes of memory."""
        self.path.mkdir(exist_ok=True)
        if self.memory is not None:
            self.memory.mkdir(parents=True, exist_ok=True)
            (self.memory / "memory.limit_in_bytes").write_text(str(limit))
        elif (self.path / "memory.max").exists():
            (self.path / "memory.max").write_text(str(limit))

    def entrances(self) -> list[Path]:
        """Files that a process id is written to, to put the process into the groups."""
        return [group / "cgroup.procs" for group in (self.path, self.memory) if group is not None]

    def joiner(self) -> list[str]:
        """Prefix of a command line that puts the command into the board's groups."""
        # nspawn splits its group into children, and a group with children may hold no process itself.
        entrances = [self.path / "exec" / "cgroup.procs", *self.entrances()[1:]]
        enter = "".join(f"echo $$ >{shlex.quote(str(path))}; " for path in entrances)
        return ["sh", "-c", f'mkdir -p {shlex.quote(str(self.path / "exec"))}; {enter}exec "$@"', "sh"]

    def enter(self, leader: int, argv: Sequence[str], terminal: str = "dumb") -> list[str]:
        """The command line, on this machine, that runs `argv` on the board whose first process is `leader`, as root."""
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        environment = [f"PATH={path}", "HOME=/root", "LANG=C.UTF-8", f"TERM={terminal}"]
        return [
            *self.joiner(),
            *("nsenter", "-t", str(leader), "--all", "--root", "--wd", "env", "-i", *environment, *argv),
        ]

    def freeze(self, on: bool) -> None:
        (self.path / "cgroup.freeze").write_text("1" if on else "0")

    def kill(self) -> None:
        (self.path / "cgroup.kill").write_text("1")

    def alive(self) -> bool:
        """True while any process of the board is left."""
        return _populated(self.path)

    def clear(self) -> None:
        """Remove the groups of the last boot, so that the group can hold a process again."""
        _remove(self.path, itself=False)


def _populated(group: Path) -> bool:
    try:
        return "populated 1" in (group / "cgroup.events").read_text()
    except FileNotFoundError:
        return False


def _remove(top: Path, *, itself: bool = True) -> None:
    """Remove the groups below `top`, innermost first. Others (systemd) remove them at the same time: a group that is
    gone meanwhile is no error, which os.walk grants and Path.rglob does not."""
    for folder, _, _ in os.walk(top, topdown=False):
        if itself or folder != str(top):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
