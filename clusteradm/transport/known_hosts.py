"""The cluster's known_hosts file. Lines are only appended, under a lock; existing ones are not changed."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import paramiko
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

from clusteradm import regular
from clusteradm.errors import UsageError


def fingerprint(key: paramiko.PKey) -> str:
    """The key's fingerprint as `ssh-keygen -lf` prints it: SHA256 in base64 without padding."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


def entry_name(address: str, port: int) -> str:
    """A host's name in known_hosts: its address, or [address]:port if the port is not 22."""
    return address if port == 22 else f"[{address}]:{port}"


class KnownHosts:
    """Host keys by address, plain or hashed. A missing file is empty; a changed one is read again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._entries: list[HostKeyEntry] = []
        self._revoked: set[bytes] = set()

    def of(self, address: str, port: int) -> dict[str, paramiko.PKey]:
        """The keys of a host by type, without revoked ones; empty if none is known."""
        name = entry_name(address, port)
        found: dict[str, paramiko.PKey] = {}
        with self._lock:
            self._read()
            for entry in self._entries:
                named = any(_means(written, name) for written in entry.hostnames or ())
                if named and entry.key.asbytes() not in self._revoked:
                    found.setdefault(entry.key.get_name(), entry.key)
        return found

    def append(self, keys: list[tuple[str, int, paramiko.PKey]]) -> None:
        """Append the (address, port, key) entries that the file does not have. Raises UsageError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked() as file:
                file.seek(0)
                data = file.read()
                there = set(data.splitlines())
                new = b"" if not data or data.endswith(b"\n") else b"\n"
                for address, port, key in keys:
                    line = f"{entry_name(address, port)} {key.get_name()} {key.get_base64()}".encode()
                    if line not in there:
                        new += line + b"\n"
                file.write(new)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._unusable("written", error) from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        """The file, open to append and locked. Retried if `ssh-keygen -R` replaced it while the lock was awaited."""
        while True:
            # As ssh makes it: for its owner alone. Whoever may open a file may also hold its lock.
            with open(self.path, "a+b", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if regular.is_at(file.fileno(), self.path):
                    yield file
                    return

    def _read(self) -> None:
        try:
            about = self.path.stat()
            stamp = (about.st_ino, about.st_size, about.st_mtime_ns)
            if stamp == self._stamp:
                return
            # Names and keys are ASCII; comments may be in any encoding.
            lines = self.path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except FileNotFoundError:
            stamp, lines = (0, 0, 0), []
        except OSError as error:
            raise self._unusable("read", error) from None
        self._stamp, self._entries, self._revoked = stamp, [], set()
        for line in lines:
            text = line.strip()
            if text.startswith("@revoked"):
                entry = _entry(text.removeprefix("@revoked").strip())
                if entry is not None:
                    self._revoked.add(entry.key.asbytes())
            elif text and text[0] not in "#@":
                entry = _entry(text)
                if entry is not None:
                    self._entries.append(entry)

    def _unusable(self, what: str, error: OSError) -> UsageError:
        return UsageError(
            f"cannot be {what}: {error.strerror}",
            where=str(self.path),
            next_step="name another with --known-hosts FILE",
        )


def _means(written: str, name: str) -> bool:
    if written.startswith("|1|"):
        return paramiko.HostKeys.hash_host(name, written) == written
    return written == name


def _entry(text: str) -> HostKeyEntry | None:
    """A line's entry; None if it cannot be parsed: such a line is ignored, and left in the file."""
    try:
        return HostKeyEntry.from_line(text)
    except (paramiko.SSHException, InvalidHostKey, ValueError, IndexError):
        return None
