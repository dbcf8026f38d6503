"""Work as the cluster user in a child process with a time limit, so that a hang or a crash stays there."""

import json
import os
import pwd
import select
import signal
import time
from typing import Any, Callable, Dict


def as_user(user: str, seconds: float, work: Callable[[], Dict[str, Any]]) -> Dict[str, Any]:
    """The work's result with "ok": True and "seconds"; or "ok": False and "error" (what it raised, or how it ended).

    A child that does not end in time is killed; if even that hangs (a dead NFS mount), it is left behind.
    """
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return {"ok": False, "error": "there is no user %s" % user}
    begun = time.monotonic()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(account, work, writer)
    os.close(writer)
    data = b""
    timed_out = False
    while True:
        left = begun + seconds - time.monotonic()
        if left <= 0 or not select.select([reader], [], [], left)[0]:
            timed_out = True
            break
        piece = os.read(reader, 1 << 16)
        if not piece:
            break
        data += piece
    os.close(reader)
    if timed_out:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, os.WNOHANG)
        return {"ok": False, "error": "no answer within %.0f s" % seconds, "timeout": True}
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return {"ok": False, "error": "ended by signal %d" % os.WTERMSIG(status), "signal": os.WTERMSIG(status)}
    try:
        result: Dict[str, Any] = json.loads(data.decode("utf-8"))
    except ValueError:
        return {"ok": False, "error": "ended without an answer"}
    result.setdefault("ok", True)
    result["seconds"] = round(time.monotonic() - begun, 4)
    return result


def _child(account: Any, work: Callable[[], Dict[str, Any]], writer: int) -> None:
    try:
        if os.geteuid() == 0:
            os.initgroups(account.pw_name, account.pw_gid)
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
        os.environ.update(HOME=account.pw_dir, USER=account.pw_name, LOGNAME=account.pw_name)
        try:
            result = work()
        except Exception as error:
            text = getattr(error, "strerror", None) or str(error) or type(error).__name__
            result = {"ok": False, "error": text}
        data = json.dumps(result).encode("utf-8")
        while data:
            data = data[os.write(writer, data) :]
    finally:
        os._exit(0)
