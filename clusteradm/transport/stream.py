"""Byte streams to and from a program: over an SSH channel, or to a local process in tests."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import paramiko

_TAIL_LINES = 20
_TAIL_BYTES = 4096
_CHUNK = 1 << 16
# Longest wait before it is checked whether the host is still there.
_SLICE = 1.0
_EXIT_SECONDS = 2.0


class Stream(Protocol):
    """Standard streams of a program, and its exit status."""

    def read(self, timeout: float | None) -> bytes:
        """Some bytes; b"" at the end. Raises TimeoutError, or another OSError if the connection is lost."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...

    def stderr_tail(self) -> str:
        """The last lines of its standard error."""

    def exit_status(self) -> int | None:
        """The program's exit status; None if a signal ended it or the connection was lost."""


class Lines:
    """Splits a stream into lines."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    def read(self, timeout: float | None) -> bytes:
        """One line without its end; b"" at the end of the stream. Raises TimeoutError after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            data = self._stream.read(left)
            if not data:
                return b""
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line


class ChannelStream:
    """An SSH channel that runs a command."""

    def __init__(self, channel: paramiko.Channel, alive: Callable[[], bool]) -> None:
        """`alive`: whether the host still answers; asked whenever no data arrives."""
        self._channel = channel
        self._alive = alive
        self._tail = bytearray()
        self._channel.settimeout(_SLICE)

    def _keep_stderr(self) -> None:
        # Standard error is read along, because a full buffer would block the program.
        while self._channel.recv_stderr_ready():
            self._tail += self._channel.recv_stderr(_CHUNK)
            del self._tail[:-_TAIL_BYTES]

    def _check(self) -> None:
        if not self._alive():
            raise ConnectionError("the host stopped answering")

    def stderr_until(self, signs: Sequence[bytes], timeout: float) -> bytes | None:
        """Read standard error up to the first of the signs and return it; None at the end of the stream.

        What stands before the sign is dropped. Raises TimeoutError, and ConnectionError if the host is gone.
        """
        deadline = time.monotonic() + timeout
        while True:
            for sign in signs:
                _, found, after = self._tail.partition(sign)
                if found:
                    self._tail = after
                    return sign
            self._channel.settimeout(_SLICE)
            try:
                data = self._channel.recv_stderr(_CHUNK)
            except TimeoutError:
                self._check()
                if time.monotonic() >= deadline:
                    raise
                continue
            if not data:
                return None
            self._tail += data

    def read(self, timeout: float | None) -> bytes:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _SLICE if deadline is None else min(_SLICE, deadline - time.monotonic())
            # Reader and writer share the channel's one timeout; the writer retries, however short it is.
            self._channel.settimeout(max(left, 0.01))
            try:
                data: bytes = self._channel.recv(_CHUNK)
            except TimeoutError:
                self._keep_stderr()
                self._check()
                if deadline is not None and time.monotonic() >= deadline:
                    raise
            else:
                self._keep_stderr()
                return data

    def write(self, data: bytes) -> None:
        start = 0
        while start < len(data):
            try:
                start += self._channel.send(data[start : start + _CHUNK])
            except TimeoutError:
                self._check()

    def close(self) -> None:
        self._channel.close()

    def exit_status(self) -> int | None:
        # The status arrives shortly after the end of standard output, but never from a host that is gone.
        deadline = time.monotonic() + _EXIT_SECONDS
        while not self._channel.exit_status_ready() and time.monotonic() < deadline and self._alive():
            time.sleep(0.01)
        status: int = self._channel.exit_status
        return status if status >= 0 else None

    def stderr_tail(self) -> str:
        self.exit_status()
        self._keep_stderr()
        return _last_lines(bytes(self._tail))


class ProcessStream:
    """A local process: the node program of a test."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("all three streams of the process must be pipes")
        self._process = process
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        self._tail: deque[bytes] = deque(maxlen=_TAIL_LINES)
        self._reader = threading.Thread(target=self._keep_stderr, daemon=True)
        self._reader.start()

    def _keep_stderr(self) -> None:
        for line in self._stderr:
            self._tail.append(line)

    def read(self, timeout: float | None) -> bytes:
        if timeout is not None and not select.select([self._stdout], [], [], timeout)[0]:
            raise TimeoutError
        return os.read(self._stdout.fileno(), _CHUNK)

    def write(self, data: bytes) -> None:
        self._stdin.write(data)
        self._stdin.flush()

    def close(self) -> None:
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        self._process.terminate()
        self._process.wait()
        self._reader.join(1)
        self._stderr.close()

    def exit_status(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self._process.wait(_EXIT_SECONDS)
            return status if status >= 0 else None
        return None

    def stderr_tail(self) -> str:
        self.exit_status()
        self._reader.join(_EXIT_SECONDS)
        return _last_lines(b"".join(self._tail))


def _last_lines(data: bytes) -> str:
    return "\n".join(data.decode("utf-8", "replace").strip().splitlines()[-_TAIL_LINES:])
