"""The journal and what becomes of it: never a lost result, never a second one."""

from __future__ import annotations

import errno
import json
import os
import threading
import tracemalloc
from pathlib import Path

import pytest
from child import measured

from clusteradm.node.job import journal
from clusteradm.node.job.journal import Journal
from clusteradm.node.spec.wire import job_names


@pytest.fixture
def job(tmp_path: Path) -> Path:
    names = [f"{number}.png" for number in range(4)]
    (tmp_path / job_names.INPUTS).write_text("".join(json.dumps({"input": name}) + "\n" for name in names))
    return tmp_path


def write(job: Path, attempt: int, rank: int, *results: dict[str, object]) -> None:
    entry = Journal(str(job), attempt)
    entry.append(rank, results)
    entry.close()


def finish(job: Path, labels: list[str]) -> dict[str, int]:
    return journal.finish(str(job), str(job / job_names.INPUTS), labels)


def results(job: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (job / job_names.RESULTS).read_text().splitlines()]


def test_results_come_in_input_order_with_labels(job: Path) -> None:
    write(job, 1, 2, {"i": 3, "top": [[1, 0.5], [7, 0.25]]}, {"i": 1, "error": "no picture"})
    write(job, 1, 1, {"i": 0, "top": [[0, 0.75]]}, {"i": 2, "outputs": [{"values": [1]}]})
    assert finish(job, ["", "dog"]) == {"images": 4, "errors": 1}
    assert results(job) == [
        {"input": "0.png", "index": 0, "top": [{"class": 0, "score": 0.75}]},
        {"input": "1.png", "index": 1, "error": "no picture"},
        {"input": "2.png", "index": 2, "outputs": [{"values": [1]}]},
        {
            "input": "3.png",
            "index": 3,
            "top": [{"class": 1, "label": "dog", "score": 0.5}, {"class": 7, "score": 0.25}],
        },
    ]


def test_the_first_of_two_results_counts(job: Path) -> None:
    write(job, 1, 1, *({"i": index, "top": [[index, 1.0]]} for index in range(4)))
    write(job, 2, 1, {"i": 2, "top": [[9, 1.0]]})
    finish(job, [])
    assert results(job)[2]["top"] == [{"class": 2, "score": 1.0}]


def test_a_missing_result_is_an_error_and_no_file(job: Path) -> None:
    write(job, 1, 1, {"i": 0, "top": []}, {"i": 1, "top": []}, {"i": 3, "top": []})
    with pytest.raises(RuntimeError, match=r"input 2 \(2.png\) has no result"):
        finish(job, [])
    assert not (job / job_names.RESULTS).exists()


def test_a_line_that_was_cut_short_is_done_again_and_swallows_nothing(job: Path) -> None:
    write(job, 1, 1, {"i": 0, "top": []})
    with (job / job_names.JOURNAL).open("a") as file:
        file.write('{"attempt":1,"rank":1,"results":[{"i":1,"to')
    assert journal.done(str(job), 4) == {0}
    write(job, 2, 1, {"i": 1, "top": []}, {"i": 2, "top": []})
    assert journal.done(str(job), 4) == {0, 1, 2}
    assert journal.counts(str(job), 1) == {1: 1}
    assert journal.counts(str(job), 2) == {1: 2}


def test_two_attempts_never_write_at_once(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_LOCK_SECONDS", 0.2)
    first = Journal(str(job), 1)
    with pytest.raises(RuntimeError, match="still holds the journal"):
        Journal(str(job), 2)
    first.close()
    Journal(str(job), 2).close()


def test_a_disk_that_is_slow_or_fails_keeps_no_result_waiting(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, released = threading.Event(), threading.Event()

    def slow(fd: int) -> None:
        begun.set()
        released.wait(60)
        raise OSError(errno.EIO, "the disk is gone")

    monkeypatch.setattr(journal, "_SYNC_SECONDS", 0.001)
    monkeypatch.setattr(os, "fsync", slow)
    entry = Journal(str(job), 1)
    entry.append(1, [{"i": 0, "top": []}])
    assert begun.wait(60)
    entry.append(1, [{"i": 1, "top": []}])
    assert journal.done(str(job), 4) == {0, 1}
    released.set()
    entry._syncing.join(60)
    with pytest.raises(OSError, match="the disk is gone"):
        entry.append(1, [{"i": 2, "top": []}])


def test_no_journal_is_nothing_done(job: Path) -> None:
    assert journal.done(str(job), 4) == set()


def test_the_results_of_a_job_are_never_all_in_memory(job: Path) -> None:
    """1,200 vectors of 1,024 numbers: 40 MiB as Python has them. Chunks of two ranks, and one that came twice."""
    vector = [number / 7 for number in range(1024)]
    chunks = [range(start, start + 20) for start in range(0, 1200, 20)]
    for rank, chunk in enumerate([*chunks[1::2], *chunks[::2], chunks[3]]):
        write(job, 1, 1 + rank % 2, *({"i": index, "embedding": [float(index), *vector]} for index in chunk))
    lines = "".join(json.dumps({"input": f"{number}.png"}) + "\n" for number in range(1200))
    (job / job_names.INPUTS).write_text(lines)
    cost = measured(finish, job, [])
    assert cost.result == {"images": 1200, "errors": 0}
    assert cost.mebibytes < 20
    with (job / job_names.RESULTS).open() as file:
        found = [json.loads(line) for line in file]
    assert [(one["index"], one["embedding"][0]) for one in found] == [(n, float(n)) for n in range(1200)]


def test_the_end_of_a_large_job_takes_some_bytes_for_each_input(job: Path) -> None:
    count = 200_000
    (job / job_names.INPUTS).write_text("".join(f'{{"input": "{number}"}}\n' for number in range(count)))
    with (job / job_names.JOURNAL).open("w") as file:
        for first in range(0, count, 100):
            results = [{"i": number, "error": "e"} for number in range(first, first + 100)]
            file.write(json.dumps({"attempt": 1, "rank": 1, "results": results}) + "\n")
        # What a board may have put there makes no room for itself.
        results = [{"i": number, "error": "e"} for number in (-1, count, 1 << 60)]
        file.write(json.dumps({"attempt": 1, "rank": 1, "results": results}) + "\n")
    tracemalloc.start()
    assert finish(job, []) == {"images": count, "errors": count}
    assert len(journal.done(str(job), count)) == count
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < 12 * count + 500_000
