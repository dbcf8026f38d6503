"""Corpus of the fuzz run: every seed and every find of it, through its reader, within its limits."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.fuzz.mutate import mutate, smaller
from tests.fuzz.run import failure, fuzz, minimised, seeds
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_every_seed_and_find_is_read_or_refused(target: str) -> None:
    known = seeds(target)
    assert known
    assert {data[:60]: failure(target, data) for data in known} == {data[:60]: None for data in known}


def test_a_reader_that_fails_is_found_and_its_input_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: bytes) -> None:
        if b"c" in data:
            raise KeyError("c")

    monkeypatch.setitem(TARGETS, "labels", broken)  # type: ignore[arg-type]
    data, reason, count = fuzz("labels", 1, 5)
    assert reason is not None
    assert (b"c" in data, "KeyError" in reason, count > 0) == (True, True, True)
    assert minimised("labels", b"abc" * 20, reason) == b"c"


@pytest.mark.parametrize("what", ["memory", "time", "exit"])
def test_a_reader_without_bounds_is_found(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(data: bytes) -> None:
        if what == "memory":
            bytearray(2 << 30)
        elif what == "exit":
            __import__("os")._exit(0)
        while True:
            pass

    monkeypatch.setattr("tests.fuzz.run._CPU_SECONDS", 0.5)
    monkeypatch.setitem(TARGETS, "labels", hungry)  # type: ignore[arg-type]
    reason = failure("labels", b"x")
    assert reason is not None
    assert ("MemoryError" if what == "memory" else "ended without an answer") in reason


def test_mutations_repeat() -> None:
    import random

    made = [[mutate(b"seed", [b"other"], chance) for _ in range(50)] for chance in (random.Random(7), random.Random(7))]  # noqa: S311
    assert made[0] == made[1]
    assert len(set(made[0])) > 30
    assert b"" in smaller(b"x") or smaller(b"x") == []
