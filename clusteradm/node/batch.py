"""A batch of tasks, run detached from the login that brought it.

A batch belongs to the node, not to the connection: it runs in a process of its own session, and its events go to a log
that only root can read or write. Whoever connects later takes the events up at the last number. One batch runs at a
time; the next waits for its end.
"""

import fcntl
import importlib
import json
import os
import re
import shutil
import signal
import sys
from typing import Any, Dict, List, Optional

from clusteradm.node.runner import Runner
from clusteradm.node.state import boot_id, owners, private

_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}\Z")
_KEEP = 20


class BatchError(Exception):
    """A request about a batch that cannot be met; the text says why."""


class Log:
    """Events of a batch, as they come. `wakeup`: a pipe, readable after each event, if this process began the batch."""

    def __init__(self, batch: str, wakeup: Optional[int] = None) -> None:
        self.batch = batch
        self.wakeup = wakeup
        self._directory = os.path.join(private("batches"), batch)
        self._file = open(os.path.join(self._directory, "events.jsonl"), "rb")  # noqa: SIM115 - closed by __exit__
        self._rest = b""
        self._last = 0
        self._crashed = False

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()
        if self.wakeup is not None:
            os.close(self.wakeup)

    @property
    def poll_seconds(self) -> float:
        """Time after which to read again without a wakeup: long with the pipe, which only a crash leaves silent."""
        return 1.0 if self.wakeup is not None else 0.05

    def clear_wakeup(self) -> None:
        """Empty the pipe; close it when its runner has ended."""
        if self.wakeup is not None and not os.read(self.wakeup, 1 << 12):
            os.close(self.wakeup)
            self.wakeup = None

    def read(self) -> List[Dict[str, Any]]:
        """The events since the last call."""
        lines = (self._rest + self._file.read()).split(b"\n")
        self._rest = lines.pop()
        events = [json.loads(line.decode("utf-8")) for line in lines]
        if events:
            self._last = events[-1]["n"]
        if self._crashed and not (events and events[-1]["kind"] == "end"):
            events.append(self._crash_event())
        return events

    def check_runner(self) -> None:
        """Notice a runner that ended without an "end" event (killed, crashed, or a reboot)."""
        with open(os.path.join(self._directory, "alive"), "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return
        # read() is called once more: what the runner wrote before its end is not lost.
        self._crashed = True

    def _crash_event(self) -> Dict[str, Any]:
        with open(os.path.join(self._directory, "stderr"), "rb") as file:
            stderr = file.read()[-2000:].decode("utf-8", "replace").strip()
        with open(os.path.join(self._directory, "boot"), "r") as text:
            rebooted = text.read() != boot_id()
        reason = "the host was rebooted meanwhile" if rebooted else stderr or "its process was killed"
        return {"n": self._last + 1, "kind": "end", "status": "failed", "msg": "the batch was cut off: " + reason}


def start(request: Dict[str, Any]) -> Log:
    """Start a batch in a process of its own; its log. Attaches to a batch of that name if there is one."""
    name = str(request["batch"])
    if not _NAME.match(name):
        raise BatchError("bad name of a batch: %r (letters, digits, dot, dash and underscore, at most 100)" % name)
    directory = os.path.join(private("batches"), name)
    if os.path.exists(directory):
        return attach(name)
    _prune()
    os.mkdir(directory, 0o700)
    for file in ("events.jsonl", "alive", "stderr"):
        open(os.path.join(directory, file), "wb").close()
    with open(os.path.join(directory, "boot"), "w") as text:
        text.write(boot_id())
    _import_modules(request)
    reader, writer = os.pipe()
    ready, started = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.close(ready)
        _detach(directory, request, writer, started)
    os.close(writer)
    os.close(started)
    os.waitpid(child, 0)
    os.read(ready, 1)  # the runner holds its lock now: from here on "not locked" means "ended"
    os.close(ready)
    os.set_blocking(reader, True)
    return Log(name, reader)


def _import_modules(request: Dict[str, Any]) -> None:
    """Import what the tasks need, before the fork: the next batches of this conversation have it then, too.

    Otherwise a slow board spends seconds on the same imports in every batch. What fails here, the runner reports.
    """
    for task in request["tasks"]:
        try:
            importlib.import_module("clusteradm.node.modules.%s" % task["module"])
        except Exception:  # noqa: S112
            continue


def attach(name: str) -> Log:
    """The log of a batch that was started before."""
    if not _NAME.match(name) or not os.path.isdir(os.path.join(private("batches"), name)):
        raise BatchError("there is no batch %s here" % name)
    return Log(name)


def cancel(name: str) -> None:
    """Stop the batch before its next task. Does nothing to a batch that is not running."""
    directory = os.path.join(private("batches"), name)
    if not _NAME.match(name) or not os.path.isdir(directory):
        return
    with open(os.path.join(directory, "alive"), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = file.read()
            if pid:
                os.kill(int(pid), signal.SIGTERM)


def _detach(directory: str, request: Dict[str, Any], wakeup: int, started: int) -> None:
    """In the child: detach from the login, run the batch, never return."""
    status = 1
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        # The end of the login must not end the batch.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        errors = os.open(os.path.join(directory, "stderr"), os.O_WRONLY | os.O_APPEND)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.dup2(errors, 2)
        alive = open(os.path.join(directory, "alive"), "r+b", buffering=0)  # noqa: SIM115 - held to the end of the process
        fcntl.flock(alive, fcntl.LOCK_EX)
        alive.write(b"%d" % os.getpid())
        os.set_inheritable(wakeup, False)
        os.set_blocking(wakeup, False)
        os.write(started, b"!")
        os.close(started)
        with open(os.path.join(private("locks"), "batch"), "a+b", buffering=0, opener=owners) as lock:
            Runner(directory, request, wakeup).run(lock)
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc(file=sys.stderr)
        sys.stderr.flush()
    finally:
        os._exit(status)


def _prune() -> None:
    top = private("batches")
    old = sorted((os.path.join(top, name) for name in os.listdir(top)), key=lambda path: -os.stat(path).st_mtime)
    for path in old[_KEEP:]:
        with open(os.path.join(path, "alive"), "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
        shutil.rmtree(path, ignore_errors=True)
