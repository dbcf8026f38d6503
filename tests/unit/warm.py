"""Python programs that begin with the package imported: forks of one process, which the first of them starts.

The import takes five times as long as most of what tests run. A program gets its own standard streams, environment and
session, and ends as any does, with its exit handlers. Only `clusteradm.cli` it imports itself: that looks at the
terminal while it is imported.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import functools
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import termios
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

IMPORTED = [
    "clusteradm.cli.main",
    "clusteradm.cli.commands",
    "clusteradm.fleet",
    "clusteradm.health.saved",
    "clusteradm.jobs",
    "clusteradm.models",
    "clusteradm.playbook",
    "clusteradm.testing",
    "rich.live",
    "rich.progress",
    "rich.table",
]


class Program:
    """A running program. `pid`: of its process, which leads a session of its own."""

    def __init__(self, pid: int, answer: socket.socket) -> None:
        self.pid = pid
        self._answer = answer
        self._status: int | None = None

    def wait(self, seconds: float) -> int:
        """Its exit status, negative for a signal. Raises subprocess.TimeoutExpired."""
        if self._status is None:
            self._answer.settimeout(seconds)
            try:
                self._status = int(self._answer.recv(20))
            except TimeoutError:
                raise subprocess.TimeoutExpired(str(self.pid), seconds) from None
            self._answer.close()
        return self._status

    def kill(self) -> None:
        """End it, if it has not ended."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def start(words: Sequence[str | Path], streams: tuple[int, int, int], env: Mapping[str, str]) -> Program:
    """Start `python -c CODE ...`, `python -m MODULE ...` or `python FILE ...`. A terminal on stdin is its own."""
    ours, theirs = socket.socketpair()
    with theirs:
        request = {"words": [str(word) for word in words[1:]], "env": dict(env), "folder": str(Path.cwd())}
        data = json.dumps(request).encode()
        fds = array.array("i", [*streams, theirs.fileno()])
        server = _server()
        server.sendmsg([len(data).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        server.sendall(data)
    return Program(int(ours.recv(20)), ours)


@functools.cache
def _server() -> socket.socket:
    """The connection to the process that is forked; it ends with this."""
    ours, theirs = socket.socketpair()
    with theirs:
        number = theirs.fileno()
        subprocess.Popen([sys.executable, __file__, str(number)], pass_fds=[number], start_new_session=True)
    return ours


def _serve(connection: socket.socket) -> dict[str, Any] | None:
    """Fork for each request. Returns the request in the child, None at the end."""
    running: dict[int, tuple[int, socket.socket]] = {}  # pidfd -> process, who wants its status
    while True:
        for ready in select.select([connection, *running], [], [])[0]:
            if isinstance(ready, int):
                pid, answer = running.pop(ready)
                os.close(ready)
                with answer, contextlib.suppress(OSError):
                    answer.sendall(b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                continue
            size, fds, _, _ = socket.recv_fds(connection, 4, 4)
            if not size:
                return None
            request: dict[str, Any] = json.loads(connection.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL))
            pid = os.fork()
            if pid == 0:
                connection.close()
                _become(request, fds)
                return request
            answer = socket.socket(fileno=fds.pop())
            for fd in fds:
                os.close(fd)
            answer.sendall(b"%d" % pid)
            running[os.pidfd_open(pid)] = pid, answer


def _become(request: dict[str, Any], fds: list[int]) -> None:
    """In the child: be a process as the system starts one, with these streams."""
    os.setsid()
    for number, fd in enumerate(fds[:3]):
        os.dup2(fd, number)
    os.closerange(3, max(fds) + 1)
    if os.isatty(0):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["folder"])
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    for name, number, errors in (("stdout", 1, "strict"), ("stderr", 2, "backslashreplace")):
        raw: Any = open(number, "wb", buffering=0 if unbuffered else -1, closefd=False)  # noqa: SIM115
        text = io.TextIOWrapper(
            raw, "utf-8", errors, line_buffering=number == 2 or os.isatty(number), write_through=unbuffered
        )
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115


def _run(words: list[str]) -> None:
    how, *rest = words
    if how == "-m":
        sys.argv, sys.path[0] = rest, ""
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif how == "-c":
        sys.argv, sys.path[0] = ["-c", *rest[1:]], ""
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(rest[0], vars(main))  # noqa: S102
    else:
        sys.argv, sys.path[0] = words, str(Path(how).parent)
        runpy.run_path(how, run_name="__main__")


def _main() -> NoReturn:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a run of tests in the background ignores it
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    for name in IMPORTED:
        __import__(name)
    request = _serve(socket.socket(fileno=int(sys.argv[1])))
    if request:
        _run(request["words"])
    sys.exit(0)


if __name__ == "__main__":
    _main()
