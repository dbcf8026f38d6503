"""Disk of a board: the layer over the image with the board's own files, written before its first boot."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from clusteradm.lab import networks
from clusteradm.lab.layer import UID, USER, Layer
from clusteradm.lab.machine import run
from clusteradm.lab.topology import Board

KEY_TYPES = ("ed25519", "ecdsa", "rsa")

_MENDEL = """\
PRETTY_NAME="Mendel GNU/Linux 5 (Eagle)"
NAME="Mendel GNU/Linux"
ID=mendel
ID_LIKE=debian
VERSION="5.3 (eagle)"
VERSION_ID="5.3"
VERSION_CODENAME=eagle
HOME_URL="https://coral.ai/"
"""


def make(upper: Path, base: Path, board: Board, authorized_key: str, host_keys: Path) -> None:
    """Write the first content of `upper`. `host_keys`: a directory of SSH host keys, one folder per board number."""
    new = upper.with_name(upper.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    layer = Layer(new, base)
    layer.write("etc/hostname", board.hostname + "\n")
    layer.write(
        "etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {board.hostname}\n::1 localhost ip6-localhost ip6-loopback\n"
    )
    layer.write("etc/machine-id", uuid.uuid4().hex + "\n", 0o444)
    if board.mendel:
        layer.write("etc/os-release", _MENDEL)
    networks.configure(layer, board)
    ssh = layer.directory("etc/ssh")
    for key in sorted(_host_keys(host_keys, board).glob("ssh_host_*")):
        shutil.copy2(key, ssh)
    authorized = layer.write(f"home/{USER}/.ssh/authorized_keys", authorized_key, 0o600)
    authorized.parent.chmod(0o700)
    for place in (authorized, authorized.parent, authorized.parent.parent):
        shutil.chown(place, UID, UID)
    new.rename(upper)


def public_keys(upper: Path) -> list[str]:
    """The board's SSH host keys, each as "TYPE BASE64"."""
    files = (upper / "etc" / "ssh" / f"ssh_host_{kind}_key.pub" for kind in KEY_TYPES)
    return [" ".join(path.read_text(encoding="ascii").split()[:2]) for path in files]


def _host_keys(folder: Path, board: Board) -> Path:
    """Host keys of a board number, cached: making an RSA key takes a third of a second."""
    own = folder / str(board.number)
    if not own.is_dir():
        new = folder / f".{board.number}-{uuid.uuid4().hex}"
        (new / "etc" / "ssh").mkdir(parents=True)
        for kind in KEY_TYPES:
            target = new / "etc" / "ssh" / f"ssh_host_{kind}_key"
            run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", f"root@board{board.number}", "-f", str(target)])
        try:
            new.rename(own)
        except OSError:  # another lab was faster
            shutil.rmtree(new)
    return own / "etc" / "ssh"
