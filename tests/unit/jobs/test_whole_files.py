"""Files that come into a folder: each once, when it is whole, whatever is done there. By this kernel's own word."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clusteradm.node.spec.watching import files
from clusteradm.node.spec.watching.files import Found, WholeFiles
from clusteradm.node.spec.watching.record import Record

PATIENCE = 240.0


class Watched:
    """A folder, what watches it, and what that has taken."""

    def __init__(self, top: Path) -> None:
        top.mkdir(exist_ok=True)
        self.top = top
        self.record = Record(str(top.parent / "record"))
        self.files = WholeFiles(str(top), (".png", ".npy"), self.record.known)
        self.taken: list[Found] = []

    def turn(self, seconds: float = 0.05) -> None:
        self.files.wait(seconds)
        found = self.files.take(1000)
        if found:
            self.record.take(found, 1)
        self.taken += found

    def until(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < end, [found.name for found in self.taken]
            self.turn()

    def settle(self) -> list[str]:
        """The names that were taken, in order, once nothing is left to look at."""
        self.turn()
        self.until(lambda: self.files.idle)
        return [found.name for found in self.taken]


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr(files, "QUIET_SECONDS", 0.01)
    monkeypatch.setattr(files, "SETTLE_SECONDS", 0.1)
    one = Watched(tmp_path / "in")
    one.settle()
    yield one
    one.files.close()
    one.record.close()


def test_what_is_closed_or_renamed_is_taken_and_what_is_no_input_is_not(watched: Watched) -> None:
    for name in ("a.png", "b.png.part", ".c.png.x7Ab2", ".hidden.png", "d.txt", "e.tmp"):
        (watched.top / name).write_bytes(b"x")
    (watched.top / "f.part").write_bytes(b"yy")
    (watched.top / "f.part").rename(watched.top / "f.png")
    (watched.top / ".c.png.x7Ab2").rename(watched.top / "c.png")  # as rsync does
    assert sorted(watched.settle()) == ["a.png", "c.png", "f.png"]
    assert {found.name: found.size for found in watched.taken}["f.png"] == 2


def test_what_is_being_written_is_not_taken_before_it_is_closed(watched: Watched) -> None:
    with (watched.top / "slow.png").open("wb") as slow:
        slow.write(b"half")
        slow.flush()
        (watched.top / "other.png").write_bytes(b"x")
        watched.until(lambda: len(watched.taken) == 1)
        end = time.monotonic() + 5 * files.SETTLE_SECONDS
        watched.until(lambda: time.monotonic() > end)  # it does not change, and is not whole
        assert [found.name for found in watched.taken] == ["other.png"]
        slow.write(b" and the other half")
    assert watched.settle() == ["other.png", "slow.png"]
    assert watched.taken[-1].size == 23


def test_what_is_written_again_is_taken_again_and_what_is_read_or_renamed_onto_itself_is_not(watched: Watched) -> None:
    path = watched.top / "latest.png"
    path.write_bytes(b"one")
    watched.settle()
    path.read_bytes()
    path.chmod(0o600)
    with path.open("ab"):  # closed, and unchanged
        pass
    assert watched.settle() == ["latest.png"]
    path.write_bytes(b"three")
    assert watched.settle() == ["latest.png"] * 2
    new = watched.top / ".latest"
    new.write_bytes(b"4")
    new.replace(path)
    assert watched.settle() == ["latest.png"] * 3
    assert [found.size for found in watched.taken] == [3, 5, 1]


def test_names_of_every_kind(watched: Watched) -> None:
    names = [
        b"two words.png",
        b"line\nbreak.png",
        b"caf\xe9.png",
        "日本.PNG".encode(),
        b"'; rm -rf $HOME.png",
        b"x" * 251 + b".png",
    ]
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(watched.top), name))).write_bytes(b"x")
    assert sorted(os.fsencode(name) for name in watched.settle()) == sorted(names)
    assert watched.settle() == [found.name for found in watched.taken]


def test_folders_that_are_made_moved_and_removed(watched: Watched) -> None:
    (watched.top / "a" / "b").mkdir(parents=True)
    (watched.top / "a" / "b" / "1.png").write_bytes(b"1")
    (watched.top / ".d").mkdir()
    (watched.top / ".d" / "no.png").write_bytes(b"1")
    assert watched.settle() == ["a/b/1.png"]
    outside = watched.top.parent / "day"
    (outside / "night").mkdir(parents=True)
    (outside / "night" / "2.png").write_bytes(b"2")
    outside.rename(watched.top / "day")
    assert watched.settle() == ["a/b/1.png", "day/night/2.png"]
    (watched.top / "day" / "night" / "3.png").write_bytes(b"3")
    assert watched.settle()[2:] == ["day/night/3.png"]
    # Another name is another input; a folder that leaves takes its files with it.
    (watched.top / "a").rename(watched.top / "c")
    watched.until(lambda: "c/b/1.png" in [found.name for found in watched.taken])
    (watched.top / "c" / "b" / "4.png").write_bytes(b"4")
    watched.until(lambda: "c/b/4.png" in [found.name for found in watched.taken])
    (watched.top / "day").rename(outside)
    (outside / "night" / "5.png").write_bytes(b"5")
    watched.settle()
    assert not any("5.png" in found.name for found in watched.taken)


def test_the_folder_itself_may_go_and_come_back(watched: Watched) -> None:
    (watched.top / "1.png").write_bytes(b"1")
    watched.settle()
    watched.top.rename(watched.top.parent / "old")
    watched.until(lambda: watched.files.gone)
    watched.record.purge(str(watched.top))  # what is not there is not forgotten
    (watched.top.parent / "old").rename(watched.top)
    watched.until(lambda: not watched.files.gone)
    (watched.top / "2.png").write_bytes(b"2")
    watched.until(lambda: len(watched.taken) == 2)
    assert watched.settle() == ["1.png", "2.png"]


def test_a_file_that_vanishes_and_one_that_is_empty(watched: Watched) -> None:
    (watched.top / "gone.png").write_bytes(b"x")
    (watched.top / "gone.png").unlink()
    (watched.top / "empty.png").touch()
    (watched.top / "filled.png").touch()
    (watched.top / "filled.png").write_bytes(b"later")
    assert sorted(watched.settle()) == ["empty.png", "filled.png"]
    assert {found.name: found.size for found in watched.taken} == {"empty.png": 0, "filled.png": 5}


def test_links_and_what_is_no_file(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"x")
    (watched.top / "real.npy").write_bytes(b"x")
    (watched.top / "out.png").symlink_to(tmp_path / "secret.png")
    (watched.top / "in.png").symlink_to("real.npy")
    (watched.top / "loop.png").symlink_to("loop.png")
    (watched.top / "dir.png").mkdir()
    os.mkfifo(watched.top / "pipe.png")
    os.link(tmp_path / "secret.png", watched.top / "hard.png")
    assert sorted(watched.settle()) == ["hard.png", "in.png", "real.npy"]
    assert sorted(reason.partition(":")[0].rpartition("/")[2] for reason in watched.files.reasons) == [
        "out.png",
        "pipe.png",
    ]


@pytest.mark.parametrize("events", [True, False])
def test_more_files_than_the_kernel_tells_of(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, events: bool, tmp_path: Path
) -> None:
    """Also where it tells of none, as of a folder of another machine."""
    monkeypatch.setattr(files, "_AT_ONCE", 200)
    monkeypatch.setattr(files, "LOOK_REMOTE_SECONDS", 0.01)
    count = 3000
    if events:  # as if the queue had overflown
        monkeypatch.setattr(
            watched.files._events, "read", lambda: [files.Event(-1, files.inotify.OVERFLOW, "")], raising=True
        )
    else:
        watched.files.close()
        watched.files._events = None
    (watched.top / "deep").mkdir()
    for number in range(count):
        (watched.top / "deep" / f"{number}.png").write_bytes(b"x")
    watched.files._look_due = 0.0
    watched.until(lambda: len(watched.taken) >= count)
    assert sorted(watched.settle()) == sorted(f"deep/{number}.png" for number in range(count))


def test_each_is_taken_once_over_a_restart(watched: Watched, tmp_path: Path) -> None:
    (watched.top / "1.png").write_bytes(b"1")
    watched.settle()
    (watched.top / "2.png").write_bytes(b"2")  # while nobody watches
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        Record(str(tmp_path / "record"))
    watched.record.close()
    again = Watched(watched.top)
    again.until(lambda: bool(again.taken))
    assert again.settle() == ["2.png"]
    again.record.drop([1])  # of a job that came to nothing
    last = WholeFiles(str(watched.top), (".png",), again.record.known)
    found: list[str] = []
    while len(found) < 2:
        last.wait(0.05)
        found += [one.name for one in last.take(10)]
    assert sorted(found) == ["1.png", "2.png"]


def test_what_has_gone_is_forgotten(watched: Watched) -> None:
    for name in ("1.png", "2.png"):
        (watched.top / name).write_bytes(b"x")
    watched.settle()
    about = (watched.top / "1.png").stat()
    (watched.top / "1.png").unlink()
    watched.record.purge(str(watched.top))
    assert not watched.record.known("1.png", about.st_size, about.st_mtime_ns)
    two = (watched.top / "2.png").stat()
    assert watched.record.known("2.png", two.st_size, two.st_mtime_ns)
    assert not watched.record.known("2.png", two.st_size + 1, two.st_mtime_ns)


def test_what_is_lost_while_the_folder_is_looked_through_is_found_by_another_look(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's queue overflows in the middle of a look, which has been past the place of the new file."""
    monkeypatch.setattr(files, "_AT_ONCE", 1)
    for number in range(5):
        (watched.top / f"{number}.png").write_bytes(b"x")
    watched.settle()
    watched.files._look_due = 0.0
    watched.files._look()
    assert watched.files._looking is not None
    for _ in watched.files._looking:  # to its last entry
        pass
    (watched.top / "lost.png").write_bytes(b"x")
    assert watched.files._events is not None and watched.files._events.read()
    watched.files._hear(files.Event(-1, files.inotify.OVERFLOW, ""))
    assert "lost.png" in watched.settle()
