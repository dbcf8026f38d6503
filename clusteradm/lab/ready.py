"""Socket on which a board's container manager reports its start: the protocol of sd_notify(3)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path


class ReadySocket:
    """A datagram socket at `path`, removed when closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))

    def __enter__(self) -> ReadySocket:
        return self

    def __exit__(self, *ignored: object) -> None:
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    async def lines(self) -> AsyncIterator[str]:
        """Assignments such as "READY=1", one by one, without end."""
        loop = asyncio.get_running_loop()
        while True:
            message = await loop.sock_recv(self._socket, 4096)
            for line in message.decode(errors="replace").splitlines():
                yield line
