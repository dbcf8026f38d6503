"""The conversation with the node program on one host: JSON lines both ways over one channel."""

from __future__ import annotations

import contextlib
import itertools
import json
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from clusteradm.errors import HostFailed, HostUnreachable
from clusteradm.node.spec.wire.decode import WireError, decode, loads
from clusteradm.node.spec.wire.node import FindBlobs, PutBlob
from clusteradm.node.spec.wire.request import Request, Streaming
from clusteradm.transport.become import Shells, as_root
from clusteradm.transport.bundle import LAUNCHER, START, archive, digest
from clusteradm.transport.limits import Limits
from clusteradm.transport.password import Password
from clusteradm.transport.python import NoPython
from clusteradm.transport.stream import MOST_LINE, Lines, LineTooLong, ProcessStream, Stream

_CHUNK = 1 << 18
# The most bytes of a body that are sent before the host says that it has them.
MOST_PART = 8 << 20
# A login may print a greeting; a program that prints more than this is not the node program.
_NOISE_LINES = 100
_NOISE_LINE = 1 << 16  # bytes
_LARGE = 1 << 18  # bytes of an answer that only the output of a task makes so long
_ERROR_TEXT = 4000  # characters
# Replies to earlier requests that are passed over, and replies to one request.
_STALE_REPLIES = 10_000
_MOST_REPLIES = 1_000_000
# Seconds for the reply to a request, unless its caller says otherwise: storage of a board may take minutes.
REPLY_TIMEOUT = 900.0
_NOT_OURS = "another program answers there: check ansible_python_interpreter, and what the login's start-up files print"
_TOO_LARGE = (
    f"if a task has an output that large, have it written to a file on the host (COMMAND > FILE); else {_NOT_OURS}"
)
_START = "see what the login's start-up files on it (~/.bashrc) print and wait for"
# The next step with a host that is there, and does not answer.
BUSY = "it is busy, or hangs: see what keeps it busy (top), by ssh or on its console; else switch it off and on"

P = TypeVar("P")
R = TypeVar("R")
T = TypeVar("T")


class NodeError(HostFailed):
    """The node program answered a request with an error."""


class Silent(HostUnreachable):
    """The connection holds, but no reply came in time."""


