"""clusteradm.lock: written so that nothing is lost, read so that nothing is misread."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from clusteradm.errors import UsageError
from clusteradm.fetch.lock import Lock, Locked

ENTRY = Locked("a" * 64, 1234, "https://files.example/a.deb", "libx", "1:2.0-1", "amd64")
ADDRESS = "https://a.example/a.deb"


@pytest.fixture
def lock(tmp_path: Path) -> Lock:
    return Lock(tmp_path / "clusteradm.lock")


def test_what_is_added_is_read(lock: Lock) -> None:
    assert lock.read() == {}
    lock.add({ADDRESS: ENTRY})
    lock.add({"debs/b.deb": replace(ENTRY, sha256="b" * 64)})
    assert lock.read() == {ADDRESS: ENTRY, "debs/b.deb": replace(ENTRY, sha256="b" * 64)}
    assert Lock(lock.path).read() == lock.read()
    assert lock.path.read_text().startswith('{\n  "version": 1,\n  "packages": {\n    "debs/b.deb": {\n')
    assert lock.remove(ADDRESS) == ENTRY
    assert list(lock.read()) == ["debs/b.deb"]
    with pytest.raises(UsageError, match="there is no entry for"):
        lock.remove(ADDRESS)


def test_its_mode_is_kept(lock: Lock) -> None:
    lock.add({ADDRESS: ENTRY})
    lock.path.chmod(0o640)
    lock.add({"b.deb": ENTRY})
    assert lock.path.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in lock.path.parent.iterdir()] == ["clusteradm.lock"]


def test_another_admin_who_accepted_another_file_first(lock: Lock) -> None:
    lock.add({ADDRESS: ENTRY})
    lock.add({ADDRESS: ENTRY})
    with pytest.raises(UsageError, match="somebody has accepted another file of https"):
        lock.add({ADDRESS: replace(ENTRY, sha256="b" * 64), "b.deb": ENTRY})
    assert lock.read() == {ADDRESS: ENTRY}


def test_two_at_once_lose_nothing(lock: Lock) -> None:
    def add(admin: int) -> None:
        for number in range(10):
            Lock(lock.path).add({f"{admin}-{number}.deb": ENTRY})

    admins = [threading.Thread(target=add, args=(admin,)) for admin in range(4)]
    for admin in admins:
        admin.start()
    for admin in admins:
        admin.join()
    assert len(lock.read()) == 40


@pytest.mark.parametrize(
    ("address", "changes"),
    [
        ("débs/x.deb", {}),
        ("a\nb", {}),
        (ADDRESS, {"origin": "/home/jürgen/x.deb"}),
        (ADDRESS, {"origin": ""}),
        (ADDRESS, {"size": 0}),
        (ADDRESS, {"sha256": "A" * 64}),
        (ADDRESS, {"version": "x"}),
    ],
)
def test_nothing_is_written_that_would_not_be_read(lock: Lock, address: str, changes: dict[str, Any]) -> None:
    lock.add({"b.deb": ENTRY})
    with pytest.raises(UsageError, match="it is not entered: "):
        lock.add({"c.deb": ENTRY, address: replace(ENTRY, **changes)})
    assert lock.read() == {"b.deb": ENTRY}


def test_it_does_not_grow_larger_than_is_read(lock: Lock) -> None:
    lock.add({"b.deb": ENTRY})
    with pytest.raises(UsageError, match="more than 1,048,576"):
        lock.add({f"{number}.deb": replace(ENTRY, origin="x" * 2000) for number in range(500)})
    assert lock.read() == {"b.deb": ENTRY}


def test_what_a_killed_process_leaves_is_no_obstacle(lock: Lock) -> None:
    lock.path.touch()
    assert lock.read() == {}
    lock.add({ADDRESS: ENTRY})
    assert lock.read() == {ADDRESS: ENTRY}


def document(**changes: Any) -> str:
    return json.dumps({"version": 1, "packages": {ADDRESS: {**asdict(ENTRY), **changes}}})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "line 1 is no JSON"),
        ('{\n<<<<<<< HEAD\n"version": 1}', "line 2 is no JSON: a conflict of git is to be resolved"),
        ("\ufeff" + document(), "line 1 is no JSON"),
        ("[]", 'it is no mapping with a whole number under "version"'),
        ('{"version": true, "packages": {}}', 'it is no mapping with a whole number under "version"'),
        ('{"version": 2, "packages": {}}', "it was written by a later version of clusteradm (format 2)"),
        ('{"version": 0, "packages": {}}', "it has other keys"),
        ('{"version": 1, "packages": {}, "more": 1}', "it has other keys"),
        ('{"version": 1}', "it has other keys"),
        ('{"version": 1, "packages": []}', '"packages" is no mapping'),
        ('{"version": 1, "packages": {}, "packages": {}}', "'packages' is there twice"),
        ('{"version": 1, "packages": {"a": {}}}', "the entry of a has not just these keys"),
        (document(more=1), "has not just these keys"),
        (document(sha256="A" * 64), "the sha256 of https://a.example/a.deb is not one"),
        (document(sha256="a" * 63), "the sha256 of"),
        (document(size="1"), "the size of"),
        (document(size=-1), "the size of"),
        (document(size=1.5), "the size of"),
        (document(origin="a\nb"), "the origin of"),
        (document(package="x; reboot"), "the package of"),
        (document(version="$(reboot)"), "the version of"),
        (document(architecture=None), "the architecture of"),
        (document().replace(ADDRESS, "a\\u0000b"), "is no address"),
        ("[" * 100_000, "it is no JSON"),
    ],
)
def test_what_is_not_exactly_of_its_form_is_an_error(lock: Lock, text: str, why: str) -> None:
    lock.path.write_text(text)
    for attempt in (lock.read, lambda: lock.add({"b.deb": ENTRY}), lambda: lock.remove(ADDRESS)):
        with pytest.raises(UsageError) as caught:
            attempt()
        assert why in caught.value.what and caught.value.where == str(lock.path)
        assert "restore it from a copy" in caught.value.next_step
    assert lock.path.read_text() == text


def test_bytes_that_are_no_text(lock: Lock) -> None:
    lock.path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="it is no JSON"):
        lock.read()


def test_what_is_no_file_or_too_large(lock: Lock) -> None:
    os.mkfifo(lock.path)
    for attempt in (lock.read, lambda: lock.add({ADDRESS: ENTRY})):
        with pytest.raises(UsageError, match="it is a FIFO"):
            attempt()
    lock.path.unlink()
    lock.path.write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(UsageError, match="more than 1,048,576"):
        lock.read()


def test_a_file_that_anybody_may_write_is_not_believed(lock: Lock) -> None:
    lock.add({ADDRESS: ENTRY})
    lock.path.chmod(0o666)
    with pytest.raises(UsageError) as caught:
        lock.read()
    assert caught.value.next_step == f"see that its entries are right, then: chmod o-w {lock.path}"
    lock.path.chmod(0o664)
    assert lock.read() == {ADDRESS: ENTRY}


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "none" / "clusteradm.lock")
    with pytest.raises(UsageError, match="cannot be written: No such file or directory"):
        lock.add({ADDRESS: ENTRY})
