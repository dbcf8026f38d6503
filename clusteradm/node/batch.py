"""A batch of tasks, run detached from the login that brought it.

A batch belongs to the node, not to the connection: it runs in a process of its own session, and its events go to a log
that only root can read or write. Whoever connects later takes the events up at the last number. One batch runs at a
time; the next waits for its end.
"""

import fcntl
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
    """A request about a batch that makes no sense; the text says why."""


class Log:
    """The events of a batch as they come. `bell`: a pipe, readable after each event while its runner is ours."""

    def __init__(self, batch: str, bell: Optional[int] = None) -> None:
        self.batch = batch
        self.bell = bell
        self._directory = os.path.join(private("batches"), batch)
        self._file = open(os.path.join(self._directory, "events.jsonl"), "rb")  # noqa: SIM115 - closed by __exit__
        self._rest = b""
        self._last = 0
        self._orphan = False

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()
        if self.bell is not None:
            os.close(self.bell)

    @property
    def patience(self) -> float:
        """Seconds to wait before looking again: long with a bell, which only a crash leaves silent."""
        return 1.0 if self.bell is not None else 0.05

    def silence(self) -> None:
        """Take the bell's ringing; a bell whose runner has gone is given up."""
        if self.bell is not None and not os.read(self.bell, 1 << 12):
            os.close(self.bell)
            self.bell = None

    def read(self) -> List[Dict[str, Any]]:
        """The events that have come since the last call."""
        lines = (self._rest + self._file.read()).split(b"\n")
        self._rest = lines.pop()
        events = [json.loads(line.decode("utf-8")) for line in lines]
        if events:
            self._last = events[-1]["n"]
        if self._orphan and not (events and events[-1]["kind"] == "end"):
            events.append(self._epitaph())
        return events

    def look_after(self) -> None:
        """Notice a runner that ended without its last word (killed, crashed, or a reboot)."""
        with open(os.path.join(self._directory, "alive"), "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return
        # One more reading comes after this, so that nothing it wrote before its end is lost.
        self._orphan = True

    def _epitaph(self) -> Dict[str, Any]:
        with open(os.path.join(self._directory, "stderr"), "rb") as file:
            words = file.read()[-2000:].decode("utf-8", "replace").strip()
        with open(os.path.join(self._directory, "boot"), "r") as text:
            rebooted = text.read() != boot_id()
        reason = "the host was rebooted meanwhile" if rebooted else words or "its process was killed"
        return {"n": self._last + 1, "kind": "end", "status": "failed", "msg": "the batch was cut off: " + reason}


def start(request: Dict[str, Any]) -> Log:
    """Begin a batch in a process of its own and return its log. A batch that is there already is attached to."""
    name = str(request["batch"])
    if not _NAME.match(name):
        raise BatchError("bad name of a batch: %r" % name)
    directory = os.path.join(private("batches"), name)
    if os.path.exists(directory):
        return attach(name)
    _prune()
    os.mkdir(directory, 0o700)
    for file in ("events.jsonl", "alive", "stderr"):
        open(os.path.join(directory, file), "wb").close()
    with open(os.path.join(directory, "boot"), "w") as text:
        text.write(boot_id())
    reader, writer = os.pipe()
    ready, begun = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.close(ready)
        _detach(directory, request, writer, begun)
    os.close(writer)
    os.close(begun)
    os.waitpid(child, 0)
    os.read(ready, 1)  # until the runner holds its lock: from then on "not locked" means "ended"
    os.close(ready)
    os.set_blocking(reader, True)
    return Log(name, reader)


def attach(name: str) -> Log:
    """The log of a batch that was begun before."""
    if not _NAME.match(name) or not os.path.isdir(os.path.join(private("batches"), name)):
        raise BatchError("there is no batch %s here" % name)
    return Log(name)


def cancel(name: str) -> None:
    """Have the batch stop before its next task. One that is not running is left alone."""
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


def _detach(directory: str, request: Dict[str, Any], bell: int, begun: int) -> None:
    """In the child: become a process that no login owns, run the batch, never return."""
    status = 1
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        # What ends a login must not end the batch.
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
        os.set_inheritable(bell, False)
        os.set_blocking(bell, False)
        os.write(begun, b"!")
        os.close(begun)
        with open(os.path.join(private("locks"), "batch"), "a+b", buffering=0, opener=owners) as lock:
            Runner(directory, request, bell).run(lock)
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
