"""Lines and bytes to and from a node program: over an SSH channel, or a local process in tests."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
import time
from collections import deque
from typing import Protocol

import paramiko

_TAIL_LINES = 20
_CHUNK = 1 << 16


class Stream(Protocol):
    """Two-way bytes to a program, and the end of what it said on standard error."""

    def read(self, timeout: float | None) -> bytes:
        """Some bytes; b"" at the end. Raises TimeoutError."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...

    def stderr_tail(self) -> str: ...


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

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._tail = bytearray()

    def _keep_stderr(self) -> None:
        while self._channel.recv_stderr_ready():
            self._tail += self._channel.recv_stderr(_CHUNK)
            del self._tail[:-4096]

    def read(self, timeout: float | None) -> bytes:
        self._channel.settimeout(timeout)
        data = self._channel.recv(_CHUNK)
        self._keep_stderr()
        return data

    def write(self, data: bytes) -> None:
        self._channel.settimeout(None)
        self._channel.sendall(data)

    def close(self) -> None:
        self._channel.close()

    def stderr_tail(self) -> str:
        # At the end of standard output, standard error may still be on its way.
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline and not self._channel.exit_status_ready():
            time.sleep(0.01)
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

    def stderr_tail(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        self._reader.join(0.5)
        return _last_lines(b"".join(self._tail))


def _last_lines(data: bytes) -> str:
    return "\n".join(data.decode("utf-8", "replace").strip().splitlines()[-_TAIL_LINES:])
