"""Copies of models on a host's own disk: made, mended, removed, and read by the ranks before the share is."""

from __future__ import annotations

import getpass
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from clusteradm.node.edgetpu.engine import read_model
from clusteradm.node.edgetpu.library import TpuError
from clusteradm.node.models import copies

ONE, TWO = b"one model", b"another model"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(autouse=True)
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The share, with two models; the host's state is beside it."""
    monkeypatch.setenv("CLUSTERADM_STATE", str(tmp_path / "state"))
    folder = tmp_path / "share"
    folder.mkdir()
    (folder / "one").write_bytes(ONE)
    (folder / "two").write_bytes(TWO)
    return folder


def keep(**models: Path) -> dict[str, Any]:
    """The answer to a request for copies: sha256 of these bytes -> path."""
    wanted = {digest(data): str(models[name]) for name, data in (("one", ONE), ("two", TWO)) if name in models}
    return copies.keep({"user": getpass.getuser(), "models": wanted}, lambda part: None)


def test_copies_are_made_mended_and_removed(share: Path, tmp_path: Path) -> None:
    own = tmp_path / "state" / "models"
    assert keep(one=share / "one", two=share / "two")["made"] == (digest(ONE), digest(TWO))
    assert {path.name: path.read_bytes() for path in own.iterdir()} == {digest(ONE): ONE, digest(TWO): TWO}
    assert {path.stat().st_mode & 0o777 for path in own.iterdir()} == {0o444} and own.stat().st_mode & 0o777 == 0o755
    again = keep(one=share / "one", two=share / "two")
    assert (again["made"], again["mended"], again["removed"], again["failed"]) == ((), (), 0, {})
    (own / digest(TWO)).chmod(0o644)
    (own / digest(TWO)).write_bytes(TWO[:-1] + b"x")
    (own / ".half.1234").write_bytes(b"left by a crash")
    found = keep(two=share / "two")
    assert (found["mended"], found["removed"]) == ((digest(TWO),), 1)
    assert {path.name: path.read_bytes() for path in own.iterdir()} == {digest(TWO): TWO}
    assert keep()["removed"] == 1 and list(own.iterdir()) == []


def test_what_cannot_be_copied_leaves_nothing(share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = keep(one=share / "two", two=share / "three")["failed"]
    assert f"has sha256 {digest(TWO)} here, not {digest(ONE)}" in failed[digest(ONE)]
    assert "No such file" in failed[digest(TWO)]

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert "No space left" in keep(one=share / "one")["failed"][digest(ONE)]
    assert list((tmp_path / "state" / "models").iterdir()) == []
    with pytest.raises(ValueError, match="not a sha256"):
        copies.keep({"user": getpass.getuser(), "models": {"../x": str(share / "one")}}, lambda part: None)


def test_ranks_read_their_own_copy_and_the_share_where_it_is_spoilt(share: Path, tmp_path: Path) -> None:
    keep(one=share / "one")
    (share / "one").unlink()  # the server is gone
    assert read_model(str(share / "one"), digest(ONE)) == ONE
    copy = tmp_path / "state" / "models" / digest(ONE)
    copy.chmod(0o644)
    copy.write_bytes(b"spoilt")
    with pytest.raises(FileNotFoundError):
        read_model(str(share / "one"), digest(ONE))
    (share / "one").write_bytes(ONE)
    assert read_model(str(share / "one"), digest(ONE)) == ONE
    (share / "one").write_bytes(b"other")
    with pytest.raises(TpuError, match="deploy it again"):
        read_model(str(share / "one"), digest(ONE))


def test_what_cannot_be_read_or_is_no_copy_holds_up_nothing(share: Path, tmp_path: Path) -> None:
    own = tmp_path / "state" / "models"
    own.mkdir(parents=True)
    (own / digest(ONE)).symlink_to("/proc/self/mem")  # opens, and reads as a broken disk does: EIO
    (own / digest(TWO)).mkdir()
    (own / digest(TWO) / "inner").write_text("")
    (own / ("a" * 64) / "inner").mkdir(parents=True)
    (own / "lost+found").mkdir()
    found = keep(one=share / "one", two=share / "two")
    assert (found["mended"], found["removed"], found["failed"]) == ((digest(ONE), digest(TWO)), 1, {})
    whole = {path.name: path.read_bytes() for path in own.iterdir() if path.is_file()}
    assert whole == {digest(ONE): ONE, digest(TWO): TWO} and (own / "lost+found").is_dir()


def test_where_not_every_model_is_named_no_copy_is_removed(share: Path, tmp_path: Path) -> None:
    keep(one=share / "one")
    request = {"user": getpass.getuser(), "models": {digest(TWO): str(share / "two")}, "others": True}
    found = copies.keep(request, lambda part: None)
    assert (found["made"], found["removed"]) == ((digest(TWO),), 0)
    assert sorted(path.name for path in (tmp_path / "state" / "models").iterdir()) == sorted([digest(ONE), digest(TWO)])


def test_a_copy_that_cannot_be_removed_holds_up_no_other(
    share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "state" / "models"
    own.mkdir(parents=True)
    (own / digest(ONE)).write_bytes(b"spoilt")
    (own / ("a" * 64)).write_bytes(b"")

    def refused(path: str) -> None:
        raise OSError(30, "Read-only file system", path)

    monkeypatch.setattr(copies.store, "discard", refused)
    found = keep(one=share / "one", two=share / "two")
    assert found["made"] == (digest(TWO),) and found["removed"] == 0
    assert sorted(found["failed"]) == sorted([digest(ONE), "a" * 64])
    assert all("Read-only file system" in reason for reason in found["failed"].values())
