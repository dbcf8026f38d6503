"""Front process: `python3 -m clusteradm.node.serve.front_process SPEC`: protocols on one side, engines on the other.

SPEC is JSON: its number, the board's configuration, the runtime folder, and descriptors: of the listening socket, and
of the supervisor's, on which tables come and what is asked of the head goes.
"""

import asyncio
import gc
import json
import os
import signal
import socket
import sys
from typing import Any, Dict, List, Optional

from clusteradm.node.serve import head, paths
from clusteradm.node.serve.dispatch import Dispatch
from clusteradm.node.serve.engine_link import EngineLink
from clusteradm.node.serve.fronts import starting
from clusteradm.node.serve.lines import MOST_LINE, Lines
from clusteradm.node.serve.link import Link
from clusteradm.node.serve.page import Page
from clusteradm.node.serve.plane import FrontConfig, Runner
from clusteradm.node.serve.routing import Reader
from clusteradm.node.serve.servables.link import ServableLink
from clusteradm.node.serve.table import Table, TableEngine
from clusteradm.node.spec.wire.decode import decode
from clusteradm.node.spec.wire.serving import BoardState, ServeConfig

_CONNECT_SECONDS, _IDLE_SECONDS = 0.05, 1.0  # between two looks for engines, with one missing and without
_CLOSE_SECONDS = 20.0
_LINKS = (EngineLink, ServableLink)


class FrontProcess:
    """State of the process."""

    def __init__(self, config: FrontConfig, lines: Lines) -> None:
        self._config, self._lines = config, lines
        self._reader = Reader()
        self._page = Page(paths.page(config.runtime))
        self._table: Optional[Table] = None
        self.plane = Dispatch(config.serve.host, self._state, head.of(config.serve))
        self._runners: List[Runner] = []

    async def run(self) -> None:
        """Serve until the supervisor has gone, or says that it is over."""
        connecting = asyncio.ensure_future(self._connect())
        while True:
            document = await self._lines.receive()
            if document is None:
                break
            if "table" in document:
                await self._take(decode(Table, document["table"]))
            elif "board" in document and self._table is not None:
                self._table.board = decode(BoardState, document["board"])
                self._connect_all()
                self.plane.routing = self._reader.routing(self._table)
            elif "closed" in document:
                link = self.plane.links.get(document["closed"])
                if isinstance(link, _LINKS):
                    link.give_up(str(document["reason"]))
            elif "end" in document:
                await asyncio.gather(*(runner.close(_CLOSE_SECONDS) for runner in self._runners))
                break
        connecting.cancel()

    async def _take(self, table: Table) -> None:
        self._table = table
        known = {each.number: each for each in table.engines}
        for number, link in list(self.plane.links.items()):
            each = known.get(number)
            if each is None or link.device != each.device or link.models == each.servables:
                if isinstance(link, _LINKS):
                    link.close("it is not this board's any more")
                del self.plane.links[number]
        for number, each in known.items():
            if number not in self.plane.links:
                self.plane.links[number] = self._link(each)
            self.plane.links[number].simulated = each.simulated
        self._connect_all()
        self.plane.routing = self._reader.routing(table)
        self._lines.send({"table": table.number})
        if not self._runners:
            self._runners = await starting.start(self.plane, self._config)
            # What lives as long as the process is not looked through for garbage again and again.
            gc.freeze()
            self._lines.send({"started": os.getpid()})

    def _link(self, engine: TableEngine) -> Link:
        config = self._config
        if engine.servables:
            return ServableLink(engine.number, engine.device, config.number, config.runtime)
        fronts = config.serve.fronts
        return EngineLink(engine.number, engine.device, engine.simulated, config.number, fronts, config.runtime)

    async def _connect(self) -> None:
        """Connect to the engines that have started, and again to those that start anew."""
        while True:
            await asyncio.sleep(_IDLE_SECONDS if self._connect_all() else _CONNECT_SECONDS)

    def _connect_all(self) -> bool:
        """Whether all are connected."""
        return all([link.connect() for link in self.plane.links.values() if isinstance(link, _LINKS)])  # noqa: C419

    def _state(self) -> BoardState:
        """What the supervisor said last, with the engines' queues as they are now."""
        if self._table is None:
            return BoardState(self._config.serve.host, 0, False)
        board = self._table.board
        for engine, each in zip(self._table.engines, board.engines):
            each.queued = self._page.waiting(engine.number, self._config.serve.fronts)
            each.requests = self._page.count(engine.number)
            totals = self._page.totals(engine.number)
            each.busy_seconds, each.swaps = totals.busy, totals.swaps
            each.swap_seconds = max(0.0, totals.swap_seconds)
        return board


def _config(spec: Dict[str, Any]) -> FrontConfig:
    listener = socket.socket(fileno=spec["http"])
    return FrontConfig(decode(ServeConfig, spec["config"]), spec["number"], listener, spec["runtime"])


async def _main(spec: Dict[str, Any]) -> None:
    control = socket.socket(fileno=spec["control"])
    reader, writer = await asyncio.open_unix_connection(sock=control, limit=MOST_LINE)
    await FrontProcess(_config(spec), Lines(reader, writer)).run()


def main() -> None:
    """The program."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the supervisor says when it is over
    asyncio.run(_main(json.loads(sys.argv[1])))


if __name__ == "__main__":
    main()
