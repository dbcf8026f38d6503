"""File bodies, stored under their sha256: each is sent to a host once, however many tasks name it."""

import hashlib
import os
import re
import time
from contextlib import suppress
from typing import Any, Callable, Dict, Iterator, NamedTuple, Optional

from clusteradm.node import atomic
from clusteradm.node.state import private

_NAME = re.compile(r"[0-9a-f]{64}\Z")
# A body that no run has asked for in this time is removed.
_KEEP_SECONDS = 7 * 24 * 3600.0
_PIECE = 1 << 18


def path_of(sha256: str) -> str:
    """Path of the body. Raises ValueError for a name that is not a sha256."""
    if not _NAME.match(sha256):
        raise ValueError("not a sha256: %r" % sha256)
    return os.path.join(private("blobs"), sha256)


def body(sha256: str) -> Optional[bytes]:
    """The body; None if it is missing."""
    if sha256 not in _held:
        try:
            with open(path_of(sha256), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None
    return _held[sha256]


def hold(sha256: str) -> None:
    """Load the body for this process and its children, which may work as a user who cannot read it."""
    _held.clear()
    _held[sha256] = body(sha256)


_held: Dict[str, Optional[bytes]] = {}


def missing(request: Dict[str, Any], reply: Callable[[Dict[str, Any]], None]) -> Dict[str, Any]:
    """{"sha256": names} -> {"missing": those that are not here, "begun": of these the bytes that are}.

    All that is here counts as used now.
    """
    lacking = []
    begun = {}
    for sha256 in request["sha256"]:
        path = path_of(sha256)
        if _touched(path) is None:
            lacking.append(sha256)
            size = _touched(_begun(path))
            if size:
                begun[sha256] = size
    _prune()
    return {"missing": lacking, "begun": begun}


class Part(NamedTuple):
    """The bytes of a body that follow a request: `size` of its `total`, from `offset` on."""

    offset: int
    size: int
    total: int


class _Coming:
    """The bytes of one part, as they come. Whatever happens to them, all are taken: the next request follows them."""

    def __init__(self, size: int, read: Callable[[int], bytes]) -> None:
        self._left = size
        self._read = read

    def __iter__(self) -> Iterator[bytes]:
        while self._left:
            data = self._read(min(self._left, _PIECE))
            if not data:
                self._left = 0
                raise ValueError("the input ended in the middle of a body")
            self._left -= len(data)
            yield data

    def pass_over(self) -> None:
        """Take what is left."""
        with suppress(ValueError):
            for _ in self:
                pass


def receive(sha256: str, part: Part, read: Callable[[int], bytes]) -> Dict[str, Any]:
    """Store the bytes that `read` gives, and with the last of them the body, if its sha256 is the name.

    Raises ValueError if not. A chunk that does not follow on what is there is passed over: another session may have
    completed the body meanwhile, and used it up. Who needs the body asks again.
    """
    coming = _Coming(part.size, read)
    try:
        path = path_of(sha256)
        if part.size == part.total:
            _whole(path, sha256, coming)
        else:
            _chunk(path, sha256, part, coming)
    finally:
        coming.pass_over()
    return {}


def _whole(path: str, sha256: str, coming: _Coming) -> None:
    digest = hashlib.sha256()
    with atomic.replacing(path) as file:
        for data in coming:
            digest.update(data)
            file.write(data)
        _check(digest.hexdigest(), sha256)


def _chunk(path: str, sha256: str, part: Part, coming: _Coming) -> None:
    begun = _begun(path)
    try:
        # Not emptied: two sessions may send the same body at once, and write the same bytes.
        fd = os.open(begun, os.O_RDWR | os.O_CLOEXEC | (0 if part.offset else os.O_CREAT), 0o600)
    except FileNotFoundError:
        return
    with open(fd, "r+b") as file:
        if os.fstat(fd).st_size < part.offset:
            return
        file.seek(part.offset)
        try:
            for data in coming:
                file.write(data)
            file.flush()
            os.fsync(fd)
        except OSError:
            _forget(begun)  # where the disk is full, others need the room
            raise
        if part.offset + part.size < part.total:
            return
        digest = hashlib.sha256()
        file.seek(0)
        for data in iter(lambda: file.read(_PIECE), b""):
            digest.update(data)
        try:
            _check(digest.hexdigest(), sha256)
        except ValueError:
            _forget(begun)
            raise
        with suppress(FileNotFoundError):
            os.rename(begun, path)
    atomic.sync_folder(os.path.dirname(path))


def _check(found: str, sha256: str) -> None:
    if found != sha256:
        raise ValueError("the body %s… arrived damaged" % sha256[:12])


def _begun(path: str) -> str:
    """The file of a body of which not all has come."""
    folder, name = os.path.split(path)
    return os.path.join(folder, ".part-" + name)


def _touched(path: str) -> Optional[int]:
    """The size of a file, which counts as used now; None where there is none."""
    try:
        os.utime(path)
        return os.stat(path).st_size
    except FileNotFoundError:
        return None


def drop(sha256: str) -> None:
    """Remove a body that is not needed any more: a board's storage is small."""
    _forget(path_of(sha256))


def _forget(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _prune() -> None:
    directory = private("blobs")
    oldest = time.time() - _KEEP_SECONDS
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        # Another session may take it away meanwhile.
        with suppress(FileNotFoundError):
            if os.stat(path).st_mtime < oldest:
                os.unlink(path)
