"""What the lab tests keep of ansible-playbook: found again under all that it depends on, and only if it is whole."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from agreement import Said
from remembered import Memory, of_case

from clusteradm.lab.cache import KEEP_DAYS


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path / "results")


@pytest.fixture
def compute() -> Callable[[], list[int]]:
    """Another value at each call."""
    calls: list[int] = []

    def count() -> list[int]:
        calls.append(len(calls) + 1)
        return calls[-1:]

    return count


def entry(memory: Memory) -> Path:
    (path,) = memory.folder.iterdir()
    return path


def test_a_value_is_computed_once_for_what_it_depends_on(memory: Memory, compute: Callable[[], list[int]]) -> None:
    assert [memory.value("case", ["a", 1], compute) for _ in range(2)] == [[1], [1]]
    assert memory.value("case", ["a", 2], compute) == [2]
    assert memory.value("other", ["a", 1], compute) == [3]
    assert memory.value("case", ["a", 1], compute) == [1]


def test_fresh_computes_it_and_keeps_it(memory: Memory, compute: Callable[[], list[int]]) -> None:
    memory.value("case", ["a"], compute)
    assert Memory(memory.folder, fresh=True).value("case", ["a"], compute) == [2]
    assert memory.value("case", ["a"], compute) == [2]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"value": [9]}', b"\xff", None])
def test_what_is_not_whole_is_not_believed(
    memory: Memory, compute: Callable[[], list[int]], content: bytes | None
) -> None:
    memory.value("case", ["a"], compute)
    path = entry(memory)
    if content is None:
        content = json.dumps({**json.loads(path.read_bytes()), "value": [9]}).encode()
    path.write_bytes(content)
    assert memory.value("case", ["a"], compute) == [2]
    assert memory.value("case", ["a"], compute) == [2]


def test_an_error_is_not_kept(memory: Memory, compute: Callable[[], list[int]]) -> None:
    with pytest.raises(ZeroDivisionError):
        memory.value("case", ["a"], lambda: 1 // 0)
    assert memory.value("case", ["a"], compute) == [1]


def test_what_nobody_has_used_for_long_is_removed(memory: Memory, compute: Callable[[], list[int]]) -> None:
    memory.value("case", ["a"], compute)
    old = entry(memory)
    os.utime(old, (0, time.time() - (KEEP_DAYS + 1) * 86400))
    memory.value("case", ["b"], compute)
    assert entry(memory) != old
    # What is used stays.
    used = entry(memory)
    os.utime(used, (0, time.time() - (KEEP_DAYS + 1) * 86400))
    memory.value("case", ["b"], compute)
    memory.value("case", ["c"], compute)
    assert used.exists()


def test_a_case_depends_on_itself_and_on_what_it_includes(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    for name in ("one.yml", "two.yml", "tasks/imported.yml", "ansible.cfg"):
        (tmp_path / name).write_text(name)
    case = tmp_path / "one.yml"
    seen = {of_case(case)}
    for name, differs in (("two.yml", False), ("tasks/imported.yml", True), ("ansible.cfg", True), ("one.yml", True)):
        (tmp_path / name).write_text("changed")
        assert (of_case(case) not in seen) is differs, name
        seen.add(of_case(case))


def test_one_run_is_kept_as_it_was() -> None:
    said = Said({("play", "task", "one"): [{"_status": "ok"}]}, True, {"one": ["file /etc/agree"]})
    assert Said.from_json(json.loads(json.dumps(said.to_json()))) == said
