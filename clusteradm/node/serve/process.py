"""Processes of a board's server as the supervisor starts them: module, spec, a socket for lines, the last words."""

import asyncio
import collections
import contextlib
import json
import os
import signal
import socket
import sys
from typing import Any, Deque, Dict, Sequence

from clusteradm.node import child
from clusteradm.node.serve.lines import MOST_LINE, Lines

_LAST_LINES = 5
_MOST_LINE = 500
_LOOK_SECONDS = 0.5


class Process:
    """A running process. `lines`: the conversation with it."""

    def __init__(self, process: asyncio.subprocess.Process, lines: Lines) -> None:
        self._process, self.lines = process, lines
        self._over = False
        self._last: Deque[str] = collections.deque(maxlen=_LAST_LINES)
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def start(cls, module: str, spec: Dict[str, Any], descriptors: Sequence[int] = ()) -> "Process":
        """Start `module` of node/serve with this spec, to which the descriptor of its socket is added."""
        ours, theirs = socket.socketpair()
        try:
            command = child.command(sys.executable, "serve." + module, json.dumps(dict(spec, control=theirs.fileno())))
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(theirs.fileno(), *descriptors),
                env=environment(),
                start_new_session=True,
            )
        finally:
            theirs.close()
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=MOST_LINE)
        return cls(process, Lines(reader, writer))

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """End it at once."""
        if self._process.returncode is None:
            kill_all(self._process.pid)

    async def ended(self) -> str:
        """Wait for its end; how it ended, in words."""
        waiting = asyncio.ensure_future(self._process.wait())
        # Which goes on while something that it has started has its standard error.
        while self._process.returncode is None:
            await asyncio.wait([waiting], timeout=_LOOK_SECONDS)
        waiting.cancel()
        status = self._process.returncode
        if not self._over:
            self._over = True
            kill_all(self._process.pid)
        with contextlib.suppress(asyncio.TimeoutError):  # what it started may have its standard error still
            await asyncio.wait_for(asyncio.shield(self._reading), 1.0)
        self.lines.close()
        if status < 0:
            how = "its process was ended by %s" % killer(status)
        else:
            how = "its process ended with status %d" % status
        last = next((line for line in reversed(self._last) if line.strip() and not line.startswith("INFO")), "")
        return "%s: %s" % (how, last) if last else how

    async def _read(self) -> None:
        """Pass on what it writes to standard error, and keep the last lines."""
        stream = self._process.stderr
        while stream is not None:
            try:
                line = await stream.readline()
            except ValueError:  # longer than the buffer, which is thrown away
                continue
            if not line:
                return
            text = line.decode("utf-8", "replace").rstrip()[:_MOST_LINE]
            self._last.append(text)
            sys.stderr.write(text + "\n")
            sys.stderr.flush()


def kill_all(leader: int) -> None:
    """End a process that leads a session, with what it has started: that has its sockets, and whoever waits for an
    answer would wait on. Not by asyncio's own method, which asks how the process ended, and takes that from asyncio."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def killer(status: int) -> str:
    """The signal that has ended a process with this status, below 0."""
    names = {number.value: number.name for number in signal.Signals}
    return names.get(-status, "signal %d" % -status)


def environment() -> Dict[str, str]:
    """Without threads of NumPy's own, which spin when they start; and gRPC reads a socket in the thread that waits for
    it: newer versions hand each read to other threads, which costs a tenth of a request's processor time."""
    return dict(child.environment(), OPENBLAS_NUM_THREADS="1", GRPC_EXPERIMENTS="-event_engine_listener")
