"""Results that come from a head that lies: nothing is written but below the output's folder."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from clusteradm.errors import HostFailed, UsageError
from clusteradm.jobs import Results

JOB = "20260101-000000-abcdef"
FILE = f"outputs-{JOB}/000000-0.npy"


def results(*lines: Any) -> Results:
    data = b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    return Results(JOB, "head", io.BytesIO(data))


def tensor(file: Any) -> dict[str, Any]:
    return {"input": "a.png", "index": 0, "outputs": [{"name": "o", "shape": [1, 2000], "file": file}]}


def fetch(name: str, into: BinaryIO) -> None:
    into.write(b"tensor " + name.encode())


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_results_and_large_tensors_are_saved_beside_each_other(tmp_path: Path) -> None:
    found = results(tensor(FILE), {"input": "b.png", "index": 1, "top": [{"class": 3, "score": 0.5}]})
    (tmp_path / "out.jsonl").write_text("older")
    found.save(tmp_path / "out.jsonl", fetch)
    assert tree(tmp_path) == ["out.jsonl", FILE]
    assert (tmp_path / FILE).read_bytes() == b"tensor " + FILE.encode()
    assert [line.index for line in found.lines()] == [0, 1]
    assert (tmp_path / "out.jsonl").read_bytes().count(b"\n") == 2
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "out.jsonl").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize(
    "name",
    [
        "../../.ssh/authorized_keys",
        "/root/.ssh/authorized_keys",
        "outputs-20260101-000000-abcdef/../../x/000000-0.npy",
        f"outputs-{JOB}/../000000-0.npy",
        f"outputs-{JOB}/000000-0.npy\0",
        f"outputs-{JOB}/000000-0.npy\n",
        f"outputs-{JOB}/",
        f"./{FILE}",
        "outputs-20260101-000000-fedcba/000000-0.npy",  # another job's
        f"outputs-{JOB}/.bashrc",
        "~/x.npy",
        7,
        [FILE],
    ],
)
def test_no_other_name_is_followed(tmp_path: Path, name: Any) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    (tmp_path / "a" / "x").mkdir()
    with pytest.raises(HostFailed, match="line 2 of the results of job 20260101-000000-abcdef is damaged"):
        results(tensor(FILE), tensor(name)).save(inside / "out.jsonl", fetch)
    assert tree(tmp_path) == []


def test_links_are_not_followed(tmp_path: Path) -> None:
    away, here = tmp_path / "away", tmp_path / "here"
    away.mkdir()
    here.mkdir()
    (here / f"outputs-{JOB}").symlink_to(away)
    with pytest.raises(UsageError, match="is a link"):
        results(tensor(FILE)).save(here / "out.jsonl", fetch)
    assert tree(away) == []
    (here / f"outputs-{JOB}").unlink()
    (here / f"outputs-{JOB}").mkdir()
    (away / "keys").write_text("mine")
    (here / FILE).symlink_to(away / "keys")
    results(tensor(FILE)).save(here / "out.jsonl", fetch)
    assert (away / "keys").read_text() == "mine"
    assert not (here / FILE).is_symlink()


def test_a_file_that_does_not_come_leaves_nothing(tmp_path: Path) -> None:
    def fails(name: str, into: BinaryIO) -> None:
        into.write(b"half")
        raise HostFailed("gone", where="head")

    with pytest.raises(HostFailed, match="gone"):
        results(tensor(FILE)).save(tmp_path / "out.jsonl", fails)
    assert tree(tmp_path) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "not a JSON document"),
        (b"[" * 100_000, "not a JSON document"),
        ([], "expected an object, not a list"),
        ({"index": 0}, "input: missing"),
        ({"input": "a", "index": 0, "top": [1]}, "top[0]: expected an object, not a number"),
        ({"input": "a", "index": 0, "top": {}}, "top: expected a list, not an object"),
    ],
)
def test_a_damaged_line_is_the_heads_failure(line: Any, message: str) -> None:
    with pytest.raises(HostFailed) as refused:
        list(results(line).lines())
    assert message in str(refused.value) and str(refused.value).startswith("head: line 1 of the results of job")


def test_a_line_without_end_is_not_read_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusteradm.jobs.results._MOST_LINE", 100)
    good = b'{"input": "a", "index": 0}\n'
    results = Results("j", "head", io.BytesIO(good + bytes(101)))
    with pytest.raises(HostFailed, match="line 2 of the results of job j is damaged: it has more than 100 bytes"):
        list(results.lines())


def test_numbers_out_of_range_are_counted_over_all_inputs() -> None:
    top = [{"class": 3, "score": 0.5}]
    found = results(
        {"input": "a", "index": 0, "top": top, "clipped": 0.25},
        {"input": "b", "index": 1, "top": top},
        {"input": "c", "index": 2, "outputs": [], "clipped": 0.75},
        {"input": 'd "clipped"', "index": 3, "top": top},
    )
    assert found.clipped() == (2, 0.75)
    with pytest.raises(HostFailed, match="clipped: expected a number, not text"):
        results({"input": "a", "index": 0, "clipped": "much"}).clipped()