class Node:
    """Conversation with the node program: typed requests out, typed replies back.

    What the program sends is not trusted: a reply that does not fit its type is HostFailed, of this host alone.
    Replies come in the order of the requests, so one thread asks at a time; any thread may `send`.
    """

    def __init__(self, name: str, stream: Stream) -> None:
        self.name = name
        self._stream = stream
        self._lines = Lines(stream, MOST_LINE)
        self._numbers = itertools.count(1)
        self._writing = threading.Lock()
        self.closed = False

    @classmethod
    def over_ssh(
        cls,
        name: str,
        connection: Shells,
        python: str,
        password: Password | None = None,
        timeout: float = Limits.start,
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
        """The node program as a process of this machine, run by the present user."""
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
        """Wait until the launcher has the package, sending it if need be. `timeout`: seconds for each of the steps."""
        self._lines.most = _NOISE_LINE
        if self._greeting(timeout) == "need":
            data = archive()
            self._write(struct.pack(">Q", len(data)) + data)
            if self._greeting(timeout) == "need":
                raise self._broken("its launcher asks for the node program again, after it was sent")
        self._lines.most = MOST_LINE

    def _greeting(self, timeout: float) -> str:
        """The launcher's answer, "need" or "have". What a login's start-up files print before it is passed over."""
        deadline = time.monotonic() + timeout
        noise: list[str] = []
        for _ in range(2 * _NOISE_LINES):  # half of them may be empty
            try:
                line = self._line(deadline - time.monotonic(), noise)
            except Silent:
                noise += filter(None, [_excerpt(self._lines.rest).strip()])
                said = f"; it printed: {noise[-1]}" if noise else ""
                raise Silent(
                    f"the node program did not start within {timeout:.0f} s{said}",
                    where=self.name,
                    next_step=_START if noise else BUSY,
                ) from None
            with contextlib.suppress(WireError):
                reply = loads(line)
                for word in ("need", "have"):
                    if isinstance(reply, dict) and reply.get(word) == digest():
                        return word
            if line.strip():
                noise.append(_excerpt(line))
            if len(noise) > _NOISE_LINES:
                break
        raise HostFailed(
            f"the node program did not start; instead: {noise[0] if noise else 'empty lines'} ...",
            where=self.name,
            next_step=_NOT_OURS,
        )

    def _request(self, request: Request[Any]) -> int:
        number = next(self._numbers)
        fields = {"do": request.do, "id": number, **vars(request)}
        self._write(json.dumps(fields, default=vars).encode() + b"\n")
        return number

    def _write(self, data: bytes) -> None:
        try:
            with self._writing:
                for start in range(0, len(data), _CHUNK):
                    self._stream.write(data[start : start + _CHUNK])
        except TimeoutError:
            self.close()  # half a message was sent
            raise Silent("it takes nothing of what is sent to it", where=self.name, next_step=BUSY) from None
        except OSError as error:
            raise self._lost(str(error)) from None

    def _line(self, timeout: float, noise: Sequence[str] = ()) -> bytes:
        try:
            line = self._lines.read(timeout)
        except TimeoutError:
            raise Silent(f"no answer within {max(timeout, 0):.0f} s", where=self.name, next_step=BUSY) from None
        except LineTooLong as error:
            what = f"its answer has a line of more than {error.most >> 10} KiB"
            raise self._broken(what, _TOO_LARGE if error.most == MOST_LINE else _NOT_OURS) from None
        except OSError as error:
            raise self._lost(str(error), noise) from None
        if line is None:
            raise self._lost("", noise)
        return line

    def _read(self, timeout: float) -> dict[str, Any]:
        line = self._line(timeout)
        try:
            reply = loads(line)
        except WireError as error:
            next_step = _TOO_LARGE if len(line) > _LARGE else _NOT_OURS
            what = f"unexpected output of the node program ({error}): {_excerpt(line)}"
            raise self._broken(what, next_step) from None
        if not isinstance(reply, dict):
            raise self._broken(f"unexpected output of the node program: {_excerpt(line)}")
        return reply

    def _broken(self, what: str, next_step: str = _NOT_OURS) -> HostFailed:
        """The error of a conversation that cannot go on, because what came is no part of it."""
        self.close()
        return HostFailed(what, where=self.name, next_step=next_step)

    def _lost(self, reason: str, noise: Sequence[str] = ()) -> HostFailed | HostUnreachable:
        """The error of an ended conversation: the end of the program's standard error, or a lost connection.

        Text on standard error alone proves neither: sudo warns of a host name that it cannot resolve.
        """
        self.closed = True
        status = self._stream.exit_status()
        if status is None:
            return HostUnreachable(f"connection lost{': ' + reason if reason else ''}", where=self.name)
        words = "\n".join([*noise, self._stream.stderr_tail()]).strip()
        for sign, (what, next_step) in _START_FAILURES.items():
            if sign in words:
                return HostFailed(what, where=self.name, next_step=next_step)
        # 127: the status of a shell that finds no such program; sudo prints a message instead.
        if status == 127 or "not found" in words:
            return NoPython(self.name)
        return HostFailed(
            f"the node program ended with status {status}{': ' + words if words else ''}", where=self.name
        )

    def ask(self, request: Streaming[P, R], *, timeout: float = REPLY_TIMEOUT) -> Generator[P, None, R]:
        """Send a request; yield its replies as they come, and return the final one.

        `timeout`: seconds without a whole reply to it. Raises NodeError where the program answers with an error,
        HostFailed where an answer does not fit its type, Silent, HostUnreachable where the connection is lost.
        """
        number = self._request(request)
        for _ in range(_MOST_REPLIES):
            reply = self._answer(number, timeout)
            if _is_last(reply):
                return self._decoded(request, request.reply_type(), reply)
            yield self._decoded(request, request.part_type(), reply)
        raise self._broken(f"more than {_MOST_REPLIES} replies to {request.do}")

    def call(self, request: Request[R], *, timeout: float = REPLY_TIMEOUT) -> R:
        """Send a request and return its one reply. `timeout`: seconds from the request on; errors as for `ask`."""
        number = self._request(request)
        reply = self._answer(number, timeout)
        if not _is_last(reply):
            raise self._broken(f"its reply to {request.do} is not as agreed: it is not the last")
        return self._decoded(request, request.reply_type(), reply)

    def send(self, request: Request[Any]) -> None:
        """Send a message that has no reply."""
        self._request(request)

    def _decoded(self, request: Request[Any], kind: type[T], reply: dict[str, Any]) -> T:
        try:
            return decode(kind, reply)
        except WireError as error:
            raise HostFailed(f"its reply to {request.do} is not as agreed: {error}", where=self.name) from None

    def put_blobs(self, blobs: Mapping[str, bytes | Path], progress: Callable[[int, int], None] | None = None) -> None:
        """Send those bodies, named by their sha256 (hex), that the host lacks. `progress`: (bytes sent, all bytes).

        Large ones go in chunks. After a lost connection, the next call goes on with what has not come.
        """
        if not blobs:
            return
        found = self.call(FindBlobs(tuple(sorted(blobs))))
        sizes = {name: _size(body) for name, body in blobs.items() if name in found.missing}
        total, sent = sum(sizes.values()), 0
        for name, size in sizes.items():
            begun = found.begun.get(name, 0)
            offset = begun if size > MOST_PART and 0 < begun < size else 0
            sent += offset
            while True:
                part = min(MOST_PART, size - offset)
                number = self._request(PutBlob(name, part, offset, size))
                for piece in _pieces(blobs[name], offset, part):
                    self._write(piece)
                    offset, part, sent = offset + len(piece), part - len(piece), sent + len(piece)
                    if progress:
                        progress(sent, total)
                if part:
                    self.close()  # the program waits for bytes that do not come
                    raise HostFailed(f"{blobs[name]!s} became shorter while it was sent", where=self.name)
                self._answer(number, REPLY_TIMEOUT)
                if offset >= size:
                    break

    def _answer(self, number: int, timeout: float) -> dict[str, Any]:
        """The next reply to a request; those to earlier ones, for which nobody waits any more, are passed over."""
        deadline = time.monotonic() + timeout
        for _ in range(_STALE_REPLIES):
            try:
                reply = self._read(deadline - time.monotonic())
            except Silent:
                raise Silent(f"no answer within {timeout:.0f} s", where=self.name, next_step=BUSY) from None
            about = reply.get("id")
            if about == number and type(about) is int:
                if "error" in reply:
                    what = _readable(reply["error"])
                    next_step = next((step for sign, step in _DISK_FAILURES.items() if sign in what), "")
                    raise NodeError(what, where=self.name, next_step=next_step)
                return reply
            if type(about) is not int or not 0 < about < number:
                raise self._broken(f"it answers a request that was not made: {ascii(about)[:60]}")
        raise self._broken(f"more than {_STALE_REPLIES} answers to requests that had theirs")

    def close(self) -> None:
        self.closed = True
        with contextlib.suppress(Exception):
            self._stream.close()


# Messages of a host's own programs where the node program cannot start -> the error and its next step.
_START_FAILURES = {
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
# The system's words for a disk that takes nothing -> what to do.
_DISK_FAILURES = {
    "No space left on device": "make room there (df -h on the host shows what is full), and run the command again",
    "Disk quota exceeded": "make room there (quota on the host shows how much there may be), and run the command again",
    "Read-only file system": _START_FAILURES["Read-only file system"][1],
}


def _is_last(reply: dict[str, Any]) -> bool:
    return reply.get("done") is True


def _readable(error: object) -> str:
    """The program's error as text that can be shown: bounded, and without halves of characters."""
    text = error if isinstance(error, str) else "an error that is no text"
    return text[:_ERROR_TEXT].encode("utf-8", "replace").decode("utf-8")


def _excerpt(line: bytes) -> str:
    return line[:200].decode("utf-8", "replace")


def _size(body: bytes | Path) -> int:
    return len(body) if isinstance(body, bytes) else body.stat().st_size


def _pieces(body: bytes | Path, offset: int, size: int) -> Iterator[bytes]:
    """`size` bytes from `offset` on, in pieces; a file may have grown since."""
    if isinstance(body, bytes):
        end = offset + size
        yield from (body[start : min(start + _CHUNK, end)] for start in range(offset, end, _CHUNK))
        return
    with body.open("rb") as file:
        file.seek(offset)
        while size and (piece := file.read(min(_CHUNK, size))):
            size -= len(piece)
            yield piece
