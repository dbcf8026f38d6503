"""Inputs that come while the job runs, as rank 0 counts them: a rank 0 that was killed may have said less."""

from __future__ import annotations

import json
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clusteradm.node.job import files
from clusteradm.node.job.feed import Feed
from clusteradm.node.job.journal import Journal
from clusteradm.node.job.source import Index, Stream, Writer
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.job import Counted


class Rank0:
    """A Stream, as the dispatcher has it, that dies where a test says."""

    def __init__(self, folder: Path) -> None:
        spec: Any = SimpleNamespace(folder=str(folder), model=SimpleNamespace(path=str(folder / "model.tflite")))
        self.book = Journal(str(folder), 1)
        self.stream = Stream(spec, str(folder), self.book)

    def deliver(self, *numbers: int, wrong: bool = False) -> None:
        answer = {"error": "no"} if wrong else {"top": [[1, 0.5]]}
        results = [{"i": number, **answer} for number in numbers]
        self.stream.keep(self.book.append(1, results), results)

    def die(self) -> None:
        self.book.close()

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.stream.earlier, self.stream.errors, self.stream.total


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    one = Feed(str(tmp_path), str(tmp_path))
    one.make()
    return one


def give(feed: Feed, batch: int, count: int) -> int:
    """Add a batch; the number of its first input."""
    entry = {"input": "a.png", "offset": 0, "size": 1, "form": None}
    Path(feed.lines(batch)).write_text("".join(json.dumps(entry) + "\n" for _ in range(count)))
    return batch * job_names.BATCH_INPUTS


def test_an_input_takes_rank_0_some_twenty_bytes(tmp_path: Path) -> None:
    """A small .npz holds a million rows, and a head 1 GB."""
    path, count = tmp_path / "inputs.jsonl", 20_000
    forms: list[Any] = [["uint8", [1, 28, 28]], None, {"error": "no"}]
    with path.open("w") as file:
        for number in range(count):
            line = {"input": f"a.npy[{number}]", "offset": number << 20, "size": 784, "form": forms[number % 3]}
            file.write(json.dumps(line) + "\n")
    tracemalloc.start()
    try:
        index = Index(str(path))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 40 * count
    assert [index.piece(number) for number in (0, 1, count - 1)] == [
        *([0, 784, forms[0]], [1 << 20, 784, None], [(count - 1) << 20, 784, forms[(count - 1) % 3]]),
    ]


def settled(feed: Feed, *batches: int) -> None:
    end = time.monotonic() + 60
    while set(batches) & set(feed.waiting()):
        assert time.monotonic() < end
        time.sleep(0.002)


def test_results_of_a_killed_rank_0_are_counted_to_the_last(feed: Feed, tmp_path: Path) -> None:
    """It has never said what it did, as it was killed within half a second."""
    first, second = give(feed, 1, 3), give(feed, 2, 4)
    rank = Rank0(tmp_path)
    rank.deliver(first, first + 1)
    rank.deliver(first + 2, wrong=True)
    settled(feed, 1)
    rank.deliver(second + 1, wrong=True)
    rank.deliver(second + 3)
    rank.die()

    again = Rank0(tmp_path)
    assert again.counts == (5, 2, 7)
    assert again.stream.todo == [second, second + 2]
    again.deliver(second, second + 2)
    settled(feed, 2)
    again.die()
    assert Rank0(tmp_path).counts == (7, 2, 7)


@pytest.mark.parametrize("counted", [False, True])
def test_a_batch_is_counted_once_if_rank_0_dies_while_it_is_done_with(
    feed: Feed, tmp_path: Path, counted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = give(feed, 1, 2)
    with monkeypatch.context() as patch:

        def die(*_: Any) -> None:
            raise OSError("killed")

        patch.setattr(*(Feed, "settle") if counted else (Writer, "_count"), die)
        rank = Rank0(tmp_path)
        rank.deliver(first)
        rank.deliver(first + 1, wrong=True)
        with pytest.raises(OSError, match="killed"):
            rank.stream.close()
        rank.die()
    assert feed.found() == feed.waiting() == [1]
    again = Rank0(tmp_path)
    assert (again.counts, again.stream.todo) == ((2, 1, 2), [])
    again.stream.close()
    again.die()
    assert files.read(Counted, str(tmp_path / job_names.COUNTED)) == Counted(1, 2, 1)
    assert Rank0(tmp_path).counts == (2, 1, 2)
