"""Bodies that come in chunks: cut off, taken up, from two at once, on a full disk, damaged."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clusteradm.node import blobs
from clusteradm.node.blobs import Part
from clusteradm.node.spec.wire.node import FindBlobs, Hello
from clusteradm.transport import node as conversation
from clusteradm.transport.node import Node, NodeError

BODY = random.Random(1).randbytes(1_000_003)  # noqa: S311 - bytes to send
NAME = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the bodies are."""
    monkeypatch.setenv("CLUSTERADM_STATE", str(tmp_path))
    monkeypatch.setattr(conversation, "MOST_PART", 300_000)
    return tmp_path / "blobs"


def reader(data: bytes) -> Callable[[int], bytes]:
    rest = memoryview(data)

    def read(most: int) -> bytes:
        nonlocal rest
        piece, rest = bytes(rest[:most]), rest[most:]
        return piece

    return read


def put(start: int, end: int, data: bytes | None = None) -> None:
    """The bytes from start to end come; or `data`, which may be less."""
    part = Part(start, end - start, len(BODY))
    blobs.receive(NAME, part, reader(BODY[start:end] if data is None else data))


def found() -> tuple[list[str], dict[str, int]]:
    reply = blobs.missing({"sha256": [NAME]}, lambda part: None)
    return reply["missing"], reply["begun"]


def test_an_upload_goes_on_where_it_was_cut(folder: Path) -> None:
    put(0, 300_000)
    with pytest.raises(ValueError, match="the input ended in the middle"):
        put(300_000, 600_000, BODY[300_000:400_000])
    assert found() == ([NAME], {NAME: 400_000})
    put(400_000, len(BODY))
    assert found() == ([], {}) and (folder / NAME).read_bytes() == BODY
    assert os.listdir(folder) == [NAME] and (folder / NAME).stat().st_mode & 0o777 == 0o600


def test_two_at_once_write_the_same(folder: Path) -> None:
    put(0, 300_000)
    put(0, 300_000)
    put(300_000, 900_000)
    put(300_000, 600_000)
    put(900_000, len(BODY))
    put(600_000, 900_000)  # the other is complete by now
    put(900_000, len(BODY))
    assert (folder / NAME).read_bytes() == BODY and os.listdir(folder) == [NAME]
    blobs.drop(NAME)  # and used up
    put(900_000, len(BODY))
    assert found() == ([NAME], {}) and os.listdir(folder) == []


def test_a_chunk_that_follows_on_nothing_is_passed_over(folder: Path) -> None:
    put(0, 100)
    put(300_000, len(BODY))  # what was between was lost with the power
    assert found() == ([NAME], {NAME: 100})


def test_a_damaged_body_is_forgotten(folder: Path) -> None:
    put(0, 300_000, bytes(300_000))
    with pytest.raises(ValueError, match="arrived damaged"):
        put(300_000, len(BODY))
    assert found() == ([NAME], {}) and os.listdir(folder) == []


def test_a_full_disk_costs_the_upload_and_not_the_conversation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    taken = 0

    def read(most: int) -> bytes:
        nonlocal taken
        taken += most
        return bytes(most)

    zeros = hashlib.sha256(bytes(600_000)).hexdigest()
    for name, part in ((NAME, Part(0, 600_000, len(BODY))), (zeros, Part(0, 600_000, 600_000))):
        taken = 0
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left"):
                blobs.receive(name, part, read)
        assert taken == 600_000 and os.listdir(folder) == []
    with pytest.raises(ValueError, match="not a sha256"):
        blobs.receive("../x", Part(0, 600_000, 600_000), read)
    assert taken == 1_200_000


def test_what_nobody_asks_for_is_removed_after_a_week(folder: Path) -> None:
    put(0, 300_000)
    old = time.time() - 8 * 24 * 3600
    os.utime(folder / f".part-{NAME}", (old, old))
    blobs.missing({"sha256": ["0" * 64]}, lambda part: None)
    assert os.listdir(folder) == []


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Callable[[], Node]]:
    """A function that makes a new conversation with the node program."""
    made: list[Node] = []

    def start() -> Node:
        made.append(Node.local("head", env={**os.environ, "CLUSTERADM_STATE": str(tmp_path)}))
        return made[-1]

    yield start
    for node in made:
        node.close()


def test_both_sides_take_an_upload_up(head: Callable[[], Node], folder: Path) -> None:
    class Cut(Exception):
        pass

    def cut(sent: int, total: int) -> None:
        assert total == len(BODY)
        if sent > 700_000:
            raise Cut

    first = head()
    with pytest.raises(Cut):
        first.put_blobs({NAME: BODY}, cut)
    first.close()
    second = head()
    begun = second.call(FindBlobs((NAME,))).begun[NAME]
    assert begun >= 600_000
    sent: list[int] = []
    second.put_blobs({NAME: BODY}, lambda now, total: sent.append(now))
    assert sent[0] > begun and sent[-1] == len(BODY)
    assert (folder / NAME).read_bytes() == BODY
    with pytest.raises(NodeError, match="arrived damaged"):
        second.put_blobs({"0" * 64: BODY})
    assert second.call(Hello()).protocol == 1
