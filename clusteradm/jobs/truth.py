"""Accuracy of a job's results, by a file of the right answers."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from clusteradm.errors import InputErrors, Problem, UsageError
from clusteradm.node.spec.wire.result import Result


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
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    problems: list[Problem] = []
    truth: dict[str, str] = {}
    rows = _json_lines(text) if text.lstrip().startswith("{") else _csv(text)
    for line, row in rows:
        if isinstance(row, str):
            problems.append(Problem(str(path), line, row))
        elif truth.setdefault(row[0], row[1]) != row[1]:
            problems.append(Problem(str(path), line, f"{row[0]} is {row[1]} here and {truth[row[0]]} above"))
    if not truth and not problems:
        problems.append(Problem(str(path), 0, "no line of it names an input and its label"))
    if problems:
        raise InputErrors(problems)
    return truth


def _csv(text: str) -> Iterable[tuple[int, tuple[str, str] | str]]:
    reader = csv.reader(text.splitlines())
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


def _json_lines(text: str) -> Iterable[tuple[int, tuple[str, str] | str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            yield number, (str(entry["input"]), str(entry["label"]))
        except (ValueError, KeyError, TypeError):
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
