"""Results in other forms: nothing is lost on the way, and no two of them say different things."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest

from clusteradm.errors import HostFailed, UsageError
from clusteradm.jobs import Results, formats
from clusteradm.node.spec import answers
from clusteradm.node.spec.wire.decode import decode
from clusteradm.node.spec.wire.manifest import CLASSIFIER, DETECTOR, EMBEDDING, POSE, RAW, SEGMENTATION, TASKS
from clusteradm.node.spec.wire.result import Result

ODD = 'a "b", c\nd;e.jpg'
POINT = {"x": 1.5, "y": None, "score": 0.5}
LINES: dict[str, list[dict[str, Any]]] = {
    CLASSIFIER: [
        {"top": [{"class": 3, "label": "cät", "score": 0.5}, {"class": 1, "score": None}]},
        {"error": "cut short"},
        {"top": []},
    ],
    DETECTOR: [{"size": [9, 9], "objects": [{"class": 3, "label": "cat", "score": 0.5, "box": [-1, 2, 3, 4]}]}],
    SEGMENTATION: [{"segments": [{"class": 3, "share": 1.0}], "map": {"name": "m", "shape": [1, 1], "values": [[3]]}}],
    POSE: [{"poses": [{"score": 0.25, "keypoints": [{"name": name, **POINT} for name in answers.POINTS]}]}],
    EMBEDDING: [{"embedding": [0.5, None, -2]}, {"error": "cut short"}],
    RAW: [{"outputs": [{"name": "o", "shape": [1], "values": [1.5]}]}],
}


def results(task: str) -> list[Result]:
    return [decode(Result, {"input": ODD, "index": n, **line}) for n, line in enumerate(LINES[task])]


def written(form: str, task: str) -> bytes:
    into = io.BytesIO()
    formats.write(form, task, lambda: iter(results(task)), into)
    return into.getvalue()


def rows(task: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(written(formats.CSV, task).decode(), newline="")))


def test_csv_has_a_row_for_each_class_and_one_for_an_input_without_any() -> None:
    assert rows(CLASSIFIER) == [
        {"input": ODD, "index": "0", "error": "", "class": "3", "label": "cät", "score": "0.5"},
        {"input": ODD, "index": "0", "error": "", "class": "1", "label": "", "score": ""},
        {"input": ODD, "index": "1", "error": "cut short", "class": "", "label": "", "score": ""},
        {"input": ODD, "index": "2", "error": "", "class": "", "label": "", "score": ""},
    ]


def test_csv_of_the_other_tasks() -> None:
    (found,) = rows(DETECTOR)
    assert [found[name] for name in ("class", "label", "score", "xmin", "ymin", "xmax", "ymax")] == [
        *("3", "cat", "0.5", "-1", "2", "3", "4")
    ]
    assert rows(SEGMENTATION)[0]["share"] == "1.0"
    points = rows(POSE)
    assert len(points) == 17
    assert (points[1]["keypoint"], points[1]["x"], points[1]["y"], points[1]["pose_score"]) == (
        *("left_eye", "1.5", "", "0.25"),
    )
    assert [row["embedding"] for row in rows(EMBEDDING)] == ["0.5  -2.0", ""]
    assert json.loads(rows(RAW)[0]["values"]) == [1.5]


@pytest.mark.parametrize("task", LINES)
def test_parquet_has_the_rows_of_csv(task: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(io.BytesIO(written(formats.PARQUET, task)))
    read = table.to_pylist()
    expected = rows(task)
    assert [list(row) for row in read] == [list(row) for row in expected]
    for one, other in zip(read, expected, strict=True):
        for name, value in one.items():
            if name == "embedding":
                assert value in ([0.5, None, -2.0], None)
            else:
                assert ("" if value is None else str(value)) == other[name]


def test_long_vectors_are_written_a_few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand vectors of 50,000 numbers are 15 GB as Python has them."""
    monkeypatch.setattr(formats, "_BATCH_NUMBERS", 6)
    into = io.BytesIO()
    formats.write(formats.PARQUET, EMBEDDING, lambda: (Result(str(n), n, embedding=(1.0,) * 3) for n in range(5)), into)
    file = pytest.importorskip("pyarrow.parquet").ParquetFile(into)
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [2, 2, 1]
    assert file.read()["index"].to_pylist() == [0, 1, 2, 3, 4]


