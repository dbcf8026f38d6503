"""Parts of an image: built once, whole or not at all."""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from clusteradm.lab.cache import KEEP_DAYS, Building, Cache


def fill(building: Building) -> None:
    (building.path / "content").write_text("made", encoding="utf-8")


def test_a_part_is_built_once_and_again_when_what_made_it_changes(tmp_path: Path) -> None:
    cache, said = Cache(tmp_path), []
    first = cache.part("base", ["a"], fill, said.append, "hint")
    assert (first / "content").read_text() == "made"
    assert cache.part("base", ["a"], lambda building: pytest.fail("built twice"), said.append, "hint") == first
    assert cache.part("base", ["b"], fill, said.append, "hint") != first
    assert said[0] == "building base: hint"


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail(building: Building) -> None:
        fill(building)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        Cache(tmp_path).part("base", ["a"], fail, lambda text: None, "")
    assert [path.name for path in tmp_path.iterdir()] == [".base.lock"]


def test_what_a_killed_build_left_is_cleared_away(tmp_path: Path) -> None:
    stale = tmp_path / ".base-abc.new"
    stale.mkdir()
    (stale / "half").touch()
    Cache(tmp_path).part("base", ["a"], fill, lambda text: None, "")
    assert not stale.exists()


def test_a_build_waits_until_the_last_child_of_a_killed_one_is_gone(tmp_path: Path) -> None:
    lock = os.open(tmp_path / ".base.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    orphan = subprocess.Popen(["sleep", "0.4"], pass_fds=[lock])
    os.close(lock)
    said: list[str] = []
    start = time.monotonic()
    Cache(tmp_path).part("base", ["a"], fill, said.append, "")
    assert time.monotonic() - start > 0.2
    assert any("waiting" in line for line in said)
    orphan.wait()


def test_two_builds_at_once_make_one_part(tmp_path: Path) -> None:
    built = []

    def slow(building: Building) -> None:
        built.append(building)
        time.sleep(0.2)

    threads = [
        threading.Thread(target=Cache(tmp_path).part, args=("base", ["a"], slow, lambda text: None, ""))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


def test_a_part_that_nobody_used_for_long_goes_with_the_next_build(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    old = cache.part("base", ["a"], fill, lambda text: None, "")
    other = cache.part("board", ["a"], fill, lambda text: None, "")
    past = time.time() - (KEEP_DAYS + 1) * 86400
    os.utime(old, (past, past))
    os.utime(other, (past, past))
    new = cache.part("base", ["b"], fill, lambda text: None, "")
    assert new.exists() and other.exists() and not old.exists()
