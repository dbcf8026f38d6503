"""Byte streams to and from a program: over an SSH channel, or to a process of this machine."""

from __future__ import annotations

import contextlib
import math
import os
import select
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import paramiko

# Bytes of a line. The longest honest one is the result of a task with a large output.
MOST_LINE = 1 << 24
# Longest time for what is written at once, which is no more than a few hundred KiB.
WRITE_SECONDS = 60.0
_TAIL_LINES = 20
_TAIL_BYTES = 4096
_CHUNK = 1 << 16
# Chunks of standard error that are read along at a time: a flood of it must not keep standard output waiting.
_MOST_CHUNKS = 16
# Longest wait before it is checked whether the host is still there.
_SLICE = 1.0
# From the end of a program's output, which it may close long before it ends, to its exit status.
EXIT_SECONDS = 2.0


class LineTooLong(ConnectionError):
    """A line longer than its limit, after which nothing of the stream is understood. `most`: the limit, in bytes."""

    def __init__(self, most: int) -> None:
        super().__init__(f"a line of more than {most} bytes")
        self.most = most


class Stream(Protocol):
    """Standard streams of a program, and its exit status."""

    def read(self, timeout: float | None) -> bytes:
        """Some bytes; b"" at the end. Raises TimeoutError, or another OSError if the connection is lost."""

    def write(self, data: bytes, patient: bool = False) -> None:
        """Write all of the data. Raises TimeoutError if it is not taken within WRITE_SECONDS, or another OSError.

        Then part of it may be written. `patient`: as long as the program lives and the host answers.
        """

    def end_input(self) -> None:
        """Close its standard input."""

    def close(self) -> None: ...

    def stderr_tail(self) -> str:
        """The last lines of its standard error."""

    def exit_status(self) -> int | None:
        """The program's exit status; None if a signal ended it or the connection was lost."""


class ShellStream(Stream, Protocol):
    """Standard streams of a shell command on a host."""

    def stderr_until(self, signs: Sequence[bytes], timeout: float) -> bytes | None:
        """Read standard error up to the first of the signs and return it; None at the end of the stream.

        What stands before the sign is dropped. Raises TimeoutError, and ConnectionError if the host is gone.
        """

    def exit_status(self, within: float | None = EXIT_SECONDS) -> int | None:
        """As Stream's, waited for that many seconds; None: as long as the program runs and the host answers."""


class Lines:
    """Splits a stream into lines. `most`: limit of their length, in bytes."""

    def __init__(self, stream: Stream, most: int = MOST_LINE) -> None:
        self.most = most
        self._stream = stream
        self._buffer = bytearray()

    @property
    def rest(self) -> bytes:
        """What has come of a line that is not complete."""
        return bytes(self._buffer)

    def read(self, timeout: float | None) -> bytes | None:
        """One line without its end; None at the end of the stream.

        Raises TimeoutError where the line is not complete after `timeout` seconds, however much of it came, and
        LineTooLong where it is too long.
        """
        if timeout is not None and timeout < 0:  # the caller's limit is over, even if lines never cease to come
            raise TimeoutError
        deadline = None if timeout is None else time.monotonic() + timeout
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            if start > self.most:
                raise LineTooLong(self.most)
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0 and start:
                raise TimeoutError
            data = self._stream.read(None if left is None else max(0.0, left))
            if not data:
                return None
            self._buffer += data
        if end > self.most:
            raise LineTooLong(self.most)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line


class _Tail:
    """The last bytes of a program's standard error."""

    def __init__(self) -> None:
        self._data = b""

    def add(self, data: bytes) -> None:
        self._data = (self._data + data)[-_TAIL_BYTES:]

    def take_after(self, sign: bytes) -> bool:
        """Whether the sign is there; it and what stands before it are dropped."""
        before, found, after = self._data.partition(sign)
        self._data = after if found else before
        return bool(found)

    def __str__(self) -> str:
        return "\n".join(self._data.decode("utf-8", "replace").strip().splitlines()[-_TAIL_LINES:])


