"""Atomic replacement: the old file or the new one, and nothing beside it."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from clusteradm.node import atomic


def test_the_new_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with atomic.replacing(str(path), mode=0o644) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new" and path.stat().st_mode & 0o7777 == 0o644
    assert os.listdir(tmp_path) == ["file"]


def test_only_its_owner_sees_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with atomic.replacing(str(tmp_path / "file")) as file:
            assert os.stat(file.name).st_mode & 0o7777 == 0o600
        assert (tmp_path / "file").stat().st_mode & 0o7777 == 0o600
    finally:
        os.umask(before)


def test_an_exception_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic.replacing(str(path)) as file:
        file.write(b"half of")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_a_folder_that_is_not_there_is_the_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"), atomic.replacing(str(tmp_path / "nowhere/file")):
        pass


def test_a_link_is_replaced_and_what_it_leads_to_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other")
    (tmp_path / "link").symlink_to("other")
    with atomic.replacing(str(tmp_path / "link")) as file:
        file.write(b"new")
    assert not (tmp_path / "link").is_symlink() and (tmp_path / "other").read_text() == "other"


def test_a_name_in_the_working_folder_and_a_long_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("file", "x" * 255):
        with atomic.replacing(name) as file:
            file.write(b"new")
        assert (tmp_path / name).read_bytes() == b"new"


@pytest.mark.parametrize("durable", [True, False])
def test_it_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle))[1])
    monkeypatch.setattr(os, "rename", lambda *paths: (calls.append("rename"), rename(*paths))[1])
    with atomic.replacing(str(tmp_path / "file"), durable=durable) as file:
        file.write(b"new")
    assert calls == (["fsync", "rename", "fsync"] if durable else ["rename"])


def test_two_writers_do_not_mix(tmp_path: Path) -> None:
    path, texts = tmp_path / "file", [letter * 100_000 for letter in "abcd"]

    def write(text: str) -> None:
        with atomic.replacing(str(path), durable=False) as file:
            for at in range(0, len(text), 1000):
                file.write(text[at : at + 1000].encode())

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts and os.listdir(tmp_path) == ["file"]


def test_an_error_of_the_disk_says_where(tmp_path: Path) -> None:
    """Also where the system does not: a disk that is full is an error of a descriptor."""
    path = tmp_path / "file"
    for filename in ((), ("/elsewhere",)):
        with pytest.raises(OSError, match="No space left on device") as full, atomic.replacing(str(path)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *filename)
        assert (full.value.errno, full.value.filename) == (errno.ENOSPC, *(filename or (str(path),)))
    with pytest.raises(FileNotFoundError) as missing, atomic.replacing(str(tmp_path / "nowhere" / "file")):
        pass
    assert missing.value.filename == str(tmp_path / "nowhere" / "file") and os.listdir(tmp_path) == []
