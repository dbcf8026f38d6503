"""Time that an inference takes on a host's CPU: models are run as ranks run them, and nothing of them is left."""

from __future__ import annotations

import getpass
import hashlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ai_edge_litert")

from clusteradm.lab import digits
from clusteradm.node import blobs
from clusteradm.node.models import times

DIGITS = Path(digits.__file__).with_name("digits.tflite").read_bytes()


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The host's folder for temporary files."""
    monkeypatch.setenv("CLUSTERADM_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(times, "PYTHON", sys.executable)
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def measured(*models: bytes) -> dict[str, Any]:
    digests = [hashlib.sha256(model).hexdigest() for model in models]
    for digest, model in zip(digests, models, strict=True):
        Path(blobs.path_of(digest)).write_bytes(model)
    found = times.measure({"user": getpass.getuser(), "models": digests}, lambda part: None)
    assert not any(Path(blobs.path_of(digest)).exists() for digest in digests)
    return found


def test_models_in_their_order(host: Path) -> None:
    found = measured(DIGITS, (Path(digits.__file__).with_name("digits_float.tflite")).read_bytes())
    assert found["refused"] is None and len(found["milliseconds"]) == 2
    assert all(0 < one < 10_000 for one in found["milliseconds"])
    assert list(host.iterdir()) == []


def test_one_that_cannot_be_run_says_why(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured(DIGITS, b"no model")
    assert len(found["milliseconds"]) == 1 and "model" in found["refused"].lower()
    assert list(host.iterdir()) == []
    monkeypatch.setattr(times, "PYTHON", str(host / "none"))
    assert measured() == {"milliseconds": (), "refused": "it has no runtime yet: run clusteradm bootstrap"}


def test_a_process_that_a_model_ends() -> None:
    ended = {"out": '{"ms": 1.5}\nnoise\n', "err": [], "status": -11, "timeout": False}
    assert vars(times._judged(ended, 2)) == {"milliseconds": (1.5,), "refused": "its runtime ends by signal 11"}
    late = {"out": "", "err": [], "status": None, "timeout": True}
    assert times._judged(late, 1).refused == "it did not end within 600 s"
    assert times._judged({**late, "timeout": False, "status": 1, "err": ["a", "No module"]}, 1).refused == "No module"
