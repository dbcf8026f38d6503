"""Work as another user, in a child process: files of the cluster user are written by the cluster user."""

import json
import os
import pwd
import select
import signal
import time
from typing import Any, Callable, Optional

from clusteradm.node.texts import names, read, reason


class AccountError(OSError):
    """The account does not exist, or the work as that user failed; the text says which and why."""


class AccountTimeout(AccountError):
    """The work did not end in time."""


def as_user(
    name: str,
    work: Callable[[], Any],
    seconds: Optional[float] = None,
    started: Callable[[int], None] = lambda child: None,
) -> Any:
    """Run `work` in a child process with that user's identity and return its result, a JSON value.

    Raises AccountError with the text of the work's exception, or of the signal that ended its process; AccountTimeout
    after `seconds`: the child and all that it has started are killed then, and left behind if even that hangs (on a
    dead mount). A process that is not root can only work as itself. `started` is called with the child's process id.
    """
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        raise AccountError("there is no user %s here: run clusteradm bootstrap" % name) from None
    if os.geteuid() not in (0, account.pw_uid):
        raise AccountError("not root: cannot work as %s" % name)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        if seconds is not None:
            os.setpgid(0, 0)
            signal.alarm(int(seconds) + 2)  # should the parent end before
        _work(account, work, writer)
    os.close(writer)
    started(child)
    try:
        data = read_reply(reader, seconds)
    except AccountTimeout:
        _kill_group(child)
        os.waitpid(child, os.WNOHANG)
        raise
    finally:
        os.close(reader)
    status = os.waitpid(child, 0)[1]
    try:
        reply = json.loads(data.decode("utf-8"))
    except ValueError:
        how = "was ended by signal %d" % os.WTERMSIG(status) if os.WIFSIGNALED(status) else "ended without an answer"
        raise AccountError("the process that worked as %s %s" % (name, how)) from None
    if "error" in reply:
        raise AccountError(reply["error"])
    return reply["result"]


def _work(account: Any, work: Callable[[], Any], writer: int) -> None:
    """In the child: change to the user, work, write the reply, never return."""
    status = 1
    try:
        if os.geteuid() != account.pw_uid:
            os.initgroups(account.pw_name, account.pw_gid)
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
        os.environ.update(HOME=account.pw_dir, USER=account.pw_name, LOGNAME=account.pw_name)
        os.umask(0o022)
        reply = {"result": work()}
        status = 0
    except BaseException as error:
        reply = {"error": reason(error)}
    try:
        with os.fdopen(writer, "w", encoding="utf-8") as file:
            file.write(json.dumps(reply) + "\n")
    finally:
        # Not sys.exit: this is a copy of the session, whose buffers and exit handlers are the parent's alone.
        os._exit(status)


def read_reply(reader: int, seconds: Optional[float]) -> bytes:
    """A child's reply from its pipe: one line, or all until the pipe is closed. Raises AccountTimeout.

    It does not wait for the close after a line: a process that the child has left behind on a dead mount also has the
    pipe open.
    """
    end = None if seconds is None else time.monotonic() + seconds
    data = b""
    while not data.endswith(b"\n"):
        left = None if end is None else max(0.0, end - time.monotonic())
        if not select.select([reader], [], [], left)[0]:
            raise AccountTimeout("no answer within %.0f s" % (seconds or 0))
        piece = os.read(reader, 1 << 16)
        if not piece:
            break
        data += piece
    return data


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:  # it was not scheduled yet, and leads no group
        os.kill(leader, signal.SIGKILL)


def kill_session(leader: int) -> None:
    """SIGKILL to every process of this one's session (setsid), whatever its group or user. For root, or one's own."""
    os.kill(leader, signal.SIGKILL)
    for name in names("/proc"):
        if not name.isdigit():
            continue
        # proc(5): after the name in parentheses come state, parent, group, session.
        fields = (read("/proc", name, "stat") or "").rpartition(")")[2].split()
        if len(fields) > 3 and fields[3] == str(leader):
            try:
                os.kill(int(name), signal.SIGKILL)
            except OSError:
                continue
