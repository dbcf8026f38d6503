"""What the head's programs cost in processor time: rank 0's own code, and HAProxy as `serve up` configures it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO, cast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from serving.proxy import proxy
from serving.servers import Server

from clusteradm.node.job import channel, journal, reports
from clusteradm.node.job.attendance import Attendance
from clusteradm.node.job.schedule import Chunk, Schedule
from clusteradm.node.spec.wire.job import RankProgress

PACE = 0.0026  # seconds of an inference
RANKS = (16, 100, 1000)
_CHUNKS = 200
_REQUESTS, _USERS = 1000, 8


def measure(inputs: dict[str, int]) -> dict[str, float]:
    """Microseconds by name. `inputs`: bytes of a request's body, by what it is. Root: for ports 80 and 8000."""
    found: dict[str, float] = {}
    for ranks in RANKS:
        found[f"schedule, a chunk, {ranks} ranks"] = _schedule(ranks)
    found |= _results() | _looks()
    return found | _proxy(inputs)


def _us(begun: float, count: float) -> float:
    return (time.thread_time() - begun) / count * 1e6


def _schedule(ranks: int) -> float:
    """Every rank has its two chunks; one is taken back, and another given."""
    schedule = Schedule(range(ranks * 200 + _CHUNKS * 100))
    held: list[Chunk] = []
    for rank in range(1, ranks + 1):
        schedule.join(rank, PACE)
        for _ in range(2):
            chunk = schedule.take(rank)
            held.append(cast(Chunk, chunk))
    begun = time.thread_time()
    for number in range(_CHUNKS):
        chunk = held[number]
        schedule.inputs(chunk.rank, chunk.number)
        schedule.finish(chunk.number, PACE * len(chunk.inputs))
        schedule.busy(chunk.rank)
        again = schedule.take(chunk.rank)
        held.append(cast(Chunk, again))
    return _us(begun, _CHUNKS)


def _results() -> dict[str, float]:
    """A delivery of a chunk of 76 classes is read, checked and journalled; and the next chunk is written."""
    size, count = 76, _CHUNKS
    results = [{"i": i, "top": [[17 + k, 0.9 / (k + 1)] for k in range(5)]} for i in range(size)]
    body = {"chunk": 1, "seconds": 0.2, "results": channel.text(results), "busy": 9.0, "decode": 9.0, "wait": 1.0}
    data = json.dumps(body, separators=(",", ":")).encode()
    pieces = [[i, f"images/{i:06}.jpg", i * 16384, 16384, "image"] for i in range(size)]
    with tempfile.TemporaryDirectory() as folder:
        file = journal.Journal(folder, 1)
        begun = time.thread_time()
        for _ in range(count):
            delivery = reports.delivery(channel.read(1, channel.RESULT, data).body)
            file.append(1, reports.results(delivery.results, range(size), "outputs"))
            channel.text({"chunk": 2, "size": size, "inputs": channel.text(pieces)})
        spent = _us(begun, count * size)
        file.close()
    return {"a result": spent, "bytes of a result": len(data) / size}


def _looks() -> dict[str, float]:
    """What rank 0 does of itself each second for each rank: ten looks at who is silent, two reports."""
    ranks = 1000
    attendance = Attendance(range(ranks), 0.0)
    progress = [RankProgress(n, f"board-{n}", "0001:01:00.0", n, 1.5, 1.25, 0.5, 0.5) for n in range(ranks)]
    begun = time.thread_time()
    for second in range(5):
        for tenth in range(10):
            attendance.pass_time(second + tenth / 10)
            attendance.silent()
        for _ in range(2):
            json.dumps(progress, default=vars)
            json.dumps(progress, default=vars)  # progress.json itself
    return {"a second, of a rank": _us(begun, 5 * ranks)}


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A board that has no work to do: every request is answered with 1 KB."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if b"content-length: " in head:
                await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n" + bytes(1024))
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


class _Board(Server):
    """A board of this process, as proxy() takes them."""

    def __init__(self, host: str) -> None:
        self.host = host
        loop = asyncio.new_event_loop()
        self._loop = loop
        loop.run_until_complete(asyncio.start_server(_answer, host, 8000))
        threading.Thread(target=loop.run_forever, daemon=True).start()


def _take(file: BinaryIO) -> None:
    """Read one answer."""
    if not file.readline().startswith(b"HTTP/1.1 200"):
        raise SystemExit("HAProxy does not find its board")
    while file.readline() != b"\r\n":
        pass
    file.read(1024)


def _proxy(inputs: dict[str, int]) -> dict[str, float]:
    """HAProxy's processor time a request, of connections that are kept and ask together."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        front: Any = proxy(Path(folder), [_Board("127.0.0.2")], max(inputs.values()))
        try:
            front.wait()
            for name, size in inputs.items():
                head = f"POST /v2/models/m/infer HTTP/1.1\r\nHost: head\r\nContent-Length: {size}\r\n\r\n".encode()
                with contextlib.ExitStack() as stack:
                    users = [stack.enter_context(socket.create_connection(("127.0.0.1", 8000))) for _ in range(_USERS)]
                    files = [stack.enter_context(user.makefile("rb")) for user in users]
                    before = front.cpu()
                    for _ in range(_REQUESTS // _USERS):
                        for user in users:
                            user.sendall(head + bytes(size))
                        for file in files:
                            _take(file)
                    found[f"HAProxy, a request of {name}"] = (front.cpu() - before) / _REQUESTS * 1e6
        finally:
            front.end()
    return found
