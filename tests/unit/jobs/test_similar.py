"""Inputs by the cosine of the angle to one of them."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from clusteradm.errors import UsageError
from clusteradm.jobs import LocalInputs, resolve, similar
from clusteradm.node.spec.wire.result import Result

RESULTS = [
    Result("a", 0, embedding=(3.0, 4.0)),
    Result("b", 1, embedding=(-6.0, -8.0)),
    Result("query", 2, embedding=(6.0, 8.0)),
    Result("c", 3, embedding=(4.0, -3.0)),
    Result("zeros", 4, embedding=(0.0, 0.0)),
    Result("none", 5, error="cut short"),
    Result("nan", 6, embedding=(None, 1.0)),
    Result("d", 7, embedding=(8.0, 6.0)),
]


def test_the_most_similar_come_first_and_those_without_a_vector_last() -> None:
    found = similar.rank(lambda: iter(RESULTS), "query")
    assert [(one.input, one.similarity) for one in found] == [
        *(("a", 1.0), ("d", 0.96), ("c", 0.0), ("b", -1.0)),
        *(("zeros", None), ("none", None), ("nan", None)),
    ]


def test_a_query_without_a_vector_is_an_error() -> None:
    with pytest.raises(UsageError, match="--similar: the file has no vector: cut short"):
        similar.rank(lambda: iter(RESULTS), "none")
    with pytest.raises(UsageError, match="it has no result"):
        similar.rank(lambda: iter(RESULTS), "nobody")


def local(*names: str) -> LocalInputs:
    found = resolve(names)
    assert isinstance(found, LocalInputs)
    return found


def test_a_query_in_a_tar_file_is_that_file_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    with tarfile.open("one.tar", "w") as archive:
        archive.add("b.png")
    inputs = local("one.tar", "a.png")
    assert similar.with_query(inputs, "one.tar") == (inputs, "one.tar/b.png")
    np.savez("v.npz", a=np.zeros(1), b=np.ones(1))
    inputs = local("v.npz:a")
    more, name = similar.with_query(inputs, "v.npz:b")
    assert name == "v.npz:b" and [file.name for file in more.files] == ["v.npz:a", "v.npz:b"]


def test_the_query_is_one_of_the_inputs_or_becomes_one(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    inputs = local("pictures")
    assert similar.with_query(inputs, "pictures/3.png") == (inputs, "3.png")
    (tmp_path / "q.png").write_bytes(b"query")
    more, name = similar.with_query(inputs, "q.png")
    assert name == "q.png" and [file.name for file in more.files] == [*(f"{n}.png" for n in range(5)), "q.png"]
    # A name that another input has already.
    (tmp_path / "3.png").write_bytes(b"query")
    more, name = similar.with_query(inputs, "3.png")
    assert name == str(tmp_path / "3.png") and len(more.files) == 6
    for wrong in ("pictures", "nothing.png", "head:a.png"):
        with pytest.raises(UsageError):
            similar.with_query(inputs, wrong)
