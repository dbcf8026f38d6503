"""Work as another user: its result, its errors, its time limit."""

from __future__ import annotations

import faulthandler
import os
import pwd
import signal
import time

import pytest

from clusteradm.node.account import AccountError, AccountTimeout, as_user
from clusteradm.node.probe.attempt import attempt

ME = pwd.getpwuid(os.geteuid()).pw_name


def test_the_result_comes_back() -> None:
    assert as_user(ME, lambda: {"pid": os.getpid()})["pid"] != os.getpid()


def test_root_becomes_the_user() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    nobody = pwd.getpwnam("nobody")
    assert as_user("nobody", lambda: [os.getuid(), os.getgid(), os.environ["HOME"]]) == [
        nobody.pw_uid,
        nobody.pw_gid,
        nobody.pw_dir,
    ]


def crash() -> None:
    faulthandler.disable()  # pytest's would write the stack of the child in the middle of the run
    os.kill(os.getpid(), signal.SIGSEGV)


def test_errors_are_told() -> None:
    with pytest.raises(AccountError, match="/nowhere: No such file or directory"):
        as_user(ME, lambda: os.listdir("/nowhere"))
    with pytest.raises(AccountError, match="there is no user nobody-at-all"):
        as_user("nobody-at-all", lambda: None)
    with pytest.raises(AccountError, match="ended by signal 11"):
        as_user(ME, crash)


def test_what_hangs_is_left() -> None:
    begun = time.monotonic()
    with pytest.raises(AccountTimeout):
        as_user(ME, lambda: time.sleep(60), seconds=0.2)
    assert time.monotonic() - begun < 30


def test_a_probe_answers_whatever_happens() -> None:
    assert attempt(ME, 30, lambda: {"a": 1})["ok"] is True
    assert attempt(ME, 30, lambda: {"ok": False, "error": "x"})["ok"] is False
    assert attempt(ME, 0.2, lambda: {"a": time.sleep(30)})["timeout"] is True
    assert attempt(ME, 30, lambda: {"a": 1 // 0})["error"] == "integer division or modulo by zero"


def test_what_is_left_behind_on_a_dead_mount_holds_nobody_up() -> None:
    """A process that no signal reaches keeps the pipe open for ever; its parent has answered all the same."""
    leftover = []

    def work() -> int:
        child = os.fork()
        if child == 0:
            signal.pause()  # with the pipe of its parent, until it is killed
            os._exit(0)
        return child

    leftover.append(as_user(ME, work, seconds=30))  # raises AccountTimeout if it waits for that pipe to be closed
    os.kill(leftover[0], signal.SIGKILL)
