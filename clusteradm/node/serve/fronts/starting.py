"""Start of a front process: its protocols, over one data plane."""

import asyncio
import contextlib
import resource
from typing import List, Optional

from clusteradm.node.serve.fronts import grpc_tf, grpc_v2
from clusteradm.node.serve.fronts.access_log import AccessLog
from clusteradm.node.serve.fronts.calls import Desk
from clusteradm.node.serve.fronts.frigate import FrigateFront
from clusteradm.node.serve.fronts.grpc_calls import GrpcFront
from clusteradm.node.serve.fronts.http import HttpFront
from clusteradm.node.serve.fronts.metrics import Metrics
from clusteradm.node.serve.plane import FrontConfig, Plane, Runner

_STDOUT = 1  # the journal's
_SAVE_SECONDS = 1.0
_MOST_FILES = 8192  # open at the same time: connections, and a few more


async def start(plane: Plane, config: FrontConfig) -> List[Runner]:
    """Serve HTTP, and in the first front process gRPC and ZeroMQ. Raises OSError where a port cannot be had."""
    _allow_files()
    metrics = Metrics(config.runtime, config.number)
    log = AccessLog(_STDOUT)
    desk = Desk(plane, metrics, log, config.serve.network)
    books = Books(metrics, log)
    running: List[Runner] = []
    try:
        if config.number == 0:
            rpc = GrpcFront(desk, [grpc_v2.service(), grpc_v2.health(), *grpc_tf.services()])
            await rpc.start("%s:%d" % (config.serve.address, config.serve.grpc_port))
            running.append(rpc)
            cameras = FrigateFront(desk)
            await cameras.start("%s:%d" % (config.serve.address, config.serve.zmq_port))
            running.append(cameras)
        front = HttpFront(desk)
        await front.start(config.http)
        running.append(front)
    except BaseException:
        for each in running:
            await each.close(0.0)
        await books.close(0.0)
        raise
    books.start()
    return [Fronts(running, books)]


class Fronts(Runner):
    """All fronts of a process."""

    def __init__(self, running: List[Runner], books: "Books") -> None:
        self.running, self._books = running, books

    async def close(self, seconds: float) -> None:
        """Close all at the same time, and then the books: what ends meanwhile is in them."""
        await asyncio.gather(*(each.close(seconds) for each in self.running))
        await self._books.close(seconds)


def _allow_files() -> None:
    """As many open files as the connections need, where the unit allows that: the usual limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Books(Runner):
    """Metrics and log: the last to be closed."""

    def __init__(self, metrics: Metrics, log: AccessLog) -> None:
        self._metrics, self._log = metrics, log
        self._task: Optional["asyncio.Task[None]"] = None

    def start(self) -> None:
        """Save the counts from time to time."""
        self._task = asyncio.get_event_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_SECONDS)
            self._save()

    def _save(self) -> None:
        with contextlib.suppress(OSError):  # counts are no reason to stop serving
            self._metrics.save()

    async def close(self, seconds: float) -> None:
        """Save them once more, and write the rest of the log."""
        if self._task is not None:
            self._task.cancel()
        self._save()
        self._log.close(max(1.0, seconds))
