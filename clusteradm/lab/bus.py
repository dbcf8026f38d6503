"""Writes to the PCI bus in a board's view of sysfs: `echo 1 >remove` and `echo 1 >rescan`, as a kernel acts on them.

The view's files are plain ones (see hardware); inotify(7) reports writes to them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import struct
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from clusteradm.lab import sysfs
from clusteradm.lab.machine import LabError

_CLOSE_WRITE = 0x8
_EVENT = struct.Struct("iIII")

Action = Callable[[], Coroutine[Any, Any, None]]


class Listener:
    """Runs an action when a number other than 0 is written to a file; one action at a time, in the order of writes."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._actions: dict[int, tuple[Path, Action]] = {}
        self._heard: asyncio.Queue[Action] = asyncio.Queue()
        asyncio.get_running_loop().add_reader(self._fd, self._read)
        self._worker = asyncio.create_task(self._work())

    def hear(self, path: Path, action: Action) -> None:
        """Run `action` at writes to `path`, until the file is removed."""
        number = self._libc.inotify_add_watch(self._fd, os.fsencode(path), _CLOSE_WRITE)
        if number < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch", str(path))
        self._actions[number] = path, action

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        self._worker.cancel()

    def _read(self) -> None:
        data = os.read(self._fd, 1 << 16)
        while data:
            number, mask, _, length = _EVENT.unpack_from(data)
            data = data[_EVENT.size + length :]
            if not mask & _CLOSE_WRITE:
                self._actions.pop(number, None)
                continue
            path, action = self._actions[number]
            with contextlib.suppress(OSError, ValueError):  # the file is gone, or the text is no number
                if int(path.read_text(), 0):
                    sysfs.put(path, "")  # handled; this write is reported, too, and ignored
                    self._heard.put_nowait(action)

    async def _work(self) -> None:
        while True:
            action = await self._heard.get()
            try:
                await action()
            except (LabError, OSError):  # for the supervisor's log: the writer gets no error
                traceback.print_exc()
