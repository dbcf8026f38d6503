"""The trial of a deployed model by the runtime of the ranks: loaded, refused, crashed; and what is not its fault."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path

import pytest

pytest.importorskip("ai_edge_litert")

from graphs import End, Step, build

from clusteradm.lab import compiler, digits
from clusteradm.node.models import loading
from clusteradm.node.spec.wire.repository import FOR_CPU, FOR_TPU

MODEL = Path(digits.__file__).with_name("digits.tflite")


LOADED, NOT_TRIED = loading.Trial(True), loading.Trial(False)


def trial(path: Path, target: str = FOR_CPU, python: str = sys.executable) -> loading.Trial:
    return loading.trial(getpass.getuser(), str(path), target, python)


def test_a_model_that_loads(tmp_path: Path) -> None:
    assert trial(MODEL) == LOADED
    compiled = tmp_path / "compiled.tflite"
    compiled.write_bytes(compiler.compile_model(MODEL.read_bytes(), ""))
    assert trial(compiled, FOR_TPU) == LOADED


def test_what_the_runtime_does_not_know_is_its_own_words(tmp_path: Path) -> None:
    ends = [End((1, 4)), End((1, 4))]
    newer = tmp_path / "newer.tflite"
    newer.write_bytes(build(ends, [Step("MAXIMUM", (0, 0), (1,), version=99)]))
    assert "builtin opcode 'MAXIMUM' version '99'" in str(trial(newer).refused)
    custom = tmp_path / "custom.tflite"
    custom.write_bytes(build(ends, [Step("FlexErf", (0,), (1,))]))
    assert "FlexErf" in str(trial(custom).refused)


def test_a_crash_is_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "ai_edge_litert"
    fake.mkdir()
    (fake / "__init__.py").touch()
    (fake / "interpreter.py").write_text("import os\ndef Interpreter(**_):\n    os.kill(os.getpid(), 11)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert trial(MODEL) == loading.Trial(True, "its runtime ends by signal 11 when it loads the model")


def test_a_host_without_a_runtime_says_nothing_about_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trial(MODEL, python=str(tmp_path / "no-python")) == NOT_TRIED
    for name in ("ai_edge_litert", "tflite_runtime"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert trial(MODEL) == NOT_TRIED
    assert trial(tmp_path / "no-model.tflite") == NOT_TRIED
