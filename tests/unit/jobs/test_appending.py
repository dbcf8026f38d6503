"""Output of infer --watch: every batch is in it once, whatever a command was killed at."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from clusteradm.errors import UsageError
from clusteradm.jobs import parts
from clusteradm.jobs.appending import Appending
from clusteradm.jobs.ledger import Ledger
from clusteradm.jobs.lines import Lines
from clusteradm.jobs.parts import Parts
from clusteradm.jobs.similar import Query


def answers(*names: str) -> io.BytesIO:
    """Results of a batch, as the head has them."""
    found = ({"input": name, "index": 7, "top": [{"class": 1, "score": 0.5}]} for name in names)
    return io.BytesIO("".join(json.dumps(one) + "\n" for one in found).encode())


JOBS: Any = type("Jobs", (), {"head": "head"})


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize("before", [b"", b"of an earlier job\n"])
def test_lines_that_were_half_written_are_written_again(tmp_path: Path, form: str, before: bytes) -> None:
    output = tmp_path / "r"
    if before:
        output.write_bytes(before)
    ledger = Ledger(output)
    ledger.begin("j", "")

    def appending() -> Appending:
        return Appending(output, form, "classifier", ledger)

    appending().add(JOBS, "j", 2, answers("a", "b", "c"))
    text = output.read_bytes()
    assert text.startswith(before) and text.count(b"\n") == (3 if form == "jsonl" else 4 - bool(before)) + bool(before)
    for end in range(len(before), len(text), 7):
        output.write_bytes(text[:end])
        # What comes first now was not offered first before.
        again = appending()
        again.add(JOBS, "j", 1, answers("d"))
        again.add(JOBS, "j", 2, answers("a", "b", "c"))
        again.add(JOBS, "j", 2, answers("a", "b", "c"))
        lines = output.read_bytes().removeprefix(before).splitlines()
        rows = lines if form == "jsonl" or before else lines[1:]
        assert [b'"d"' in row or row.startswith(b"d,") for row in rows] == [True, False, False, False]
        assert (len(rows), again.images, ledger.lines) == (4, 4, 4)
        # As it was at first.
        ledger.begin("j", "")
        ledger.put("lines", "0")
        output.write_bytes(before)
        appending().add(JOBS, "j", 2, answers("a", "b", "c"))
        assert output.read_bytes() == text
    # Somebody has taken the file away since: what was in it, was in it.
    if before:
        output.unlink()
        appending().add(JOBS, "j", 2, answers("a", "b", "c"))
        assert not output.exists()
    ledger.void(3)
    count = ledger.lines
    appending().add(JOBS, "j", 3, answers("a"))
    assert ledger.lines == count
    ledger.close()


def test_a_write_that_is_interrupted_is_done_again_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "r"
    ledger = Ledger(output)
    ledger.begin("j", "")
    one = Appending(output, "jsonl", "classifier", ledger)
    with monkeypatch.context() as patch:

        def interrupt(self: Any, body: bytes, place: int) -> None:
            output.write_bytes(body[:20])
            raise KeyboardInterrupt

        patch.setattr(Lines, "put", interrupt)
        with pytest.raises(KeyboardInterrupt):
            one.add(JOBS, "j", 1, answers("a", "b"))
    one.add(JOBS, "j", 1, answers("a", "b"))
    assert [json.loads(line)["input"] for line in output.read_text().splitlines()] == ["a", "b"]
    ledger.close()


def read_parts(output: Path) -> list[Any]:
    """All rows of a folder, as one table."""
    rows: list[Any] = parquet.read_table(output).to_pylist()
    return rows


def test_parquet_is_a_folder_that_is_one_table_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "results"
    output.mkdir()
    (output / "part-000004.parquet").write_bytes(b"not of this command")
    ledger = Ledger(output)
    ledger.begin("j", "")
    for batch in range(1, 21):
        one = Appending(output, "parquet", "classifier", ledger)
        one.add(JOBS, "j", batch, answers(f"{batch}.png"))
        if batch == 1:
            monkeypatch.setattr(parts, "LEAST_BYTES", (output / "part-000005.parquet").stat().st_size + 20)
        if batch % 3 == 0:  # a command that is killed before it has said so
            Appending(output, "parquet", "classifier", ledger).add(JOBS, "j", batch, answers(f"{batch}.png"))
        if batch % 5 == 0:  # one that is killed while it writes
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):

                def die(*_: Any) -> None:
                    raise KeyboardInterrupt

                patch.setattr(Parts, "put", die)
                Appending(output, "parquet", "classifier", ledger).add(JOBS, "j", batch + 1, answers("x.png"))
    (output / "part-000004.parquet").unlink()
    rows = read_parts(output)
    assert [(row["input"], row["index"]) for row in rows] == [(f"{n + 1}.png", n) for n in range(20)]
    assert 1 < len(list(output.iterdir())) < 20
    ledger.close()


def test_similarity_is_a_column_and_vectors_of_parquet_are_an_array(tmp_path: Path) -> None:
    output = tmp_path / "results"
    output.mkdir()
    ledger = Ledger(output)
    ledger.begin("j", "")
    vectors: dict[str, list[float]] = {"a.png": [3, 4], "b.png": [4, -3], "c.png": [8, 6]}
    data = "".join(json.dumps({"input": name, "index": 0, "embedding": one}) + "\n" for name, one in vectors.items())
    said: list[str] = []
    one = Appending(output, "parquet", "embedding", ledger, said.append, query=Query((6.0, 8.0)))
    one.add(JOBS, "j", 1, io.BytesIO(data.encode()))
    assert [row["similarity"] for row in read_parts(output)] == [1.0, 0.0, 0.96]
    assert [found.input for found in one.similar] == ["a.png", "c.png", "b.png"]
    assert said == ["the most similar so far: a.png, 1.0000"]
    # As docs/infer.md has it.
    array = np.stack(parquet.read_table(output)["embedding"].to_numpy())
    assert (array.dtype, array.tolist()) == (np.float32, list(vectors.values()))
    text = tmp_path / "r.csv"
    other = Ledger(text)
    other.begin("j", "")
    Appending(text, "csv", "embedding", other, query=Query((6.0, 8.0))).add(JOBS, "j", 1, io.BytesIO(data.encode()))
    rows = text.read_text().splitlines()
    assert (rows[0], rows[1]) == ("input,index,error,similarity,embedding", "a.png,0,,1.0,3.0 4.0")
    for each in (ledger, other):
        each.close()


def test_a_part_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    output = tmp_path / "results"
    output.mkdir()
    ledger = Ledger(output)
    ledger.begin("j", "")
    Appending(output, "parquet", "classifier", ledger).add(JOBS, "j", 1, answers("a.png"))
    (output / "part-000001.parquet").write_bytes(b"mine")
    with pytest.raises(UsageError, match="it holds no results of this command"):
        Appending(output, "parquet", "classifier", ledger).add(JOBS, "j", 2, answers("b.png"))
    assert (output / "part-000001.parquet").read_bytes() == b"mine"
    (output / "part-000001.parquet").unlink()
    Appending(output, "parquet", "classifier", ledger).add(JOBS, "j", 2, answers("b.png"))
    assert [row["input"] for row in read_parts(output)] == ["b.png"]
    ledger.close()
