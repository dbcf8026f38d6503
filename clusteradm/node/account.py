"""Work done as another user: what root writes for the cluster user is written by the cluster user."""

import json
import os
import pwd
from typing import Any, Callable


class AccountError(OSError):
    """The account is not there, or the work done as it failed; the text says what."""


def as_user(name: str, work: Callable[[], Any]) -> Any:
    """Run `work` in a child process with that user's identity and return its result, which JSON must be able to hold.

    Raises AccountError with the text of whatever the work raised. A process that is not root can only be itself.
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
        status = 1
        try:
            os.close(reader)
            if os.geteuid() != account.pw_uid:
                os.initgroups(name, account.pw_gid)
                os.setgid(account.pw_gid)
                os.setuid(account.pw_uid)
            os.umask(0o022)
            reply = {"result": work()}
            status = 0
        except BaseException as error:
            reply = {"error": _text(error)}
        try:
            with os.fdopen(writer, "w", encoding="utf-8") as file:
                json.dump(reply, file)
        finally:
            # Not sys.exit: this is a copy of the session, whose buffers and exit handlers are the parent's alone.
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as file:
        text = file.read()
    os.waitpid(child, 0)
    try:
        reply = json.loads(text)
    except ValueError:
        raise AccountError("the process that worked as %s died without a word" % name) from None
    if "error" in reply:
        raise AccountError(reply["error"])
    return reply["result"]


def _text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return "%s: %s" % (error.filename, error.strerror) if error.filename else error.strerror
    return str(error) or type(error).__name__
