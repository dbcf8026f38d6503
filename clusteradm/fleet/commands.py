"""A shell command on many hosts at once: its output by lines as they come, its exit status on each."""

from __future__ import annotations

import errno
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from clusteradm.errors import ClusteradmError, HostFailed, HostUnreachable, UsageError
from clusteradm.inventory import Host
from clusteradm.transport import Connections, Outcome
from clusteradm.transport.stream import Lines, LineTooLong, ShellStream

MOST_LINE = 1 << 20  # bytes
_CHUNK = 1 << 16
# Called with the host and a line of its output, without the line's end, by the thread of that host.
OnLine = Callable[[Host, bytes], None]
_INPUT = "it has to be a file or a pipe that can be read, and is kept in $TMPDIR meanwhile; -n: no input"


class Incomplete(OSError):
    """Standard input could not be read, or kept, to its end."""


class Source:
    """A file or pipe that is read once, for many readers, each at its own pace, by way of a temporary file.

    `broken`: why it is not complete; "" where it is, or may be yet.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Raises UsageError where there is no folder for a temporary file."""
        self._file = file
        self.broken = ""
        try:
            self._spool = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - as long as somebody reads
        except OSError as error:
            raise UsageError(f"standard input cannot be kept: {error.strerror}", next_step=_INPUT) from None
        self._size = 0
        self._ended = False
        self._changed = threading.Condition()
        threading.Thread(target=self._read, name="clusteradm-input", daemon=True).start()

    def _read(self) -> None:
        try:
            while chunk := os.read(self._file.fileno(), _CHUNK):
                left = chunk
                while left:  # a disk takes what it has room for
                    left = left[self._spool.write(left) :]
                with self._changed:
                    self._size += len(chunk)
                    self._changed.notify_all()
        except OSError as error:
            if error.errno != errno.EBADF:  # it is not open for reading, as nohup leaves it: there is none
                self.broken = error.strerror or str(error)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def chunks(self) -> Iterator[bytes]:
        """All of it from the start, as it comes. Raises Incomplete at the end of one that is not complete."""
        place = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._size > place)  # noqa: B023 - called at once
                left = self._size - place
            if not left and self.broken:
                raise Incomplete(self.broken)
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
        end = math.inf if timeout is None else time.monotonic() + timeout
        try:
            threading.Thread(target=_feed, args=(stream, source), daemon=True).start()
            for line in _lines(host, stream, end):
                on_line(host, line)
            return _status(host, stream, on_line, end)
        except TimeoutError:
            raise HostFailed(f"the command did not end within {timeout:g} s", where=host.name) from None
        except ClusteradmError:
            if source is None or not source.broken:
                raise
            raise HostFailed(
                f"its standard input is not complete: {source.broken}", where=host.name, next_step=_INPUT
            ) from None
        finally:
            stream.close()

    return connections.each(hosts, work, on_done)


def _feed(stream: ShellStream, source: Source | None) -> None:
    try:
        for chunk in source.chunks() if source is not None else ():
            stream.write(chunk, patient=True)
    except Incomplete:
        stream.close()  # its end is not to be taken for the end of the input
    except OSError:
        return  # the command has ended, or closed its input; or the host is gone, which shows where its output is read
    else:
        stream.end_input()


def _lines(host: Host, stream: ShellStream, end: float) -> Iterator[bytes]:
    """Its output up to the moment `end`, also what has come of a line that is not complete then.

    Raises TimeoutError, HostFailed, HostUnreachable.
    """
    lines = Lines(stream, MOST_LINE)
    failure: Exception | None = None
    while failure is None:
        try:
            line = lines.read(_left(end))
        except LineTooLong as error:
            raise HostFailed(
                f"a line of more than {error.most >> 10} KiB",
                where=host.name,
                next_step="write the output to a file there",
            ) from None
        except TimeoutError as error:
            failure = error
        except OSError as error:
            failure = HostUnreachable(f"connection lost: {error}", where=host.name)
        else:
            if line is None:
                break
            yield line
    if lines.rest:
        yield lines.rest
    if failure is not None:
        raise failure


def _left(end: float) -> float | None:
    return None if math.isinf(end) else end - time.monotonic()


def _status(host: Host, stream: ShellStream, on_line: OnLine, end: float) -> int:
    """Its exit status, which may be long after its output. Raises TimeoutError, HostFailed."""
    status = stream.exit_status(_left(end))
    if status is None and time.monotonic() >= end:
        raise TimeoutError
    # What sudo says, and the shell before the command begins.
    for line in stream.stderr_tail().splitlines():
        on_line(host, line.encode())
    if status is None:
        raise HostFailed("a signal ended the command, or its connection was lost", where=host.name)
    return status
