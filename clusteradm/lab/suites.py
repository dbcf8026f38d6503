"""The Debian releases that a virtual board can run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Suite:
    """One Debian release. `python`: version of its python3, to choose wheels by; `extra`: packages besides BASE.

    `mendel`: whether every second board is presented as a Dev Board, whose Mendel is older than this release.
    """

    name: str
    python: str
    extra: tuple[str, ...] = ()
    security: bool = True
    mendel: bool = True


SUITES = {
    "bookworm": Suite("bookworm", "3.11"),
    "trixie": Suite("trixie", "3.13", mendel=False),
    # The oldest release with packages online; its pypy3 is a Python 3.7, like Mendel's python3. Without security
    # updates: their index lists files that are gone.
    "bullseye": Suite("bullseye", "3.9", extra=("pypy3",), security=False),
}
DEFAULT = "bookworm"

# Packages of a board before bootstrap.
BASE = (
    *("systemd", "systemd-sysv", "systemd-timesyncd", "libpam-systemd", "libnss-myhostname", "dbus", "udev", "kmod"),
    *("openssh-server", "sudo", "network-manager", "iproute2", "iputils-ping", "netbase", "procps", "pciutils"),
    *("ca-certificates", "less", "locales", "nano", "python3", "python3-apt", "rsync", "wget"),
)