def test_an_array_of_embeddings_has_a_row_for_every_input() -> None:
    found = np.load(io.BytesIO(written(formats.NPY, EMBEDDING)))
    assert found.dtype == np.float32 and found.shape == (2, 3)
    assert np.array_equal(found, [[0.5, np.nan, -2], [np.nan] * 3], equal_nan=True)


def test_an_array_of_records_has_the_numbers() -> None:
    found = np.load(io.BytesIO(written(formats.NPY, CLASSIFIER)))
    assert found.dtype.names == ("index", "class", "score")
    assert found["index"].tolist() == [0, 0, 1, 2] and found["class"].tolist() == [3, 1, -1, -1]
    assert np.array_equal(found["score"], [0.5, np.nan, np.nan, np.nan], equal_nan=True)
    points = np.load(io.BytesIO(written(formats.NPY, POSE)))
    assert points["keypoint"].tolist() == list(range(17))
    assert np.load(io.BytesIO(written(formats.NPY, DETECTOR)))["xmin"].tolist() == [-1]


def test_vectors_of_different_lengths_are_no_array() -> None:
    lines = [Result("a", 0, embedding=(1.0, 2.0)), Result("b", 1, embedding=(1.0,))]
    with pytest.raises(UsageError, match="b has 1 numbers, the first 2"):
        formats.write(formats.NPY, EMBEDDING, lambda: iter(lines), io.BytesIO())


@pytest.mark.parametrize("task", [None, RAW, *TASKS])
def test_what_no_array_can_hold_is_said_before(task: str | None) -> None:
    if task in (None, RAW):
        with pytest.raises(UsageError, match="--format npy is one array of numbers"):
            formats.check(formats.NPY, task)
    else:
        formats.check(formats.NPY, task)
    formats.check(formats.CSV, task)


def test_a_package_that_is_missing_is_said_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(formats._MODULES, formats.PARQUET, ("pyarrow_of_nobody",))
    with pytest.raises(UsageError, match="--format parquet needs Python packages that are not here") as refused:
        formats.require(formats.PARQUET)
    assert "install" in str(refused.value.next_step)
    formats.require(formats.CSV)


@pytest.mark.parametrize(
    "line",
    [
        {"objects": [{"class": 1, "score": 0.5, "box": [1, 2, 3]}]},
        {"objects": [{"class": 1, "score": 0.5}]},
        {"objects": [{"class": 1, "score": 0.5, "box": [1, 2, 3, 1e9]}]},
        {"objects": [{"class": 1, "label": ["x"], "score": 0.5, "box": [1, 2, 3, 4]}]},
        {"poses": [{"score": 0.5, "keypoints": [POINT]}]},
        {"poses": [{"score": 0.5, "keypoints": [7] * 17}]},
        {"poses": [{"score": 0.5, "keypoints": [{"name": "nose", **POINT}] * 17 + [7]}]},
        {"poses": [{"score": 0.5, "keypoints": [{"name": {"a": 1}, **POINT}] * 17}]},
        {"segments": [{"class": -1, "share": 0.5}]},
        {"top": [{"class": "1"}]},
        {"embedding": ["1"]},
        {"size": [1]},
        {"map": {"file": "/etc/passwd"}},
    ],
)
def test_results_of_a_head_that_lies_are_damaged(line: dict[str, Any]) -> None:
    text = json.dumps({"input": "a", "index": 0, **line})
    with pytest.raises(HostFailed, match="line 1 of the results of job j is damaged"):
        list(Results("j", "head", io.BytesIO(text.encode())).lines())


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        (" \t=1", "' \t=1"),
        ("\r\n=1", "'\r\n=1"),
        ("\x1b]0;a\x07\x9b2J", "\\x1b]0;a\\x07\\x9b2J"),
        ("a=b\nc-d.jpg", "a=b\nc-d.jpg"),
    ],
)
def test_no_text_of_csv_is_a_formula_or_a_terminals_command(name: str, cell: str) -> None:
    lines = [
        decode(Result, {"input": name, "index": 0, "top": [{"class": 0, "label": name, "score": -0.5}]}),
        decode(Result, {"input": "b", "index": 1, "error": name}),
    ]
    into = io.BytesIO()
    formats.write(formats.CSV, CLASSIFIER, lambda: iter(lines), into)
    one, other = csv.DictReader(io.StringIO(into.getvalue().decode(), newline=""))
    assert (one["input"], one["label"], one["score"], other["error"]) == (cell, cell, "-0.5", cell)
