"""Board layer: the files over the base system that every virtual board has, written without chroot.

A user `mendel` as on a Dev Board, the lab's package source, and the lab's stand-ins for hardware and kernel.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

USER = "mendel"
UID = 1000
HTTP = "http://10.77.0.254"
BOARD = Path(__file__).with_name("board")

# Units that make no sense in a container, or that a container cannot run.
MASKED = ("systemd-udev-trigger.service", "run-rpc_pipefs.mount", "systemd-timesyncd.service", "e2scrub_reap.service")


@dataclass(frozen=True)
class Layer:
    """A tree laid over the root file system `base`; directories take over the modes that they have there."""

    path: Path
    base: Path

    def directory(self, name: str) -> Path:
        """The directory `name` of the layer, made with its parents."""
        place = self.path
        for part in Path(name).parts:
            below = self.base / (place / part).relative_to(self.path)
            # /sbin may be a link to usr/sbin: a folder in the layer would hide it.
            place = self.directory(str(below.readlink())) if below.is_symlink() else place / part
            if not place.is_dir():
                place.mkdir()
                place.chmod(below.stat().st_mode & 0o7777 if below.is_dir() else 0o755)
        return place

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        place = self.directory(str(Path(name).parent)) / Path(name).name
        place.write_text(text, encoding="utf-8")
        place.chmod(mode)
        return place

    def append(self, name: str, line: str) -> None:
        """The file `name`, as it is so far, with one more line."""
        below = next(path for path in (self.path / name, self.base / name) if path.exists())
        status = below.stat()
        place = self.write(name, below.read_text(encoding="utf-8") + line + "\n", status.st_mode & 0o7777)
        shutil.chown(place, status.st_uid, status.st_gid)

    def link(self, name: str, target: str) -> None:
        (self.directory(str(Path(name).parent)) / Path(name).name).symlink_to(target)

    def enable(self, unit: str, wanted_by: str) -> None:
        self.link(f"etc/systemd/system/{wanted_by}.wants/{unit}", f"/etc/systemd/system/{unit}")


def write_board(layer: Layer, suite: str, key: Path) -> None:
    """Write the board layer. `key`: the part of the cache with the lab's signing key."""
    _user(layer)
    _packages(layer, suite, key)
    _services(layer)
    _stand_ins(layer)


def _user(layer: Layer) -> None:
    layer.append("etc/passwd", f"{USER}:x:{UID}:{UID}:Mendel,,,:/home/{USER}:/bin/bash")
    # "*": no password opens it, as on a board, where sshd takes keys only.
    layer.append("etc/shadow", f"{USER}:*:19000:0:99999:7:::")
    layer.append("etc/group", f"{USER}:x:{UID}:")
    layer.append("etc/gshadow", f"{USER}:!::")
    layer.write(f"etc/sudoers.d/{USER}", f"{USER} ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    home = layer.directory(f"home/{USER}")
    for skeleton in (layer.base / "etc/skel").iterdir():
        shutil.copy(skeleton, home)
    ssh = layer.directory(f"home/{USER}/.ssh")
    ssh.chmod(0o700)
    for place in (home, *home.rglob("*")):
        shutil.chown(place, UID, UID)


def _packages(layer: Layer, suite: str, key: Path) -> None:
    layer.write("usr/share/keyrings/clusteradm-lab.asc", (key / "key.asc").read_text(encoding="ascii"))
    signed = "signed-by=/usr/share/keyrings/clusteradm-lab.asc"
    layer.write("etc/apt/sources.list", f"deb [{signed}] {HTTP}/debian-{suite} ./\n")
    # The build's own apt settings (this machine's proxy, for one) are no business of a board's.
    for name in (layer.base / "etc/apt/apt.conf.d").glob("*mmdebstrap"):
        layer.write(f"etc/apt/apt.conf.d/{name.name}", "")


def _services(layer: Layer) -> None:
    for unit in MASKED:
        layer.link(f"etc/systemd/system/{unit}", "/dev/null")
    layer.write(
        "etc/ssh/sshd_config.d/board.conf", "PasswordAuthentication no\nKbdInteractiveAuthentication no\nUseDNS no\n"
    )
    # udev would not run where /sys is read-only; a board's does, and is told to reload its rules.
    for unit in ("systemd-udevd.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket"):
        layer.write(f"etc/systemd/system/{unit}.d/board.conf", "[Unit]\nConditionPathIsReadWrite=\n")
    # A board has no name server of its own; its names come from /etc/hosts.
    layer.write("etc/resolv.conf", "")
    layer.write("etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
    layer.write(
        "etc/NetworkManager/conf.d/board.conf",
        "[main]\nno-auto-default=*\n[connectivity]\nenabled=false\n[logging]\nlevel=INFO\n",
    )
    # Host keys are each board's own; the lab writes them before the first boot.
    layer.write("etc/machine-id", "")


def _stand_ins(layer: Layer) -> None:
    layer.write("etc/systemd/system/lab-hardware.service", (BOARD / "lab-hardware.service").read_text(encoding="utf-8"))
    layer.write("usr/local/lib/clusteradm-lab/hardware", (BOARD / "hardware").read_text(encoding="utf-8"), 0o755)
    layer.enable("lab-hardware.service", "sysinit.target")
    for module in (BOARD / "nfs4").glob("*.py"):
        layer.write(f"usr/local/lib/clusteradm-lab/nfs4/{module.name}", module.read_text(encoding="utf-8"))
    for name in ("sbin/mount.nfs", "sbin/mount.nfs4"):
        layer.write(name, (BOARD / "mount.nfs").read_text(encoding="utf-8"), 0o755)
        # dpkg compares names, not files: releases before Debian 13 ship it as /sbin/mount.nfs, later ones below /usr.
        for packaged in (name, f"usr/{name}"):
            layer.append("var/lib/dpkg/diversions", f"/{packaged}\n/{packaged}.distrib\n:")
    layer.write("usr/local/sbin/udevadm", (BOARD / "udevadm.py").read_text(encoding="utf-8"), 0o755)
