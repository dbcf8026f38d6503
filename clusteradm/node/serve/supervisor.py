"""Supervisor of a board's server: engines, front processes, the desired state, and their end."""

import asyncio
import contextlib
import os
import socket
import sys
from typing import Any, Dict, List, Optional, Set

from clusteradm.node.serve import paths, ports, tpus
from clusteradm.node.serve.convergence import Convergence
from clusteradm.node.serve.engines import EngineKeeper
from clusteradm.node.serve.fronts_keeper import FrontKeeper
from clusteradm.node.serve.page import ENGINES, Page
from clusteradm.node.serve.routes import Routes
from clusteradm.node.serve.servables.keepers import MOST, Environment, ServableKeepers
from clusteradm.node.serve.table import Table, TableEngine
from clusteradm.node.spec.wire.serving import BoardState, EngineState, ServeConfig

_WATCH_SECONDS = 0.2
_TPU_EVERY = 3  # watches between two looks at sysfs
_KNOW_SECONDS = 5.0  # for a front process to read a table
# After a board has said that it wants no new requests: two checks of a balancer, and a little.
_LEAVE_SECONDS = 2.0
_END_SECONDS = 25.0


class Supervisor:
    """`runtime`: a folder in memory of this server's own."""

    def __init__(self, config: ServeConfig, runtime: str) -> None:
        self._config, self._runtime = config, runtime
        self._page = Page(paths.page(runtime))
        self._engines: Dict[Optional[str], EngineKeeper] = {}
        self._fronts: List[FrontKeeper] = []
        self._tasks: Set["asyncio.Future[Any]"] = set()
        self._defect: "asyncio.Future[None]" = asyncio.get_event_loop().create_future()
        self._table_number = 0
        self._leaving = False
        self._dirty = asyncio.Event()
        self._conditions: Dict[int, tpus.Condition] = {}
        self._told: Optional[Table] = None
        self._memory = _memory()
        shared = Environment(runtime, self._page, config.packages, self._dirty.set, self._begin)
        self._servables = ServableKeepers(shared)
        self._convergence = Convergence(config, lambda: list(self._engines.values()), self.publish, self._servables)
        self._routes = Routes(self._convergence)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set; drain then, and end. Raises PortTaken, OSError."""
        config = self._config
        for port in (config.grpc_port, config.zmq_port):
            ports.check_free(config.address, port)
        listener = ports.listen(config.address, config.http_port)
        listener.setblocking(False)
        self._convergence.start()
        self._set_engines()
        self._start_fronts(listener)
        self._tell(self._table())
        self._begin(self._convergence.run())
        self._begin(self._watch())
        self._begin(self._publish_changes())
        try:
            await self._until(stop)
        finally:
            await self._end(listener)

    async def _until(self, stop: asyncio.Event) -> None:
        """Wait for the end; a defect in a task of ours is one, and systemd starts the server anew."""
        stopping = asyncio.ensure_future(stop.wait())
        ends: Set["asyncio.Future[Any]"] = {stopping, self._defect}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if self._defect.done():
            self._defect.result()

    async def _end(self, listener: socket.socket) -> None:
        """Leave the balancer, finish what runs, end the processes."""
        self._leaving = True
        self._tell(self._table())
        await asyncio.sleep(_LEAVE_SECONDS)
        listener.close()
        for front in self._fronts:
            front.end()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(front.over() for front in self._fronts)), _END_SECONDS)
        for engine in self._keepers:
            await engine.stop()
        self._convergence.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def _keepers(self) -> List[EngineKeeper]:
        """All of them, in the order of the table."""
        return [*self._engines.values(), *self._servables.all()]

    def _begin(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: "asyncio.Future[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not self._defect.done():
            self._defect.set_exception(task.exception() or RuntimeError())

    def _start_fronts(self, listener: socket.socket) -> None:
        for number in range(self._config.fronts):
            front = FrontKeeper(number, self._config, self._runtime, listener)
            self._fronts.append(front)
            self._begin(front.keep())

    def _set_engines(self) -> None:
        """One engine for each TPU that this board's server is to have; the CPU where the host has none."""
        config = self._config
        wanted: List[Optional[str]] = list(config.tpus) if config.tpus is not None else []
        said = [each.tpus for each in self._convergence.desired.boards if each.host == config.host]
        if said:
            # A pod has no others than its own, whatever is wanted of the host.
            wanted = [each for each in said[0] if config.tpus is None or each in config.tpus]
        elif config.tpus is None:
            # One that has gone keeps its engine, which says so.
            wanted = [*sorted({*tpus.addresses(), *filter(None, self._engines)})] or [None]
        for address in [each for each in self._engines if each not in wanted]:
            self._begin(self._engines.pop(address).stop())
        for address in wanted:
            free = set(range(ENGINES - MOST)) - {engine.number for engine in self._engines.values()}
            if address not in self._engines and free:
                engine = EngineKeeper(min(free), address, self._runtime, self._page, self._dirty.set)
                self._engines[address] = engine
                self._begin(engine.keep())

    async def _watch(self) -> None:
        """Look after the engines: an inference that does not end, a TPU that is lost or hot, a drain."""
        turn = 0
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            turn += 1
            if turn % _TPU_EVERY == 0:
                self._set_engines()
            out = set(self._convergence.desired.out_of_service)
            for engine in self._keepers:
                before = engine.open
                engine.watch()
                if turn % _TPU_EVERY == 0 and engine.pci_address is not None:
                    self._look(engine, engine.pci_address, out)
                if before and not engine.open:
                    reason = "; ".join(engine.closed_for.values())
                    sys.stderr.write("engine %s leaves rotation: %s\n" % (engine.device, reason))
                    for front in self._fronts:
                        front.closed(engine.number, reason)

    def _look(self, engine: EngineKeeper, address: str, out: Set[str]) -> None:
        found = tpus.condition(address, "tpu" in engine.closed_for)
        self._conditions[engine.number] = found
        engine.close("tpu", found.reason)
        drained = "%s:%s" % (self._config.host, address) in out
        engine.hold("it is drained: clusteradm undrain returns it" if drained else None)

    @property
    def _balance(self) -> bool:
        """Whether this board wants new requests: it has what it is to serve, at least since its
        start, and an engine; it is not drained, and does not end."""
        desired, host = self._convergence.desired, self._config.host
        drained = host in desired.drained or host in desired.out_of_service
        has_engine = any(engine.open for engine in self._engines.values())
        return self._convergence.joined and has_engine and not self._leaving and not drained

    def _condition(self, engine: EngineKeeper) -> tpus.Condition:
        return self._conditions.get(engine.number, tpus.Condition(None, None))

    def board(self) -> BoardState:
        """What the board says of itself."""
        engines = tuple(
            EngineState(
                engine.pci_address,
                "failed" if engine.state == "ready" and not engine.open else engine.state,
                "; ".join(engine.closed_for.values())[:2000],
                engine.simulated,
                known.temperature,
                megahertz=known.megahertz,
                servables=engine.servables,
            )
            for engine, known in ((each, self._condition(each)) for each in self._keepers)
        )
        found = self._convergence
        states = tuple(found.states())
        error = found.error[:2000]
        return BoardState(self._config.host, found.revision, self._balance, states, engines, error, self._memory)

    def _table(self) -> Table:
        self._table_number += 1
        keepers = self._keepers
        engines = tuple(TableEngine(e.number, e.device, e.simulated, bool(e.servables)) for e in keepers)
        models, elsewhere = self._routes.models(keepers), self._convergence.elsewhere()
        return Table(self._table_number, models, engines, self.board(), elsewhere)

    def _tell(self, table: Table, only_board: bool = False) -> None:
        """Send the front processes a table; what has changed in it may be the state of the board alone."""
        self._told = table
        for front in self._fronts:
            front.tell(table, only_board)

    async def publish(self) -> None:
        """Tell the front processes, and return when they go by it."""
        table = self._table()
        self._tell(table)
        await asyncio.gather(*(front.knows(table.number, _KNOW_SECONDS) for front in self._fronts))

    async def _publish_changes(self) -> None:
        """Tell the front processes what has changed: at once, and once a second what nobody has said."""
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._dirty.wait(), 1.0)
            self._dirty.clear()
            table, told = self._table(), self._told
            if told is None or _routing(table) != _routing(told):
                self._tell(table)
            elif table.board != told.board:  # temperatures do every second
                self._tell(table, only_board=True)


def _routing(table: Table) -> Any:
    """What of a table decides where requests go."""
    return table.models, table.engines, table.elsewhere


def _memory() -> int:
    """Bytes of this board's memory; 0 where the kernel does not say."""
    try:
        return int(os.sysconf("SC_PHYS_PAGES")) * int(os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError):
        return 0
