"""--mean, --std and --layout: numbers or a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusteradm.cli.main import main
from clusteradm.lab import digits

MODEL = str(Path(digits.__file__).with_name("digits.tflite"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mean", "127.5"], "--mean and --std are given together"),
        (["--std", "1"], "--mean and --std are given together"),
        (["--mean", "0", "--std", "0"], "--std is more than 0"),
        (["--mean", "0", "--std", "-1"], "--std is more than 0"),
        (["--mean", "1,2", "--std", "1"], "'1,2' is not one number, nor one for each of 3 or 4 channels"),
        (["--mean", "nan", "--std", "1"], "'nan' is not one number"),
        (["--mean", "x", "--std", "1"], "'x' is not one number"),
        (["--mean", "1,2,3", "--std", "1"], "a mean and a deviation for 3 channels; its pictures have 1"),
        (["--layout", "nchw"], "--mean, --std, --layout and --fit do not fit the model"),
        (["--layout", "up"], "invalid choice"),
    ],
)
def test_wrong_options_end_before_any_connection(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["deploy-model", MODEL, "--name", "m", *words])
    except SystemExit as end:
        status = int(str(end.code))
    assert (status, said in capsys.readouterr().err) == (2, True)
