"""Atomic replacement of files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from clusteradm import atomic


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_has_the_mode_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic.write(tmp_path / "new", "grün\n")
    finally:
        os.umask(before)
    assert (tmp_path / "new").read_bytes() == "grün\n".encode()
    assert mode(tmp_path / "new") == 0o640
    assert os.listdir(tmp_path) == ["new"]


def test_a_replaced_file_keeps_its_mode_unless_another_is_given(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o600)
    atomic.write(path, b"new")
    assert (path.read_bytes(), mode(path)) == (b"new", 0o600)
    atomic.write(path, "public", mode=0o644)
    assert (path.read_text(), mode(path)) == ("public", 0o644)


def test_a_reader_sees_the_old_content_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with atomic.replacing(path) as file:
        file.write(b"ne")
        file.flush()
        assert path.read_text() == "old"
        file.write(b"w")
    assert path.read_text() == "new"


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic.replacing(path) as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]
    with pytest.raises(FileNotFoundError):
        atomic.write(tmp_path / "nowhere" / "file", "")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    atomic.write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "new"


def test_devices_and_pipes_are_written_to(tmp_path: Path) -> None:
    atomic.write(Path("/dev/null"), "anything")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    atomic.write(tmp_path / "pipe", "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
