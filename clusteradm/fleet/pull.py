"""Files of hosts, copied to this machine, to a folder for each host. What a host says of its files is not trusted."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from clusteradm import regular
from clusteradm.errors import HostFailed, HostUnreachable, UsageError
from clusteradm.fleet.account import account
from clusteradm.inventory import Host
from clusteradm.node.spec.wire.copying import MOST_FILES, FileRead, FindFiles, FoundFile, ReadFile
from clusteradm.transport import Connections, NodeError, Outcome
from clusteradm.transport.sending import RECONNECT

_SECONDS = 600.0  # between two answers: a host may read much before the first
_MOST_LOST = 20  # connections in a row that are lost
_MOST_NAMED = 20  # files of a host that could not be read
_MOST_NAME = 255  # bytes, as file systems have it
_PIECE = 1 << 20


@dataclass
class Pulled:
    """What was copied from a host. `changed`, `unchanged`: paths here; `left_out`: what was not, and why."""

    changed: list[Path] = field(default_factory=list)
    unchanged: int = 0
    left_out: list[str] = field(default_factory=list)


def pull(
    connections: Connections,
    hosts: Iterable[Host],
    paths: Sequence[str],
    folder: Path,
    *,
    most: int,
    sudo: bool = False,
    progress: Callable[[int], None] = lambda came: None,
) -> Outcome[Pulled]:
    """Copy the files, and folders with all that is in them, to `folder`/HOST/.

    A file that is there with the same size and time is not fetched again; what was cut is taken up where it was.
    `most`: bytes from one host; `progress`: bytes that came, of all hosts.
    """
    chosen = list(hosts)
    lock, came = threading.Lock(), [0]

    def tell(count: int) -> None:
        with lock:
            came[0] += count
            progress(came[0])

    def one(host: Host) -> Pulled:
        return _Pull(connections, host, account(connections, host, sudo), folder / host.name, most, tell).run(paths)

    for path in paths:
        if not regular.is_text(path):
            where = regular.readable(path)
            raise UsageError("a name that is not UTF-8 cannot be asked for", where=where, next_step="rename it there")
    for host in chosen:
        check_name(host.name, host.name)
    return connections.each(chosen, one)


def check_name(name: str, host: str) -> None:
    """Raise HostFailed for a path that is not below the folder that it is to be in, or that no file can have."""
    for part in name.split("/"):
        if part in ("", ".", "..") or "\0" in part or len(part.encode()) > _MOST_NAME:
            what = f"it names a file that cannot be below a folder: {ascii(name)[:80]}; nothing of it was written"
            raise HostFailed(what, where=host, next_step="see what that host runs")


class _Pull:
    """One host's files."""

    def __init__(
        self,
        connections: Connections,
        host: Host,
        user: str,
        folder: Path,
        most: int,
        tell: Callable[[int], None],
    ) -> None:
        self._connections, self._host, self._user = connections, host, user
        self._folder, self._most, self._left, self._tell = folder, most, most, tell
        self._parts: dict[Path, list[Path]] = {}  # of each folder what earlier runs have left

    def run(self, paths: Sequence[str]) -> Pulled:
        pulled = Pulled()
        files = self._find(paths, pulled)
        refused: list[str] = []
        try:
            self._check_room(files)
            for file in files:
                try:
                    self._one(file, pulled)
                except NodeError as error:  # this file alone: it is gone meanwhile, or not for this user
                    refused.append(error.what)
        except OSError as error:
            # Of two names the second is that of the file, the first what is renamed to it.
            path = error.filename2 or error.filename or self._folder
            raise HostFailed(f"cannot write {path} here: {error.strerror or error}", where=self._host.name) from None
        if refused and not pulled.changed and not pulled.unchanged:
            raise HostFailed(f"nothing was copied: {'; '.join(refused)[:300]}", where=self._host.name)
        pulled.left_out += refused[:_MOST_NAMED]
        if len(refused) > _MOST_NAMED:
            pulled.left_out.append(f"and {len(refused) - _MOST_NAMED:,} others")
        return pulled

    def _find(self, paths: Sequence[str], pulled: Pulled) -> list[FoundFile]:
        name = self._host.name
        replies = self._connections.node(self._host).ask(FindFiles(self._user, tuple(paths)), timeout=_SECONDS)
        found: dict[str, FoundFile] = {}
        while True:
            try:
                part = next(replies)
            except StopIteration as end:
                pulled.left_out += end.value.left_out
                if end.value.more > 0:
                    pulled.left_out.append(f"and {end.value.more:,} others")
                break
            for file in part.files:
                check_name(file.name, name)
                if file.name in found:
                    what = f"two of its files would be {ascii(file.name)[:80]} here"
                    raise HostFailed(what, where=name, next_step="copy them one after the other, to other folders")
                found[file.name] = file
            if len(found) > MOST_FILES:
                raise HostFailed(f"more than {MOST_FILES:,} files", where=name)
        if not found:
            raise HostFailed(f"nothing was copied: {'; '.join(pulled.left_out)[:300] or 'no file'}", where=name)
        return list(found.values())

    def _check_room(self, files: Sequence[FoundFile]) -> None:
        total = sum(max(0, file.size or 0) for file in files)
        if total > self._most:
            raise self._too_much(total)
        self._folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._folder).free
        if total > free:
            what = f"its files take {total:,} bytes, and {free:,} are free in {self._folder}"
            raise HostFailed(what, where=self._host.name, next_step="make room, or name another folder")

    def _too_much(self, total: int) -> HostFailed:
        what = f"its files take {total:,} bytes, more than {self._most:,}"
        more = f"--max-size {(total >> 30) + 1}G"
        return HostFailed(what, where=self._host.name, next_step=f"if that is right, allow more: {more}")

    def _one(self, file: FoundFile, pulled: Pulled) -> None:
        path = self._folder / file.name
        mode = file.mode & 0o777
        if file.size is None:
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(mode | 0o700)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        about = path.lstat() if path.is_file() and not path.is_symlink() else None
        if about is not None and (about.st_size, about.st_mtime_ns) == (file.size, file.modified):
            self._left -= about.st_size
            pulled.unchanged += 1
        else:
            part = self._part(path, file)
            try:
                self._fetch(file, part)
            except NodeError:
                part.unlink(missing_ok=True)
                raise
            with contextlib.suppress(OverflowError):
                os.utime(part, ns=(file.modified, file.modified))
            part.replace(path)
            pulled.changed.append(path)
        path.chmod(mode | 0o600)

    def _part(self, path: Path, file: FoundFile) -> Path:
        """The file that is written before `path`, of this size and time alone; those of others are removed."""
        stem = f".clusteradm-{hashlib.sha256(path.name.encode()).hexdigest()[:16]}-"
        mine = stem + hashlib.sha256(f"{file.size} {file.modified}".encode()).hexdigest()[:16]
        if path.parent not in self._parts:
            self._parts[path.parent] = list(path.parent.glob(".clusteradm-*"))
        for other in self._parts[path.parent]:
            if other.name.startswith(stem) and other.name != mine:
                other.unlink(missing_ok=True)
        return path.parent / mine

    def _fetch(self, file: FoundFile, part: Path) -> None:
        """Write the whole file to `part`, from where that ends. Raises HostFailed where it does not come as it is."""
        lost = 0
        afresh = False
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_TRUNC if afresh else 0)
            descriptor = os.open(part, flags, 0o600)
            with os.fdopen(descriptor, "r+b") as into:
                offset = into.seek(0, os.SEEK_END)
                try:
                    end = self._receive(file, offset, into)
                except HostUnreachable:
                    lost = 0 if into.tell() > offset else lost + 1
                    if lost > _MOST_LOST:
                        raise
                    self._connections.reconnect(self._host, RECONNECT)
                    continue
                into.flush()
                size = into.seek(0, os.SEEK_END)
                into.seek(0)
                digest = hashlib.sha256()
                for data in iter(lambda: into.read(_PIECE), b""):
                    digest.update(data)
            if (size, digest.hexdigest()) == (end.size, end.sha256):
                self._left -= size
                return
            part.unlink()
            if not offset:
                what = f"{ascii(file.path)[1:-1]} came damaged, and was not kept"
                raise HostFailed(what, where=self._host.name, next_step="run the command again")
            afresh = True  # what was here before was no part of it

    def _receive(self, file: FoundFile, offset: int, into: BinaryIO) -> FileRead:
        request = ReadFile(self._user, file.path, offset, self._left + 1)
        replies = self._connections.node(self._host).ask(request, timeout=_SECONDS)
        size = offset
        while True:
            try:
                data = base64.b64decode(next(replies).data, validate=True)
            except binascii.Error:
                raise HostFailed("a piece of a file came damaged", where=self._host.name) from None
            except StopIteration as end:
                value: FileRead = end.value
                return value
            size += len(data)
            if size > self._left:
                raise self._too_much(self._most - self._left + size)
            into.write(data)
            self._tell(len(data))


def size_of(text: str) -> int:
    """Bytes of `500M`, `4G`, `1T`. Raises UsageError."""
    units = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    if not text[:-1].isascii() or not text[:-1].isdecimal() or len(text) > 7 or text[-1:] not in units:
        raise UsageError(f"{text!r} is no size, as 500M, 4G, 1T")
    return int(text[:-1]) * units[text[-1]]
