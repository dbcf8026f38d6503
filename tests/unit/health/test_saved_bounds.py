"""What a saved survey may hold: what a host may say, and nothing that costs more than its size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clusteradm.errors import InputErrors
from clusteradm.health import saved
from clusteradm.health.reading import Reading

SURVEY = Path(__file__).resolve().parents[2] / "fixtures" / "health" / "survey.json"


def whole() -> Any:
    return json.loads(SURVEY.read_text())


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"documents": ' * 100_000,
        '{"schema_version": ' + "9" * 5000 + "}",
        '{"schema_version": NaN}',
        "[" + "{}," * 5_100_000 + "{}]",
        "\ufeff{}",
        "[]",
        '{"schema_version": "1"}',
    ],
    ids=["lists", "objects", "digits", "NaN", "values", "BOM", "list", "version"],
)
def test_what_is_no_survey_is_said_so(text: str, tmp_path: Path) -> None:
    file = tmp_path / "survey.json"
    file.write_text(text)
    with pytest.raises(InputErrors, match="not a survey that"):
        saved.read(file)


def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(InputErrors, match="larger than 128 MiB"):
        saved.read(Path("/dev/zero"))


@pytest.mark.parametrize("odd", ['"\\ud800"', "1e999", "36893488147419103232"])
def test_a_value_that_no_host_may_send_is_refused(odd: str, tmp_path: Path) -> None:
    body = whole()
    next(iter(body["documents"].values()))["system"]["odd"] = "ODD"
    file = tmp_path / "survey.json"
    file.write_text(json.dumps(body).replace('"ODD"', odd))
    with pytest.raises(InputErrors, match="not a survey that"):
        saved.read(file)


@pytest.mark.parametrize("taken", ["nan", 1e300, -1, "x", None, True])
def test_a_time_that_no_calendar_has_is_unknown(taken: Any, tmp_path: Path) -> None:
    file = tmp_path / "survey.json"
    file.write_text(json.dumps({**whole(), "taken": taken}))
    assert saved.read(file)[0].taken == 0


def test_what_is_too_long_to_make_sense_is_absent() -> None:
    odd = Reading(
        {"text": "x" * (1 << 17), "number": "9" * 5000, "whole": int("9" * 4000), "list": ["a", "x" * (1 << 17)]}
    )
    assert odd.text("text") is None
    assert odd.integer("number") is None and odd.number("number") is None
    assert odd.integer("whole") is None and odd.number("whole") is None
    assert odd.texts("list") == ("a",)
