"""Files of right answers: their forms, and what they may cost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from child import measured

from clusteradm.errors import InputErrors, UsageError
from clusteradm.jobs import truth


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "truth"


@pytest.mark.parametrize(
    "text",
    [
        "input,label\na.png,cat\nb.png,7\n",
        "\ufefflabel, input\r\ncat,a.png\r\n\r\n7,b.png\r\n",
        '{"input": "a.png", "label": "cat"}\n\n{"input": "b.png", "label": 7}\n',
    ],
)
def test_the_forms(file: Path, text: str) -> None:
    file.write_bytes(text.encode())
    assert truth.read(file) == {"a.png": "cat", "b.png": "7"}


def test_every_defect_at_once_up_to_fifty(file: Path) -> None:
    file.write_text("input,label\na\nb,1\nb,2\n")
    with pytest.raises(InputErrors) as found:
        truth.read(file)
    assert [(problem.line, problem.message) for problem in found.value.problems] == [
        (2, "1 columns of 2"),
        (4, "b is 2 here and 1 above"),
    ]
    file.write_text("input,label\n" + "a\n" * 100_000)
    with pytest.raises(InputErrors) as found:
        truth.read(file)
    assert len(found.value.problems) == 51
    assert found.value.problems[-1].message == "the rest of the file was not read"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('input,label\na,"' + "x" * 200_000, "not CSV: field larger than field limit"),
        ('{"input": ' + "[" * 100_000, "not of the form"),
        ('{"input": "a", "label": ' + "9" * 5000 + "}", "not of the form"),
        ('{"input": "a", "label": {}}', "not of the form"),
        ('{"input": "a", "label": "' + "x" * 5000 + '"}', "a name or a label of more than 4,096 characters"),
    ],
    ids=["field", "depth", "digits", "object", "text"],
)
def test_what_has_no_bound_is_one_defect(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    cost = measured(truth.read, file)
    assert cost.error.startswith(f"InputErrors: {file}:")
    assert said in cost.error
    assert (cost.seconds < 2, cost.mebibytes < 50) == (True, True)


def test_what_is_no_file_or_too_large_is_refused(file: Path) -> None:
    os.mkfifo(file)
    with pytest.raises(UsageError, match="a FIFO"):
        truth.read(file)
    file.unlink()
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(UsageError, match="bytes, more than"):
        truth.read(file)
