"""The machine that the lab runs on: its requirements, its limits, and running programs on it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from clusteradm import extras
from clusteradm.errors import ClusteradmError, UsageError

PACKAGES = Path(__file__).with_name("PACKAGES")

# Program that the lab calls -> its package, for each package of PACKAGES with a program.
PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "dpkg-scanpackages": "dpkg-dev",
    "ip": "iproute2",
    "ssh-keygen": "openssh-client",
    "nc": "netcat-openbsd",
    "gcc": "gcc",
    "gpg": "gnupg",
    "nsenter": "util-linux",
    "unshare": "util-linux",
}


class LabError(ClusteradmError):
    """Failure of the lab itself."""


def packages() -> tuple[str, ...]:
    """The Debian packages that the lab needs on this machine."""
    return tuple(PACKAGES.read_text(encoding="utf-8").split())


def require() -> None:
    """Raise UsageError, with the command to run next, unless the lab can run here."""
    if sys.platform != "linux":
        raise UsageError("the lab needs Linux", next_step="use a Debian 12 or 13 machine, virtual or not")
    if os.geteuid() != 0:
        again = shlex.join(["sudo", *sys.argv])
        raise UsageError("the lab needs root (it makes network namespaces and containers)", next_step=f"try: {again}")
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if missing:
        raise UsageError(
            f"the lab needs programs that are not here: packages {', '.join(missing)}",
            next_step=f"install them with: apt-get install -y {' '.join(packages())}",
        )
    for device in ("/dev/fuse", "/dev/null"):
        if not Path(device).exists():
            raise UsageError(f"the lab needs {device}, which is not here", next_step="try: modprobe fuse")


# Modules that the lab imports, or runs, and that a plain installation of clusteradm may not have.
MODULES = ("numpy", "PIL", "ai_edge_litert", "flatbuffers", "pip")


def require_modules() -> None:
    """Raise UsageError, with the command to run next, unless this Python has the packages of the extra `lab`.

    Without them the boards boot all the same, and each of their Edge TPUs is ill.
    """
    extras.require("lab", MODULES, "the lab")


def require_to_boot() -> None:
    """Raise UsageError with all that the machine and this Python lack for `lab up`."""
    lacking = []
    for check in (require, require_modules):
        try:
            check()
        except UsageError as error:
            lacking.append(error)
    if len(lacking) > 1:
        raise UsageError("\n".join(f"{error.what}\n  {error.next_step}" for error in lacking))
    if lacking:
        raise lacking[0]


# Each board's systemd and its services take about 11 of root's inotify instances; the kernel's default is 128 in all.
INOTIFY_INSTANCES = 8192


def make_room() -> None:
    """Raise the kernel's limit of root's inotify instances, which a dozen boards would exceed."""
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    if int(limit.read_text()) < INOTIFY_INSTANCES:
        limit.write_text(str(INOTIFY_INSTANCES))


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    input: str | None = None,
    cwd: Path | None = None,
    keep_open: Sequence[int] = (),
    check: bool = True,
) -> str:
    """Run a program; its standard output. Raises LabError with its last lines if it fails (`check`).

    `keep_open`: file descriptors that the program inherits (a lock held as long as any of its children lives).
    """
    done = subprocess.run(
        list(argv),
        env=None if env is None else {**os.environ, **env},
        input=input,
        stdin=subprocess.DEVNULL if input is None else None,
        capture_output=True,
        text=True,
        errors="replace",
        cwd=cwd,
        pass_fds=tuple(keep_open),
        check=False,
    )
    if done.returncode and check:
        last = "\n  ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-8:])
        raise LabError(f"{Path(argv[0]).name} failed (exit {done.returncode}): {shlex.join(argv)[:300]}\n  {last}")
    return done.stdout
