"""A shell command on many hosts at once: its output by lines as they come, its exit status on each."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from clusteradm.errors import HostFailed, HostUnreachable
from clusteradm.inventory import Host
from clusteradm.transport import Connections, Outcome
from clusteradm.transport.stream import Lines, LineTooLong, ShellStream

MOST_LINE = 1 << 20  # bytes
_CHUNK = 1 << 16
# Called with the host and a line of its output, without the line's end, by the thread of that host.
OnLine = Callable[[Host, bytes], None]


class Source:
    """A file or pipe that is read once, for many readers, each at its own pace, by way of a temporary file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._spool = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - as long as somebody reads
        self._size = 0
        self._ended = False
        self._changed = threading.Condition()
        threading.Thread(target=self._read, name="clusteradm-input", daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while chunk := os.read(self._file.fileno(), _CHUNK):
                self._spool.write(chunk)
                with self._changed:
                    self._size += len(chunk)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def chunks(self) -> Iterator[bytes]:
        """All of it from the start, as it comes."""
        place = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._size > place)  # noqa: B023 - called at once
                left = self._size - place
            if not left:
                return
            chunk = os.pread(self._spool.fileno(), min(left, _CHUNK), place)
            place += len(chunk)
            yield chunk


def run(
    connections: Connections,
    hosts: Iterable[Host],
    command: str,
    on_line: OnLine,
    *,
    sudo: bool = False,
    timeout: float | None = None,
    source: Source | None = None,
    on_done: Callable[[Host], None] | None = None,
) -> Outcome[int]:
    """Run the command by `sh` on every host; the exit status of each, or an error.

    Standard error goes with standard output, in the order in which they come. `sudo`: as root. `timeout`: seconds until
    the command is given up. `source`: standard input, the same for each. Where a command is given up, or Ctrl-C ends
    this program, it ends on the host when it next writes.
    """

    def work(host: Host) -> int:
        stream = connections.shell(host, f"exec 2>&1\n{command}", sudo=sudo)
        try:
            threading.Thread(target=_feed, args=(stream, source), daemon=True).start()
            _read(host, stream, on_line, timeout)
            return _status(host, stream, on_line)
        finally:
            stream.close()

    return connections.each(hosts, work, on_done)


def _feed(stream: ShellStream, source: Source | None) -> None:
    try:
        for chunk in source.chunks() if source is not None else ():
            stream.write(chunk, patient=True)
    except OSError:
        return  # the command has ended, or closed its input; or the host is gone, which shows where its output is read
    stream.end_input()


def _read(host: Host, stream: ShellStream, on_line: OnLine, timeout: float | None) -> None:
    lines = Lines(stream, MOST_LINE)
    end = None if timeout is None else time.monotonic() + timeout
    try:
        while (line := lines.read(None if end is None else end - time.monotonic())) is not None:
            on_line(host, line)
    except TimeoutError:
        raise HostFailed(f"the command did not end within {timeout:g} s", where=host.name) from None
    except LineTooLong as error:
        raise HostFailed(
            f"a line of more than {error.most >> 10} KiB", where=host.name, next_step="write the output to a file there"
        ) from None
    except OSError as error:
        raise HostUnreachable(f"connection lost: {error}", where=host.name) from None
    if lines.rest:
        on_line(host, lines.rest)


def _status(host: Host, stream: ShellStream, on_line: OnLine) -> int:
    status = stream.exit_status()
    # What sudo says, and the shell before the command begins.
    for line in stream.stderr_tail().splitlines():
        on_line(host, line.encode())
    if status is None:
        raise HostFailed("a signal ended the command, or its connection was lost", where=host.name)
    return status
