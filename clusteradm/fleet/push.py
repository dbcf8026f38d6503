"""Files of this machine, copied to hosts: those that differ there, each whole or not at all."""

from __future__ import annotations

import hashlib
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clusteradm import regular
from clusteradm.errors import HostFailed, HostUnreachable, UsageError
from clusteradm.fleet.account import account
from clusteradm.inventory import Host
from clusteradm.node.spec.wire.copying import MOST_FILES, Pushed, PushedFile, PushFiles
from clusteradm.transport import Connections, Outcome
from clusteradm.transport.sending import MOST_SENT, RECONNECT, Sent

# Of this machine, for all hosts together: their files are compared by reading them.
_SECONDS = 3600.0
_PIECE = 1 << 20


@dataclass(frozen=True)
class Load:
    """Files to be put below `dest`. `bodies`: by sha256, `bytes` in all; `left_out`: what is no file, and why."""

    dest: str
    into: bool
    files: tuple[PushedFile, ...]
    bodies: dict[str, Path]
    left_out: tuple[str, ...]
    bytes: int


def load(sources: Sequence[Path], dest: str) -> Load:
    """Read the files, for their sums. A folder goes below `dest` under its own name; links to files are followed.

    Raises UsageError for what is not there or cannot be read, for two of the same name, a name that is not UTF-8, and
    for no file at all.
    """
    if not dest or "\0" in dest:
        raise UsageError("no destination on the hosts")
    if not regular.is_text(dest):
        raise UsageError("its name is not UTF-8", where=regular.readable(dest), next_step="name another destination")
    files: dict[str, PushedFile] = {}
    bodies: dict[str, Path] = {}
    left_out: list[str] = []
    total = 0
    into = dest.endswith("/") or len(sources) > 1
    for source in sources:
        where = regular.readable(source)
        if not regular.exists(source):
            raise UsageError("no such file", where=where)
        if not _name_of(source):
            raise UsageError("all of this machine cannot be copied", where=where, next_step="name folders")
        if not regular.is_text(_name_of(source)):
            raise UsageError("its name is not UTF-8", where=where, next_step="rename it, or push what is in it")
        into = into or regular.is_folder(source)
        for path, name in _walk(source, left_out):
            if name in files:
                raise UsageError(f"two of the files would be {name} there", where=where)
            if len(files) == MOST_FILES:
                raise UsageError(f"more than {MOST_FILES:,} files", next_step="pack them: tar -c ... | ssh, or fewer")
            try:
                mode = stat.S_IMODE(path.stat().st_mode) & 0o777
                sha256, size = (None, 0) if path.is_dir() else _sum(path)
            except OSError as error:
                raise UsageError(f"cannot read it: {error.strerror}", where=regular.readable(path)) from None
            files[name] = PushedFile(name, mode, sha256)
            if sha256 is not None and sha256 not in bodies:
                bodies[sha256] = path
                total += size
    if not files:
        raise UsageError("no file to copy", next_step="; ".join(left_out[:3]))
    return Load(dest, into, tuple(files.values()), bodies, tuple(left_out), total)


def push(
    connections: Connections,
    hosts: Iterable[Host],
    what: Load,
    *,
    sudo: bool = False,
    progress: Callable[[int, int], None] = lambda sent, total: None,
) -> Outcome[Pushed]:
    """Copy to all hosts at once, as the login's user or as root (`sudo`).

    What a host has already is not sent; after a lost connection, or in another run, an upload goes on where it was.
    `progress`: bytes sent to all hosts, and in all.
    """
    chosen = list(hosts)
    told = _Told(progress, what.bytes * len(chosen))

    def one(host: Host) -> Pushed:
        request = PushFiles(account(connections, host, sudo), what.dest, what.into, what.files)
        sent = Sent(lambda done, _: told.tell(host.name, done))
        node = connections.node(host)
        for _ in range(MOST_SENT):
            try:
                reply = node.call(request, timeout=_SECONDS)
                if not reply.lacking:
                    told.tell(host.name, what.bytes)
                    return reply
                node.put_blobs({sha256: what.bodies[sha256] for sha256 in reply.lacking}, sent.tell)
            except KeyError:
                raise HostFailed("it asks for files that nobody sends", where=host.name) from None
            except OSError as error:
                raise HostFailed(f"a file could not be read any more: {error}", where=host.name) from None
            except HostUnreachable:
                if not sent.anew():
                    raise
                node = connections.reconnect(host, RECONNECT)
            except HostFailed as error:
                if "arrived damaged" not in error.what:
                    raise
                raise HostFailed(
                    "a file came with other content than it had at the beginning; it was not kept",
                    where=host.name,
                    next_step="run it again when nobody writes the files",
                ) from None
        raise HostFailed(f"it does not keep the files, which were sent {MOST_SENT} times", where=host.name)

    return connections.each(chosen, one)


class _Told:
    """Sums what is sent to each host. Called by one thread a host."""

    def __init__(self, progress: Callable[[int, int], None], total: int) -> None:
        self._progress, self._total = progress, total
        self._sent: dict[str, int] = {}
        self._lock = threading.Lock()

    def tell(self, host: str, sent: int) -> None:
        with self._lock:
            self._sent[host] = sent
            self._progress(min(sum(self._sent.values()), self._total), self._total)


def _walk(source: Path, left_out: list[str]) -> Iterator[tuple[Path, str]]:
    """The file, or the folder and all that is in it, with their names below the destination."""
    name = _name_of(source)
    if not regular.is_folder(source):
        if regular.is_file(source):
            yield source, name
        else:
            left_out.append(f"{regular.readable(source)}: no regular file")
        return
    yield source, name
    try:
        inner = sorted(source.iterdir())
    except OSError as error:
        raise UsageError(f"cannot read it: {error.strerror}", where=regular.readable(source)) from None
    for path in inner:
        if not regular.is_text(path.name):
            left_out.append(f"{regular.readable(path)}: its name is not UTF-8")
        elif path.is_symlink() and regular.is_folder(path):
            left_out.append(f"{regular.readable(path)}: a link to a folder is not followed")
        else:
            yield from ((each, f"{name}/{below}") for each, below in _walk(path, left_out))


def _name_of(source: Path) -> str:
    return source.name if source.name not in ("", "..") else source.resolve().name


def _sum(path: Path) -> tuple[str, int]:
    """The file's sha256, and its bytes."""
    digest, size = hashlib.sha256(), 0
    with regular.open_file(path) as file:
        for data in iter(lambda: file.read(_PIECE), b""):
            digest.update(data)
            size += len(data)
    return digest.hexdigest(), size
