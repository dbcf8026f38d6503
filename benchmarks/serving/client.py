"""Client of a server that speaks HTTP: the same bytes again and again, over connections that stay open.

One thread and no library, so that it takes as little as it can of the processors that it shares with the server.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Conversation:
    """A connection. `began`: when the request that it waits for was to be sent; 0 for none; `again`: whether that has
    been sent a second time."""

    socket: socket.socket
    began: float = 0.0
    answer: bytes = b""
    again: bool = False


def request(host: str, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """The bytes of a POST."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def run(host: str, port: int, data: bytes, seconds: float, connections: int, rate: float) -> dict[str, object]:
    """Send for so long. `rate`: requests a second, whatever the answers take; 0: each connection as soon as it can."""
    # epoll's waits are whole milliseconds, rounded up: half a millisecond that no server is to blame for.
    chooser = selectors.SelectSelector()
    idle: list[Conversation] = []
    lost = 0

    def connect(one: Conversation | None = None) -> Conversation:
        """A connection, in the place of one that the server has closed."""
        made = socket.create_connection((host, port))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if one is None:
            one = Conversation(made)
        else:
            chooser.unregister(one.socket)
            one.socket.close()
            one.socket = made
        chooser.register(made, selectors.EVENT_READ, one)
        return one

    def send(one: Conversation) -> None:
        with contextlib.suppress(ConnectionError):  # which is read next
            one.socket.sendall(data)

    for _ in range(connections):
        idle.append(connect())
    took: list[float] = []
    failed = 0
    start = time.perf_counter()
    sent, end = 0, start + seconds
    while True:
        now = time.perf_counter()
        if now >= end and len(idle) == connections:
            break
        while idle and now < end and (not rate or now >= start + sent / rate):
            one = idle.pop()
            # By the clock of the rate: a server that is behind is not asked less.
            one.began = start + sent / rate if rate else now
            send(one)
            sent += 1
            now = time.perf_counter()
        wait = max(0.0, start + sent / rate - now) if rate and idle and now < end else 1.0
        for key, _ in chooser.select(wait):
            one = key.data
            try:
                piece = one.socket.recv(1 << 20)
            except ConnectionError:
                piece = b""
            if not piece or not one.began:
                # A server may close a connection that rests, some with a 408: once more on a new one, as every client.
                if one.answer or one.again:
                    raise SystemExit("the server closed the connection")
                connect(one)
                if one.began:
                    one.again = True
                    lost += 1
                    send(one)
                continue
            one.answer += piece
            head, _, body = one.answer.partition(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), None
            )
            if length is not None and len(body) >= length:
                took.append(time.perf_counter() - one.began)
                failed += not head.startswith(b"HTTP/1.1 200")
                one.answer, one.began, one.again = b"", 0.0, False
                idle.append(one)
    whole = time.perf_counter() - start
    took.sort()
    middle, slow = took[len(took) // 2], took[-1 - len(took) // 100]
    return {"requests": len(took), "failed": failed, "again": lost, "seconds": whole, "p50": middle, "p99": slow}


def main() -> None:
    """`client.py SPEC`, SPEC being JSON; the result is JSON on standard output."""
    spec = json.loads(sys.argv[1])
    data = Path(spec.pop("data")).read_bytes()
    json.dump(run(data=data, **spec), sys.stdout)


if __name__ == "__main__":
    main()
