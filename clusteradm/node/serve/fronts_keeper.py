"""Front keeper: one front process, kept alive, with the table that it goes by."""

import asyncio
import contextlib
import socket
import sys
from typing import Any, Dict, Optional

from clusteradm.node.serve.process import Process
from clusteradm.node.serve.table import Table
from clusteradm.node.spec.wire.serving import ServeConfig

_PAUSE, _LONGEST_PAUSE = 0.2, 10.0


class FrontKeeper:
    """`known`: the number of the table that it goes by; `started`: whether it serves."""

    def __init__(self, number: int, config: ServeConfig, runtime: str, listener: socket.socket) -> None:
        self.number = number
        self._spec = {"number": number, "config": vars(config), "runtime": runtime, "http": listener.fileno()}
        self._listener = listener
        self._process: Optional[Process] = None
        self._table: Optional[Table] = None
        self._stopped = False
        self.known = 0
        self.started = asyncio.Event()
        self.changed = asyncio.Event()

    def tell(self, table: Table, only_board: bool = False) -> None:
        """Send it the table, now and whenever it starts anew. `only_board`: it has all of it but the board's state."""
        self._table = table
        if self._process is not None:
            self._process.lines.send({"board": table.board} if only_board else {"table": table})

    def closed(self, engine: int, reason: str) -> None:
        """Tell it that an engine does not answer."""
        if self._process is not None:
            self._process.lines.send({"closed": engine, "reason": reason})

    async def keep(self) -> None:
        """Run the process, again and again, until it is stopped."""
        pause = _PAUSE
        while not self._stopped:
            reason = await self._live()
            if not self._stopped:
                sys.stderr.write("front %d: %s\n" % (self.number, reason))
                await asyncio.sleep(pause)
                pause = _PAUSE if self.started.is_set() else min(2 * pause, _LONGEST_PAUSE)
            self.started.clear()

    async def _live(self) -> str:
        try:
            process = self._process = await Process.start("front_process", self._spec, [self._listener.fileno()])
        except OSError as error:
            return "its process does not start: %s" % error
        try:
            if self._table is not None:
                process.lines.send({"table": self._table})
            while True:
                document = await process.lines.receive()
                if not isinstance(document, dict):
                    break
                self._hear(document)
            process.kill()
            return await process.ended()
        finally:
            process.kill()
            self._process = None
            self.known = 0
            self.changed.set()

    def _hear(self, document: Dict[str, Any]) -> None:
        if "table" in document:
            self.known = int(document["table"])
            self.changed.set()
        if "started" in document:
            self.started.set()

    async def knows(self, number: int, seconds: float) -> None:
        """Wait until it goes by this table or a later one; not for one that has ended."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._until(number), seconds)

    async def _until(self, number: int) -> None:
        while self._process is not None and self.known < number:
            self.changed.clear()
            await self.changed.wait()

    async def over(self) -> None:
        """Wait until its process has ended."""
        while self._process is not None:
            self.changed.clear()
            await self.changed.wait()

    def end(self) -> None:
        """Have it finish what runs, and end."""
        self._stopped = True
        if self._process is not None:
            self._process.lines.send({"end": True})
