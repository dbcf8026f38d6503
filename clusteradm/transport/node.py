"""The conversation with the node program on one host: JSON lines both ways over one channel."""

from __future__ import annotations

import contextlib
import itertools
import json
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clusteradm.errors import HostFailed, HostUnreachable
from clusteradm.transport.become import as_root
from clusteradm.transport.bundle import LAUNCHER, START, archive, digest
from clusteradm.transport.connection import Connection
from clusteradm.transport.password import Password
from clusteradm.transport.python import NoPython
from clusteradm.transport.stream import Lines, ProcessStream, Stream

_CHUNK = 1 << 18
# A login may greet; a program that goes on and on is not ours.
_NOISE_LINES = 100
START_TIMEOUT = 60.0


class NodeError(HostFailed):
    """The node program answered a request with an error."""


class Silent(HostUnreachable):
    """The line is there, but nothing came in time."""


class Node:
    """One conversation. Replies come in the order of the requests, so one thread asks at a time; anyone may `send`."""

    def __init__(self, name: str, stream: Stream) -> None:
        self.name = name
        self._stream = stream
        self._lines = Lines(stream)
        self._numbers = itertools.count(1)
        self._writing = threading.Lock()
        self.closed = False

    @classmethod
    def over_ssh(
        cls,
        name: str,
        connection: Connection,
        python: str,
        password: Password | None = None,
        timeout: float = START_TIMEOUT,
    ) -> Node:
        """Start the node program through the connection, sending it first if the host does not have it.

        `password`: what sudo is told where it asks for one. Raises WrongPassword where it refuses that.
        """
        node = cls(name, as_root(name, connection, [python, *START, LAUNCHER, digest()], password, timeout))
        try:
            node.start(timeout)
        except BaseException:
            node.close()
            raise
        return node

    @classmethod
    def local(cls, name: str = "local", python: str = sys.executable, env: Mapping[str, str] | None = None) -> Node:
        """The node program as a process of this machine, as the user that we are: what tests talk to."""
        root = Path(__file__).resolve().parents[2]
        process = subprocess.Popen(
            [python, "-m", "clusteradm.node"],
            cwd=root,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        return cls(name, ProcessStream(process))

    def start(self, timeout: float) -> None:
        """Wait until the launcher has the package, sending it if need be."""
        if self._greeting(timeout) == "need":
            data = archive()
            self._write(struct.pack(">Q", len(data)) + data)
            self._greeting(timeout)

    def _greeting(self, timeout: float) -> str:
        """The launcher's word. What a login's own start-up files print before it is passed over."""
        noise: list[str] = []
        while True:
            line = self._line(timeout, noise)
            with contextlib.suppress(ValueError):
                reply = json.loads(line)
                for word in ("need", "have"):
                    if isinstance(reply, dict) and reply.get(word) == digest():
                        return word
            noise.append(line[:200].decode("utf-8", "replace"))
            if len(noise) > _NOISE_LINES:
                raise HostFailed(f"the node program did not start; instead: {noise[0]} ...", where=self.name)

    def _request(self, do: str, **fields: Any) -> int:
        number = next(self._numbers)
        self._write(json.dumps({"do": do, "id": number, **fields}).encode() + b"\n")
        return number

    def _write(self, data: bytes) -> None:
        with self._writing:
            try:
                self._stream.write(data)
            except OSError as error:
                raise self._lost(str(error)) from None

    def _line(self, timeout: float | None, noise: Sequence[str] = ()) -> bytes:
        try:
            line = self._lines.read(timeout)
        except TimeoutError:
            raise Silent(f"no answer within {timeout:.0f} s", where=self.name) from None
        except OSError as error:
            raise self._lost(str(error), noise) from None
        if not line:
            raise self._lost("", noise)
        return line

    def _read(self, timeout: float | None) -> dict[str, Any]:
        line = self._line(timeout)
        try:
            reply = json.loads(line)
        except ValueError:
            reply = None
        if not isinstance(reply, dict):
            text = line[:200].decode("utf-8", "replace")
            raise HostFailed(f"unexpected output of the node program: {text}", where=self.name)
        return reply

    def _lost(self, reason: str, noise: Sequence[str] = ()) -> HostFailed | HostUnreachable:
        """The error of an ended conversation: the program's own last words, or the connection that broke.

        What stands on its standard error is no sign of either: sudo warns of a host name that it cannot resolve.
        """
        self.closed = True
        status = self._stream.exit_status()
        if status is None:
            return HostUnreachable(f"connection lost{': ' + reason if reason else ''}", where=self.name)
        words = "\n".join([*noise, self._stream.stderr_tail()]).strip()
        for sign, (what, next_step) in _LAST_WORDS.items():
            if sign in words:
                return HostFailed(what, where=self.name, next_step=next_step)
        # 127: so does a shell end that finds no such program; sudo says it in its own words.
        if status == 127 or "not found" in words:
            return NoPython(self.name)
        return HostFailed(
            f"the node program ended with status {status}{': ' + words if words else ''}", where=self.name
        )

    def ask(
        self, do: str, *, timeout: float | None = None, **fields: Any
    ) -> Generator[dict[str, Any], None, dict[str, Any]]:
        """Send a request; yield its replies as they come, and return the final one.

        `timeout`: seconds without any reply. Raises NodeError where the program answers with an error, HostUnreachable
        where the connection is lost.
        """
        number = self._request(do, **fields)
        while True:
            reply = self._answer(number, timeout)
            if reply.get("done"):
                return reply
            yield reply

    def call(self, do: str, *, timeout: float | None = None, **fields: Any) -> dict[str, Any]:
        """Send a request and return its final reply."""
        conversation = self.ask(do, timeout=timeout, **fields)
        try:
            while True:
                next(conversation)
        except StopIteration as end:
            return dict(end.value)

    def send(self, do: str, **fields: Any) -> None:
        """Send a message that has no reply."""
        self._request(do, **fields)

    def put_blobs(self, blobs: Mapping[str, bytes | Path], progress: Callable[[int, int], None] | None = None) -> None:
        """Send those bodies, named by their sha256 (hex), that the host lacks. `progress`: (bytes sent, all bytes)."""
        if not blobs:
            return
        missing = self.call("blobs", sha256=sorted(blobs))["missing"]
        sizes = {name: _size(blobs[name]) for name in missing}
        total, sent = sum(sizes.values()), 0
        for name in missing:
            number = self._request("blob", sha256=name, size=sizes[name])
            before = sent
            for piece in _pieces(blobs[name], sizes[name]):
                self._write(piece)
                sent += len(piece)
                if progress:
                    progress(sent, total)
            if sent - before != sizes[name]:
                self.close()  # the program waits for bytes that do not come
                raise HostFailed(f"{blobs[name]!s} became shorter while it was sent", where=self.name)
            self._answer(number, None)

    def _answer(self, number: int, timeout: float | None) -> dict[str, Any]:
        """The next reply to a request; those to requests that nobody waits for any more are passed over."""
        while True:
            reply = self._read(timeout)
            if reply.get("id") == number:
                if "error" in reply:
                    raise NodeError(str(reply["error"]), where=self.name)
                return reply

    def close(self) -> None:
        self.closed = True
        with contextlib.suppress(Exception):
            self._stream.close()


# What a host's own programs say when the node program cannot even start.
_LAST_WORDS = {
    "a password is required": (
        "sudo asks for a password",
        "tell it with -K, give the user password-less sudo (a Mendel board has it), or log in as root",
    ),
    "is not in the sudoers file": ("the user may not use sudo", "add the user to the group sudo, or log in as root"),
    "sudo: not found": ("there is no sudo on the host", "install it, or log in as root"),
    "sudo: command not found": ("there is no sudo on the host", "install it, or log in as root"),
    "account is currently not available": ("the login user has no shell", "log in as another user (ansible_user)"),
    "No space left on device": (
        "the disk is full: nothing can be written to /var/lib/clusteradm",
        "make room on the host: sudo apt-get clean; sudo journalctl --vacuum-size=20M",
    ),
    "Read-only file system": (
        "the file system is read-only: nothing can be written to /var/lib/clusteradm",
        "see dmesg on the host: a card that fails is remounted so by the kernel",
    ),
}


def _size(body: bytes | Path) -> int:
    return len(body) if isinstance(body, bytes) else body.stat().st_size


def _pieces(body: bytes | Path, size: int) -> Iterator[bytes]:
    """The first `size` bytes in pieces; a file may have grown since."""
    if isinstance(body, bytes):
        yield from (body[start : start + _CHUNK] for start in range(0, size, _CHUNK))
        return
    with body.open("rb") as file:
        while size and (piece := file.read(min(_CHUNK, size))):
            size -= len(piece)
            yield piece
