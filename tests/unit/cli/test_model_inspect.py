"""`clusteradm model inspect`: the view, the document, and what is refused; without an inventory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clusteradm.cli.main import main

DIGITS = Path(__file__).resolve().parents[3] / "clusteradm" / "lab" / "digits" / "digits.tflite"


def test_the_view(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["model", "inspect", str(DIGITS)]) == 0
    lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines() if not line.startswith(" "))
    assert lines["task"] == "classifier: one row of 10 scores from 0 to 1"
    assert "70,122 parameters, 5.5 million multiply-accumulates" in lines["size"]
    assert lines["Edge"].split(None, 1)[1] == "not compiled; at most 10 of 10 operations would run on one"
    assert lines["labels"] == "none inside"


def test_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "inspect", str(DIGITS), str(DIGITS), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "model inspect" and len(document["models"]) == 2
    one = document["models"][0]
    assert one["task"]["kind"] == "classifier" and one["compiled"] is None
    assert one["forecast"] == {"mapped": 10, "total": 10, "first": "", "reason": ""}
    assert one["operations"] == {"CONV_2D": 5, "QUANTIZE": 2, "MEAN": 1, "FULLY_CONNECTED": 1, "SOFTMAX": 1}
    assert one["obstacles"][0]["mend"] == f"edgetpu_compiler -s -o {DIGITS.parent} {DIGITS}"


@pytest.mark.parametrize("content", [b"", b"PK\3\4 a zip", DIGITS.read_bytes()[:5000]])
def test_what_is_no_model(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    assert main(["model", "inspect", str(path)]) == 2
    assert str(path) in capsys.readouterr().err
    assert main(["model", "inspect", str(tmp_path / "none.tflite")]) == 2
    assert "No such file" in capsys.readouterr().err
