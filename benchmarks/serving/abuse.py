"""Clients that are slow, many, or send what nobody can answer: `abuse.py KIND SPEC`, SPEC being JSON.

Prints what became of them: statuses by what was sent, connections that were opened, refused, and closed by the server.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import socket
import sys
import time
from collections import Counter
from typing import Any

INFER = "/v2/models/m/infer"
SHAPE = [1, 224, 224, 3]
SIZE = 224 * 224 * 3
UNTAKEN, WINDOW = 6, 4096  # answers of the page, 20 KB each; bytes


def post(body: bytes, *headers: str, path: str = INFER, length: int | None = None) -> bytes:
    """The bytes of a request. `length`: what it says of its body, where that is not true."""
    size = len(body) if length is None else length
    lines = [f"POST {path} HTTP/1.1", "Host: bench", f"Content-Length: {size}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def binary(path: str = INFER, shape: Any = SHAPE, size: int = SIZE, data: int = SIZE, name: str = "input") -> bytes:
    """A request of the binary form, right or wrong."""
    entry = {"name": name, "datatype": "UINT8", "shape": shape, "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    return post(head + bytes(data), f"Inference-Header-Content-Length: {len(head)}", path=path)


def wrong() -> dict[str, tuple[bytes, tuple[int, ...]]]:
    """What nobody can answer, and the statuses that are right for it."""
    entry = b'{"inputs": [{"name": "input", "datatype": "UINT8", "shape": [1, 224, 224, 3], "data": [%s]}]}'
    chunked = f"POST {INFER} HTTP/1.1\r\nHost: bench\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    pieces = (b"10000\r\n" + bytes(1 << 16) + b"\r\n") * 544  # 34 MiB
    bomb = gzip.compress(bytes(64 << 20), 9)
    return {
        "a body of 64 MiB": (post(bytes(64 << 20)), (413,)),
        "a body of 34 MiB in pieces": (chunked + pieces + b"0\r\n\r\n", (413,)),
        "64 MiB, packed": (post(bomb, "Content-Encoding: gzip"), (413,)),
        "an unknown packing": (post(b"x", "Content-Encoding: br"), (415,)),
        "JSON of 9 MiB": (post(b'{"a": "' + b"x" * (9 << 20) + b'"}'), (413,)),
        "JSON of a million lists": (post(b"[" + b"[]," * 1_000_000 + b"[]]"), (413,)),
        "JSON a million deep": (post(b"[" * 1_000_000), (400, 413)),
        "JSON of three million numbers": (post(b"[" + b"1," * 3_000_000 + b"1]"), (413,)),
        "no JSON": (post(b"\x00\xff{"), (400,)),
        "NaN": (post(entry % b"NaN"), (400,)),
        "a number that is none of the type": (post(entry % (b"300," * (SIZE - 1) + b"300")), (400,)),
        "too few numbers": (post(entry % b"1,2,3"), (400,)),
        "a wrong shape": (binary(shape=[1, 3, 224, 224]), (400,)),
        "a shape without end": (binary(shape=[1 << 40, 1 << 40]), (400,)),
        "a negative shape": (binary(shape=[-1, 224, 224, 3]), (400,)),
        "bytes that are too few": (binary(size=SIZE, data=SIZE - 1), (400,)),
        "bytes of no input": (binary(data=SIZE + 1), (400,)),
        "an input that there is not": (binary(name="x"), (400,)),
        "an unknown model": (binary("/v2/models/nothing/infer"), (404,)),
        "an unknown version": (binary("/v2/models/m/versions/77/infer"), (404,)),
        "an unknown path": (post(b"", path="/v3"), (404,)),
        "another method": (b"DELETE /v2/models/m/infer HTTP/1.1\r\nHost: bench\r\n\r\n", (405,)),
        "two lengths": (post(b"{}", "Content-Length: 3"), (400,)),
        "a length and chunks": (post(b"0\r\n\r\n", "Transfer-Encoding: chunked"), (400,)),
        "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", (400, 0)),
    }


class Abuse:
    """Clients of one kind, for so long."""

    def __init__(self, host: str, port: int, seconds: float, count: int) -> None:
        self.host, self.port, self.count = host, port, count
        self.end = time.monotonic() + seconds
        self.found: Counter[str] = Counter()

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    async def connect(
        self, number: int, window: int | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection, from one of many addresses of the loopback. `window`: bytes that it takes unread."""
        own = socket.socket()
        try:
            own.setblocking(False)
            if window is not None:
                own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            own.bind((f"127.0.{1 + number // 250}.{1 + number % 250}", 0))
            connecting = asyncio.get_running_loop().sock_connect(own, (self.host, self.port))
            await asyncio.wait_for(connecting, 10.0)
            found = await asyncio.open_connection(sock=own, limit=window or 1 << 16)
        except BaseException:
            own.close()
            raise
        self.found["opened"] += 1
        return found

    async def status(self, reader: asyncio.StreamReader) -> int:
        """The status of an answer, which is read whole; 0 where the connection was closed without one."""
        try:
            head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30.0)).decode("latin-1")
            length = next((int(x[15:]) for x in head.lower().split("\r\n") if x.startswith("content-length:")), 0)
            await asyncio.wait_for(reader.readexactly(length), 30.0)
            return int(head.split()[1])
        except (OSError, asyncio.IncompleteReadError):
            return 0

    async def wrongs(self) -> dict[str, Any]:
        """What nobody can answer, one after the other on connections of their own."""
        statuses: dict[str, Counter[int]] = {}
        known = wrong()
        while self.left > 0:
            for name, (data, right) in known.items():
                if self.left <= 0:
                    break
                reader, writer = await self.connect(0)
                sending = asyncio.ensure_future(_send(writer, data))
                status = await self.status(reader)
                sending.cancel()
                writer.close()
                statuses.setdefault(name, Counter())[status] += 1
                if status not in right:
                    self.found[f"{name}: {status}"] += 1
                await asyncio.sleep(0.1)
        every = {name: dict(counts) for name, counts in statuses.items()}
        return {"statuses": every, "missing": sorted(known.keys() - every.keys())}

    async def slow(self, number: int) -> None:
        """Nothing, a part of a head or of a body, and then a byte from time to time; or requests whose answers nobody
        takes, more than the kernel keeps for a client with so small a window."""
        head = f"POST {INFER} HTTP/1.1\r\nHost: bench\r\nX: "
        begin = [b"", head.encode(), post(bytes(1000), length=SIZE), b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n" * UNTAKEN]
        writer = None
        try:
            await asyncio.sleep(8.0 * number / self.count)
            kind = number % len(begin)
            reader, writer = await self.connect(number, WINDOW if kind == 3 else None)
            writer.write(begin[kind])
            while self.left > 0:
                await asyncio.sleep(min(1.0, max(0.0, self.left)))
                if writer.is_closing() or reader.at_eof():
                    self.found["closed"] += 1
                    return
                if kind in (1, 2):
                    writer.write(b"x")
        except (OSError, asyncio.TimeoutError) as error:
            self.found[type(error).__name__] += 1
        finally:
            if writer is not None:
                writer.transport.abort()

    async def kept(self, number: int) -> None:
        """A connection that stays, and asks something every five seconds."""
        try:
            await asyncio.sleep(5.0 * number / self.count)
            reader, writer = await self.connect(number)
            while self.left > 0:
                writer.write(b"GET /v2/health/live HTTP/1.1\r\nHost: bench\r\n\r\n")
                self.found[str(await self.status(reader))] += 1
                await asyncio.sleep(min(5.0, max(0.0, self.left)))
            writer.close()
        except (OSError, asyncio.TimeoutError) as error:
            self.found[type(error).__name__] += 1


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    try:
        for at in range(0, len(data), 1 << 18):
            writer.write(data[at : at + (1 << 18)])
            await writer.drain()
    except OSError:  # the answer is there
        pass


async def main(kind: str, spec: dict[str, Any]) -> None:
    os.nice(10)
    abuse = Abuse(**spec)
    more: dict[str, Any] = {}
    if kind == "wrong":
        more = await abuse.wrongs()
    else:
        work = {"slow": abuse.slow, "kept": abuse.kept}[kind]
        await asyncio.gather(*(work(number) for number in range(abuse.count)))
    json.dump({**abuse.found, **more}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
