"""Linux's inotify(7): what happens in folders, told by the kernel of this machine."""

import ctypes
import errno
import os
import select
import struct
from typing import Iterator, List, NamedTuple, Optional

# linux/inotify.h
CLOSE_WRITE, MOVED_TO, CREATE, DELETE_SELF, MOVE_SELF = 0x8, 0x80, 0x100, 0x400, 0x800
UNMOUNT, OVERFLOW, IGNORED, IS_FOLDER = 0x2000, 0x4000, 0x8000, 0x40000000
_ONLY_FOLDER, _NOT_A_LINK, _NOT_REMOVED = 0x1000000, 0x2000000, 0x4000000
_WANTED = CLOSE_WRITE | MOVED_TO | CREATE | DELETE_SELF | MOVE_SELF | _ONLY_FOLDER | _NOT_A_LINK | _NOT_REMOVED
_HEAD = struct.Struct("iIII")  # the watch, what happened, a number that joins two events, the length of the name
_MOST = 1 << 16  # bytes that are read at once


class Event(NamedTuple):
    """What happened (bits of the above), by the folder's number, to the file of this name in it; "": to itself."""

    folder: int
    what: int
    name: str


class Inotify:
    """One queue of events. Raises OSError where this kernel has none, or no more."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        if not hasattr(self._library, "inotify_init1"):
            raise OSError(errno.ENOSYS, "no inotify here")
        self._fd = self._library.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")

    def add(self, path: str) -> int:
        """Watch this folder; its number, which is the same again for the same folder. Raises OSError."""
        number = int(self._library.inotify_add_watch(self._fd, os.fsencode(path), _WANTED))
        if number < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
        return number

    def wait(self, seconds: Optional[float]) -> bool:
        """Wait for an event; whether there is one."""
        return bool(select.select([self._fd], [], [], seconds)[0])

    def read(self) -> List[Event]:
        """The events so far."""
        found: List[Event] = []
        while True:
            try:
                data = os.read(self._fd, _MOST)
            except BlockingIOError:
                return found
            found.extend(_events(data))

    def close(self) -> None:
        """Watch nothing any more."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def _events(data: bytes) -> Iterator[Event]:
    at = 0
    while at + _HEAD.size <= len(data):
        folder, what, _, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        yield Event(folder, what, os.fsdecode(data[at : at + length].split(b"\0", 1)[0]))
        at += length
