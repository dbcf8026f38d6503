"""A job's log keeps its begin and its end."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from clusteradm.node.job import files, log


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("MOST_BYTES", 5000), ("FIRST_BYTES", 300), ("LAST_BYTES", 1000)):
        monkeypatch.setattr(log, name, size)


def test_the_begin_and_the_end_are_kept_whatever_it_grows_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log.bound(str(path))
    written = b""
    with path.open("ab", buffering=0) as mpirun:  # its own descriptor, over all of it
        for number in range(2000):
            line = b"line %d of rank %d\n" % (number, number % 7)
            mpirun.write(line)
            written += line
            log.bound(str(path))
            assert path.stat().st_size <= log.MOST_BYTES
    text = path.read_bytes()
    found = re.fullmatch(rb"(.*\n)\.\.\. (\d+) bytes of this log were left out here: [^\n]*\n(.*)", text, re.DOTALL)
    assert found is not None
    first, last = found.group(1), found.group(3)
    assert written.startswith(first) and 250 < len(first) <= 300
    assert written.endswith(last) and len(last) > 900 and last.startswith(b"line ")
    assert int(found.group(2)) == len(written) - len(first) - len(last)


def test_what_comes_while_it_is_shortened_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a line\n" * 1000)
    write = os.pwrite

    def slow(file: int, data: bytes, at: int) -> int:
        if path.stat().st_size == 7000:
            with path.open("ab") as other:
                other.write(b"meanwhile\n")
        return write(file, data, at)

    monkeypatch.setattr(os, "pwrite", slow)
    log.bound(str(path))
    assert path.read_bytes().endswith(b"a line\nmeanwhile\n")


def test_a_line_without_an_end_and_a_link(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 100_000)
    log.bound(str(path))
    assert path.stat().st_size < 1200 and b"left out" in path.read_bytes()
    secret = tmp_path / "secret"
    secret.write_bytes(b"y" * 100_000)
    path.unlink()
    os.symlink(secret, path)
    link = files.size(str(path))
    with pytest.raises(OSError, match="link"):
        files.opener(str(path), os.O_RDWR)
    log.bound(str(path))
    assert (files.size(str(path)), secret.stat().st_size) == (link, 100_000)
