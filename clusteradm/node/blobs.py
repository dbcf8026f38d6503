"""File bodies, stored under their sha256: each is sent to a host once, however many tasks name it."""

import hashlib
import os
import re
import time
from contextlib import suppress
from typing import Any, Callable, Dict, Optional

from clusteradm.node import atomic
from clusteradm.node.state import private

_NAME = re.compile(r"[0-9a-f]{64}\Z")
# A body that no run has asked for in this time is removed.
_KEEP_SECONDS = 7 * 24 * 3600.0


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
    """{"sha256": names} -> {"missing": those that are not here}. The others count as used now."""
    lacking = []
    for sha256 in request["sha256"]:
        path = path_of(sha256)
        try:
            os.utime(path)
        except FileNotFoundError:
            lacking.append(sha256)
    _prune()
    return {"missing": lacking}


def receive(sha256: str, size: int, read: Callable[[int], bytes]) -> Dict[str, Any]:
    """Store the `size` bytes that `read` gives, if their sha256 is the name. Raises ValueError if not."""
    path = path_of(sha256)
    digest = hashlib.sha256()
    with atomic.replacing(path) as file:
        left = size
        while left:
            data = read(min(left, 1 << 18))
            if not data:
                raise ValueError("the input ended in the middle of a body")
            left -= len(data)
            digest.update(data)
            file.write(data)
        if digest.hexdigest() != sha256:
            raise ValueError("the body %s… arrived damaged" % sha256[:12])
    return {}


def _prune() -> None:
    directory = private("blobs")
    oldest = time.time() - _KEEP_SECONDS
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        # Another session may take it away meanwhile.
        with suppress(FileNotFoundError):
            if os.stat(path).st_mtime < oldest:
                os.unlink(path)
