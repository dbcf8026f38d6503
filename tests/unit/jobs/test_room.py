"""A full disk: what is written again, what is done without."""

from __future__ import annotations

import errno
import os
from collections import namedtuple
from pathlib import Path

import pytest

from clusteradm.node.job import room

Filled = namedtuple("Filled", "f_bavail f_frsize")


def no_space() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_file_system_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert room.lacking([str(tmp_path), str(tmp_path / "gone")]) == []
    monkeypatch.setattr(os, "statvfs", lambda folder: Filled(10, 4096))
    assert room.lacking([str(tmp_path)]) == [str(tmp_path)]


def test_it_waits_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([["/a"], ["/a"], []])
    monkeypatch.setattr(room, "lacking", lambda folders: next(answers))
    monkeypatch.setattr(room, "_LOOK_SECONDS", 0.0)
    said: list[str] = []
    assert room.wait(["/a"], said.append)
    assert said == ["no space left in /a: waiting for some"]
    monkeypatch.setattr(room, "lacking", lambda folders: [])
    assert not room.wait(["/a"], said.append)


def test_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "lacking", lambda folders: ["/a"])
    monkeypatch.setattr(room, "SECONDS", -1.0)
    monkeypatch.setattr(room, "_LOOK_SECONDS", 0.0)
    with pytest.raises(OSError, match="No space left on device: '/a'"):
        room.wait(["/a"], lambda text: None)


def test_what_is_insisted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_LOOK_SECONDS", 0.0)
    tries: list[int] = []

    def write() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise no_space()
        return "done"

    assert room.insist(write) == "done" and len(tries) == 3

    def refused() -> None:
        raise PermissionError

    with pytest.raises(PermissionError):
        room.insist(refused)


def test_what_is_done_without() -> None:
    with room.unless_full():
        raise no_space()
    with pytest.raises(PermissionError), room.unless_full():
        raise PermissionError
