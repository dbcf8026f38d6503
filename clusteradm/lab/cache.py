"""Cache of the parts of a board's image, each built once and stored under a hash of all its inputs."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

Say = Callable[[str], None]

# Days without use after which a part is removed, when a newer one of its kind is built.
KEEP_DAYS = 14


def default_root() -> Path:
    """$CLUSTERADM_CACHE, or /var/cache/clusteradm."""
    return Path(os.environ.get("CLUSTERADM_CACHE") or "/var/cache/clusteradm")


@dataclass(frozen=True)
class Building:
    """A part being built: the directory to fill, and the lock that every child process inherits."""

    path: Path
    lock: int


@dataclass(frozen=True)
class Cache:
    """The parts below `root`."""

    root: Path

    def part(self, kind: str, made_of: Iterable[str], build: Callable[[Building], None], say: Say, hint: str) -> Path:
        """Directory of one part, built first if it is not cached.

        `made_of`: all inputs, which the hash is of. `hint`: what is built, for `say`. A part appears by one rename, so
        it is complete. Builds of one kind are serialised by a lock that child processes inherit: after a build was
        killed, the next one starts when its last child has ended.
        """
        digest = hashlib.sha256("\0".join([kind, *made_of]).encode()).hexdigest()[:16]
        path = self.root / f"{kind}-{digest}"
        if path.is_dir():
            os.utime(path)
            return path
        self.root.mkdir(parents=True, exist_ok=True)
        with _lock(self.root / f".{kind}.lock", say, kind) as lock:
            if path.is_dir():
                return path
            for stale in self.root.glob(f".{kind}-*.new"):
                shutil.rmtree(stale)
            new = Path(tempfile.mkdtemp(prefix=f".{kind}-", suffix=".new", dir=self.root))
            new.chmod(0o755)
            say(f"building {kind}: {hint}")
            start = time.monotonic()
            try:
                build(Building(new, lock))
                new.rename(path)
            except BaseException:
                shutil.rmtree(new, ignore_errors=True)
                raise
            say(f"building {kind}: done in {time.monotonic() - start:.0f} s")
            self._forget_old(kind, path)
        return path

    def _forget_old(self, kind: str, keep: Path) -> None:
        oldest = time.time() - KEEP_DAYS * 86400
        for other in self.root.glob(f"{kind}-" + "?" * 16):
            if other != keep and other.stat().st_mtime < oldest:
                shutil.rmtree(other, ignore_errors=True)


@contextlib.contextmanager
def _lock(path: Path, say: Say, kind: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"building {kind}: another build of it is running; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
