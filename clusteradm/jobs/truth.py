"""Accuracy of a job's results, by a file of the right answers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from clusteradm import regular
from clusteradm.errors import InputErrors, Problem, UsageError
from clusteradm.node.spec.wire.decode import loads
from clusteradm.node.spec.wire.result import Result

_MOST_BYTES = 256 << 20  # some million inputs
_MOST_TEXT = 4096  # characters of a name or a label
_MOST_PROBLEMS = 50  # after which a file is not read further


@dataclass(frozen=True)
class Accuracy:
    """Of `labelled` inputs, how many were answered right first, and among the first `k`."""

    labelled: int
    right: int
    right_in_top: int
    k: int

    def to_json(self) -> dict[str, Any]:
        return {
            "labelled": self.labelled,
            "right": self.right,
            "top_1": round(self.right / self.labelled, 6),
            "right_in_top": self.right_in_top,
            "top_k": round(self.right_in_top / self.labelled, 6),
            "k": self.k,
        }


def read(path: Path) -> dict[str, str]:
    """The label of each input: a CSV file with the columns input,label, or JSON Lines with these keys.

    A label is the class's name in the model's labels, or its number. Raises InputErrors with every defect at once.
    """
    where = regular.readable(path)
    try:
        text = regular.read(path, _MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError("no text in UTF-8", where=where) from error
    problems: list[Problem] = []
    truth: dict[str, str] = {}
    rows = _json_lines(text) if text.lstrip().startswith("{") else _csv(text)
    for line, row in rows:
        if isinstance(row, str):
            problems.append(Problem(where, line, row))
        elif max(len(row[0]), len(row[1])) > _MOST_TEXT:
            problems.append(Problem(where, line, f"a name or a label of more than {_MOST_TEXT:,} characters"))
        elif truth.setdefault(row[0], row[1]) != row[1]:
            problems.append(Problem(where, line, f"{row[0]} is {row[1]} here and {truth[row[0]]} above"))
        if len(problems) == _MOST_PROBLEMS:
            problems.append(Problem(where, line, "the rest of the file was not read"))
            break
    if not truth and not problems:
        problems.append(Problem(where, 0, "no line of it names an input and its label"))
    if problems:
        raise InputErrors(problems)
    return truth


def _csv(text: str) -> Iterable[tuple[int, tuple[str, str] | str]]:
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        if "input" not in header or "label" not in header:
            yield 1, "the first line of a CSV truth file names its columns: input,label"
            return
        name, label = header.index("input"), header.index("label")
        for row in reader:
            if not row:
                continue
            if len(row) <= max(name, label):
                yield reader.line_num, f"{len(row)} columns of {len(header)}"
            else:
                yield reader.line_num, (row[name].strip(), row[label].strip())
    except csv.Error as error:  # a field of more than 128 KiB, as an unclosed quote makes one; a NUL
        yield reader.line_num, f"not CSV: {error}"


def _json_lines(text: str) -> Iterable[tuple[int, tuple[str, str] | str]]:
    for number, line in enumerate(io.StringIO(text), 1):
        if not line.strip():
            continue
        try:
            entry = loads(line)
            name, label = entry["input"], entry["label"]
            if not all(isinstance(value, (str, int)) for value in (name, label)):
                raise TypeError
            yield number, (str(name), str(label))
        except (ValueError, KeyError, TypeError, IndexError):
            yield number, 'not of the form {"input": name, "label": label}'


def score(results: Iterable[Result], truth: Mapping[str, str], k: int) -> Accuracy | None:
    """Accuracy of the results. An input that could not be read is wrong; one unknown to the truth is not counted.

    Names match as a whole, else by their last part where that is unambiguous. None where the truth names no input.
    """
    by_last: dict[str, str | None] = {}
    for name, right_one in truth.items():
        last = PurePath(name).name
        by_last[last] = right_one if by_last.get(last, right_one) == right_one else None
    labelled = right = in_top = 0
    for result in results:
        name = result.input
        label = truth[name] if name in truth else by_last.get(PurePath(name).name)
        if label is None:
            continue
        labelled += 1
        answers = [label in (answer.get("label"), str(answer.get("class"))) for answer in result.top]
        right += bool(answers[:1] and answers[0])
        in_top += any(answers)
    return Accuracy(labelled, right, in_top, k) if labelled else None
