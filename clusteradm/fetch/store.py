"""The cache of fetched files: whole ones under their sha256, parts of others until the rest has come."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path

from clusteradm import atomic, regular
from clusteradm.fetch.errors import FetchFailed

_CHUNK = 1 << 20
# A kill or a power cut costs at most so much of a part: what is written after the last sync may read as zeros.
_SYNC = 1 << 20
# A part that nobody has gone on with in this time is removed.
_KEEP_SECONDS = 14 * 24 * 3600.0


def default_cache() -> Path:
    """$XDG_CACHE_HOME/clusteradm/downloads (XDG base directories). Raises FetchFailed where there is no home."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    try:
        # One that is not absolute is to be ignored, says the specification.
        base = Path(named) if named.startswith("/") else Path.home() / ".cache"
    except RuntimeError:
        raise FetchFailed(
            "there is no home directory to keep downloads in", next_step="name a folder in XDG_CACHE_HOME"
        ) from None
    return base / "clusteradm" / "downloads"


@dataclass(frozen=True)
class Version:
    """What a server says of the file that a part belongs to.

    `etag`, `modified`: its strong ETag and its Last-Modified; `total`: its size in bytes. None where it does not say.
    """

    etag: str | None = None
    modified: str | None = None
    total: int | None = None


class Store:
    """The folder, made when it is first written to. Its files are for their owner alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def whole(self, sha256: str, read: Callable[[int], None]) -> Path | None:
        """The path of the whole file with this sha256, verified; None if it is not here, or damaged.

        `read` is called with the bytes verified so far. Raises FetchFailed.
        """
        path = self.folder / sha256
        digest = hashlib.sha256()
        with self._usable():
            try:
                with regular.opened(path) as file:
                    for chunk in iter(lambda: file.read(_CHUNK), b""):
                        digest.update(chunk)
                        read(file.tell())
            except FileNotFoundError:
                return None
            if digest.hexdigest() != sha256:
                path.unlink(missing_ok=True)
                return None
        return path

    @contextlib.contextmanager
    def part(self, key: str, waiting: Callable[[], None]) -> Iterator[Part]:
        """The part of a file, locked against another process; `waiting` is called if one has it. Raises FetchFailed."""
        name = hashlib.sha256(key.encode()).hexdigest()[:32]
        path = self.folder / "parts" / name
        with self._usable():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._prune()
            file = _locked(path, waiting)
        with file:
            part = Part(self, path, file)
            with self._usable():
                part.open()
            try:
                yield part
            finally:
                # What has come stays for the next run; if it was published, there is nothing left to keep.
                with contextlib.suppress(OSError):
                    part.keep()

    def _prune(self) -> None:
        oldest = time.time() - _KEEP_SECONDS
        for path in (self.folder / "parts").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FetchFailed(
                f"cannot keep downloads here: {error.strerror}",
                where=str(self.folder),
                next_step="make room or give access there, or name another folder in XDG_CACHE_HOME",
            ) from error


class Part:
    """What has come of a file, with the sha256 of that. `offset`: its size; `version`: of which file it is."""

    def __init__(self, store: Store, path: Path, file: FileIO) -> None:
        self._store = store
        self._path = path
        self._file = file
        self._notes = path.with_name(path.name + ".json")
        self._digest = hashlib.sha256()
        self._synced = 0
        self._published = False
        self.offset = 0
        self.version = Version()

    def open(self) -> None:
        """Take up what an earlier run has kept. Raises OSError."""
        kept, self.version = _read_notes(self._notes)
        size = os.fstat(self._file.fileno()).st_size
        self._file.truncate(min(kept, size))
        self._file.seek(0)
        for chunk in iter(lambda: self._file.read(_CHUNK), b""):
            self._digest.update(chunk)
        self.offset = self._synced = self._file.tell()

    def restart(self, version: Version) -> None:
        """Begin anew, with what the server says of the file now. Raises FetchFailed."""
        with self._store._usable():
            self._file.seek(0)
            self._file.truncate()
            self._digest = hashlib.sha256()
            self.offset = self._synced = 0
            self.version = version
            self._note()

    def write(self, chunk: bytes) -> None:
        """Append. Raises FetchFailed."""
        with self._store._usable():
            left = memoryview(chunk)
            while left:
                left = left[self._file.write(left) :]
            self._digest.update(chunk)
            self.offset += len(chunk)
            if self.offset - self._synced >= _SYNC:
                self.keep()

    def keep(self) -> None:
        """Make what has come outlive a power cut. Raises OSError."""
        if not self._published:
            os.fsync(self._file.fileno())
            self._synced = self.offset
            self._note()

    def _note(self) -> None:
        notes = {"kept": self._synced, **asdict(self.version)}
        atomic.write(self._notes, json.dumps(notes), mode=0o600)

    @property
    def sha256(self) -> str:
        """Of all that has come."""
        return self._digest.hexdigest()

    def head(self) -> bytes:
        """The first bytes. Raises FetchFailed."""
        with self._store._usable():
            return os.pread(self._file.fileno(), 512, 0)

    def publish(self) -> Path:
        """Make it the whole file, by one rename. Raises FetchFailed."""
        whole = self._store.folder / self.sha256
        with self._store._usable():
            os.fsync(self._file.fileno())
            self._path.replace(whole)
            self._published = True
            self._notes.unlink(missing_ok=True)
        return whole

    def drop(self) -> None:
        """Remove it: it is of no use. Raises FetchFailed."""
        with self._store._usable():
            self._published = True
            self._path.unlink(missing_ok=True)
            self._notes.unlink(missing_ok=True)


def _locked(path: Path, waiting: Callable[[], None]) -> FileIO:
    """The part's file, open and locked; opened again if its holder has published it meanwhile. Raises OSError."""
    said = False
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not said:
                    waiting()
                said = True
                fcntl.flock(handle, fcntl.LOCK_EX)
            if regular.is_at(handle, path):
                return os.fdopen(handle, "r+b", buffering=0)
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _read_notes(path: Path) -> tuple[int, Version]:
    """How much is kept, and of which file; nothing if they cannot be read: then it is fetched anew. Raises OSError."""
    try:
        with regular.opened(path) as file:
            notes = json.loads(file.read(1 << 16))
        kept, total = notes["kept"], notes["total"]
        texts = notes["etag"], notes["modified"]
    except FileNotFoundError:
        return 0, Version()
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0, Version()
    if type(kept) is not int or kept < 0 or not (total is None or type(total) is int):
        return 0, Version()
    if any(not (text is None or isinstance(text, str)) for text in texts):
        return 0, Version()
    return kept, Version(*texts, total)
