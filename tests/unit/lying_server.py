"""A local HTTP server that gives one file, and does to each request what it is told: cut, stall, lie, refuse."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ETAG = '"first"'


@dataclass
class Asked:
    """A request that came: its path, and its headers by lower-case name."""

    path: str
    headers: dict[str, str]


Act = Callable[["Server", BaseHTTPRequestHandler], None]


@dataclass
class Server:
    """`body`: the file. `acts`: what to do with the next requests, one each; without any, it serves honestly."""

    body: bytes
    etag: str | None = ETAG
    acts: list[Act] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    port: int = 0
    # Ends the waits of a server that stalls.
    ended: threading.Event = field(default_factory=threading.Event)

    def address(self, path: str = "/a_1.0_amd64.deb") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def ranges(self) -> list[str | None]:
        """What each request asked for."""
        return [each.headers.get("range") for each in self.asked]


def serve(server: Server, to: BaseHTTPRequestHandler) -> None:
    """The file, or the part that is asked for."""
    wanted = re.fullmatch(r"bytes=(\d+)-", to.headers.get("Range", ""))
    if wanted and to.headers.get("If-Range") in (None, server.etag):
        part(int(wanted[1]))(server, to)
    else:
        whole()(server, to)


def answer(to: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, Any]) -> None:
    to.send_response(status)
    for name, value in headers.items():
        for each in value if isinstance(value, list) else [value]:
            if each is not None:
                to.send_header(name, str(each))
    to.end_headers()
    to.wfile.write(body)


def whole(*, sent: int | None = None, length: int | None = -1, headers: dict[str, Any] | None = None) -> Act:
    """The file, as if there were no ranges: `sent` bytes of it, and `length` as its Content-Length (None: without)."""

    def act(server: Server, to: BaseHTTPRequestHandler) -> None:
        said = len(server.body) if length == -1 else length
        given = {"Content-Length": said, "ETag": server.etag, **(headers or {})}
        answer(to, 200, server.body[:sent], given)

    return act


def part(start: int, *, sent: int | None = None, headers: dict[str, Any] | None = None) -> Act:
    """The part from `start` on, `sent` bytes of it, with other `headers` than it should have."""

    def act(server: Server, to: BaseHTTPRequestHandler) -> None:
        size = len(server.body)
        if start >= size:
            answer(to, 416, b"", {"Content-Range": f"bytes */{size}", "Content-Length": 0})
            return
        given = {
            "Content-Length": size - start,
            "Content-Range": f"bytes {start}-{size - 1}/{size}",
            "ETag": server.etag,
            **(headers or {}),
        }
        answer(to, 206, server.body[start:][:sent], given)

    return act


def status(number: int, **headers: Any) -> Act:
    """An answer without a file."""
    return lambda server, to: answer(
        to, number, b"", {"Content-Length": 0, **{name.replace("_", "-"): value for name, value in headers.items()}}
    )


def stall(sent: int) -> Act:
    """`sent` bytes of the file, and then nothing."""

    def act(server: Server, to: BaseHTTPRequestHandler) -> None:
        whole(sent=sent)(server, to)
        server.ended.wait(20)

    return act


def raw(data: bytes, *, then_wait: bool = False) -> Act:
    """These bytes, and the end of the connection."""

    def act(server: Server, to: BaseHTTPRequestHandler) -> None:
        to.wfile.write(data)
        if then_wait:
            server.ended.wait(20)

    return act


def redirect(location: str, number: int = 302) -> Act:
    return status(number, Location=location)


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """The server, on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(Asked(self.path, {name.lower(): value for name, value in self.headers.items()}))
            act = server.acts.pop(0) if server.acts else serve
            # The client may have left.
            with contextlib.suppress(OSError):
                act(server, self)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads = True
        httpd.block_on_close = False
        server.port = httpd.server_address[1]
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            httpd.shutdown()
            thread.join()