class ChannelStream:
    """An SSH channel that runs a command."""

    def __init__(self, channel: paramiko.Channel, alive: Callable[[], bool]) -> None:
        """`alive`: whether the host still answers; asked whenever no data arrives."""
        self._channel = channel
        self._alive = alive
        self._tail = _Tail()
        self._channel.settimeout(_SLICE)

    def _keep_stderr(self) -> None:
        # Standard error is read along, because a full buffer would block the program.
        for _ in range(_MOST_CHUNKS):
            if not self._channel.recv_stderr_ready():
                return
            self._tail.add(self._channel.recv_stderr(_CHUNK))

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
                if self._tail.take_after(sign):
                    return sign
            if time.monotonic() >= deadline:
                raise TimeoutError
            self._channel.settimeout(_SLICE)
            try:
                # No more at once than the tail keeps beside the end of a sign that came in part.
                data = self._channel.recv_stderr(_TAIL_BYTES // 2)
            except TimeoutError:
                self._check()
                continue
            if not data:
                return None
            self._tail.add(data)

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

    def write(self, data: bytes, patient: bool = False) -> None:
        deadline = None if patient else time.monotonic() + WRITE_SECONDS
        start = 0
        while start < len(data):
            try:
                start += self._channel.send(data[start : start + _CHUNK])
            except TimeoutError:
                self._check()
            except (EOFError, paramiko.SSHException) as error:
                raise ConnectionError(str(error)) from error
            if start < len(data) and deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError

    def end_input(self) -> None:
        with contextlib.suppress(OSError, EOFError):  # it has ended
            self._channel.shutdown_write()

    def close(self) -> None:
        self._channel.close()

    def exit_status(self, within: float | None = EXIT_SECONDS) -> int | None:
        # It never arrives from a host that is gone.
        deadline = math.inf if within is None else time.monotonic() + within
        while (left := deadline - time.monotonic()) > 0 and self._alive():
            if self._channel.status_event.wait(min(left, _SLICE)):
                break
        status: int = self._channel.exit_status
        return status if status >= 0 else None

    def stderr_tail(self) -> str:
        self.exit_status()
        self._keep_stderr()
        return str(self._tail)


@contextlib.contextmanager
def _closed_is_lost() -> Iterator[None]:
    """ConnectionError where another thread has closed the file: Python raises ValueError."""
    try:
        yield
    except ValueError as error:
        raise ConnectionError(str(error)) from error


class ProcessStream:
    """A process of this machine."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("all three streams of the process must be pipes")
        self._process = process
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        os.set_blocking(self._stdin.fileno(), False)
        self._tail = _Tail()
        self._heard = threading.Condition()
        self._silent = False
        self._reader = threading.Thread(target=self._keep_stderr, daemon=True)
        self._reader.start()

    def _keep_stderr(self) -> None:
        while data := os.read(self._stderr.fileno(), _TAIL_BYTES // 2):
            with self._heard:
                self._tail.add(data)
                self._heard.notify_all()
        with self._heard:
            self._silent = True
            self._heard.notify_all()
        self._stderr.close()

    def stderr_until(self, signs: Sequence[bytes], timeout: float) -> bytes | None:
        """As ShellStream's."""
        deadline = time.monotonic() + timeout
        with self._heard:
            while True:
                for sign in signs:
                    if self._tail.take_after(sign):
                        return sign
                if self._silent:
                    return None
                if time.monotonic() >= deadline:
                    raise TimeoutError
                self._heard.wait(deadline - time.monotonic())

    def read(self, timeout: float | None) -> bytes:
        with _closed_is_lost():
            if timeout is not None and not select.select([self._stdout], [], [], timeout)[0]:
                raise TimeoutError
            return os.read(self._stdout.fileno(), _CHUNK)

    def write(self, data: bytes, patient: bool = False) -> None:
        deadline = None if patient else time.monotonic() + WRITE_SECONDS
        with _closed_is_lost():
            while data:
                left = _SLICE if deadline is None else min(_SLICE, max(0.0, deadline - time.monotonic()))
                if select.select([], [self._stdin], [], left)[1]:
                    data = data[os.write(self._stdin.fileno(), data) :]
                elif deadline is not None and time.monotonic() >= deadline:
                    raise TimeoutError

    def end_input(self) -> None:
        with contextlib.suppress(OSError):
            self._stdin.close()

    def close(self) -> None:
        """End the process. One of root's, by sudo, takes no signal: it ends with its input."""
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        with contextlib.suppress(PermissionError):
            self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_SECONDS)
        self._reader.join(EXIT_SECONDS)

    def exit_status(self, within: float | None = EXIT_SECONDS) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self._process.wait(within)
            return status if status >= 0 else None
        return None

    def stderr_tail(self) -> str:
        self.exit_status()
        self._reader.join(EXIT_SECONDS)
        with self._heard:
            return str(self._tail)
