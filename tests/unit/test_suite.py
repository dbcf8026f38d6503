"""What `make test` does with a test that fails: once more, alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = """
import pathlib, pytest

@pytest.mark.parametrize("number", range({count}))
def test_first_time(number):
    mark = pathlib.Path(__file__).with_name(f"mark{{number}}")
    before = mark.exists()
    mark.touch()
    assert before or {well}

def test_well():
    pass
"""


@pytest.mark.parametrize(
    ("count", "well", "status", "said"),
    [(2, True, 0, ""), (2, False, 0, "passed alone"), (7, False, 1, "7 failed"), (1, "number", 1, "Once more, alone")],
)
def test_what_fails_runs_once_more_alone(tmp_path: Path, count: int, well: object, status: int, said: str) -> None:
    text = TESTS.format(count=count, well=well)
    if well == "number":
        text = text.replace("mark.touch()", "pass")
    (tmp_path / "test_it.py").write_text(text)
    command = [sys.executable, str(ROOT / "tests" / "suite.py"), "-q", "-p", "no:xdist", "test_it.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert (done.returncode, said in done.stdout) == (status, True), done.stdout
    assert ("passed alone" in done.stdout) == (said == "passed alone")
