"""Writes to the buses in a board's view of sysfs, as a kernel acts on them: `echo 1 >remove`, `echo 1 >rescan` on PCI,
`echo 0 >authorized` on USB.

The view's files are plain ones (see hardware); inotify(7) reports writes to them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
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
Setting = Callable[[bool], Coroutine[Any, Any, None]]


class Listener:
    """Runs an action when a number is written to a file; one action at a time, in the order of writes."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._watched: dict[int, tuple[Path, Callable[[int], Action | None]]] = {}
        self._heard: asyncio.Queue[Action] = asyncio.Queue()
        asyncio.get_running_loop().add_reader(self._fd, self._read)
        self._worker = asyncio.create_task(self._work())

    def hear(self, path: Path, action: Action) -> None:
        """Run `action` when another number than 0 is written to `path`, until the file is removed."""

        def react(number: int) -> Action | None:
            if not number:
                return None
            sysfs.put(path, "")  # handled; this write is reported, too, and ignored
            return action

        self._watch(path, react)

    def heed(self, path: Path, setting: Setting) -> None:
        """Run `setting` with what is written to `path`, 0 or another number, until the file is removed."""
        self._watch(path, lambda number: functools.partial(setting, bool(number)))

    def _watch(self, path: Path, react: Callable[[int], Action | None]) -> None:
        number = self._libc.inotify_add_watch(self._fd, os.fsencode(path), _CLOSE_WRITE)
        if number < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch", str(path))
        self._watched[number] = path, react

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
                self._watched.pop(number, None)
                continue
            path, react = self._watched[number]
            with contextlib.suppress(OSError, ValueError):  # the file is gone, or the text is no number
                action = react(int(path.read_text(), 0))
                if action is not None:
                    self._heard.put_nowait(action)

    async def _work(self) -> None:
        while True:
            action = await self._heard.get()
            try:
                await action()
            except (LabError, OSError):  # for the supervisor's log: the writer gets no error
                traceback.print_exc()
