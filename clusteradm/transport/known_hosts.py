"""The cluster's own known_hosts file. Lines are only ever appended, under a lock; nobody else's are touched."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
from pathlib import Path

import paramiko
from paramiko.hostkeys import HostKeyEntry


def fingerprint(key: paramiko.PKey) -> str:
    """As `ssh-keygen -lf` prints it: SHA256 and base64 without padding."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


def entry_name(address: str, port: int) -> str:
    """The name under which OpenSSH keeps a host: its address, with a port that is not 22 as [address]:port."""
    return address if port == 22 else f"[{address}]:{port}"


class KnownHosts:
    """Host keys by address. A file that is not there is empty."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def keys(self) -> paramiko.HostKeys:
        """What the file holds; a line that cannot be read (another tool's) is passed over, not an error."""
        keys = paramiko.HostKeys()
        if not self.path.exists():
            return keys
        for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines(), 1):
            text = line.strip()
            if not text or text[0] in "#@":
                continue
            try:
                entry = HostKeyEntry.from_line(text, number)
            except (paramiko.SSHException, ValueError):
                continue
            if entry is not None:
                for name in entry.hostnames or []:
                    keys.add(name, entry.key.get_name(), entry.key)
        return keys

    def of(self, address: str, port: int) -> dict[str, paramiko.PKey]:
        """The keys of a host by type, or an empty dictionary."""
        found = self.keys().lookup(entry_name(address, port))
        return {kind: found[kind] for kind in found} if found else {}

    def append(self, keys: list[tuple[str, int, paramiko.PKey]]) -> None:
        """Add (address, port, key) lines that are not there yet."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            text = file.read()
            if text and not text.endswith("\n"):
                file.write("\n")
            there = set(text.splitlines())
            for address, port, key in keys:
                line = f"{entry_name(address, port)} {key.get_name()} {key.get_base64()}"
                if line not in there:
                    file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
