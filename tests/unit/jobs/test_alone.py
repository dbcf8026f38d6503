"""Work of a rank on this machine: answers and tensors as files, by the number of the output, and what has no room."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from made_models import Made

from clusteradm.jobs import converting
from clusteradm.jobs.alone import Alone, Answers
from clusteradm.jobs.inputs import LocalInputs, resolve
from clusteradm.models.tflite.inspect import inspect
from clusteradm.node.edgetpu.tensors import BadInput
from clusteradm.node.job import alone as child
from clusteradm.node.spec.wire.job import InputForm

FORM = InputForm("float32", (1, 4), None, 0)


def inputs(folder: Path, count: int) -> LocalInputs:
    """An array of so many rows of 4 numbers: row N is N + 1."""
    np.save(folder / "inputs.npy", np.arange(1, count + 1, dtype=np.float32)[:, None] * np.ones((1, 4), np.float32))
    found = resolve([str(folder / "inputs.npy")])
    assert isinstance(found, LocalInputs)
    return found


def many_outputs(count: int) -> bytes:
    """Output N is N times the input."""
    made = Made()
    entry, ends = made.tensor((1, 4), "float32"), []
    for number in range(count):
        ends.append(made.tensor((1, 4), "float32"))
        factor = made.tensor((1, 4), "float32", np.full((1, 4), number, "<f4"))
        made.add("MUL", [entry, factor], [ends[-1]], schema.BuiltinOptions.MulOptions, schema.MulOptionsT())
    return made.content([entry], ends)


def test_outputs_are_kept_by_their_number(tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(many_outputs(13))
    found = Alone(inputs(tmp_path, 2), tmp_path).answers(model, FORM, (), 1, lambda done, total: None)
    assert list(found.outputs) == list(range(13))
    for number, path in found.outputs.items():
        assert np.load(path).reshape(2, 4).tolist() == [[number] * 4, [2 * number] * 4]
    about = inspect(model.read_bytes(), "m")
    pairs = [(one.name, one.high) for one in converting._outputs(about, found, found)]
    assert pairs == [(one.name, 2.0 * number) for number, one in enumerate(about.outputs)]


class FakeEngine:
    """A model of three outputs of which the middle one is no number."""

    def __init__(self, content: bytes, device: None, threads: int) -> None:
        self.input = {"shape": (1, 4), "dtype": np.float32, "quantization": (0.0, 0)}
        self.outputs = [{"shape": (1, 4), "dtype": np.float32, "quantization": (0.0, 0), "name": n} for n in "abc"]

    def invoke(self, tensor: Any) -> list[Any]:
        return [tensor, tensor.astype(np.complex64), -tensor]


def work(folder: Path, count: int) -> child.Alone:
    """The child's work, in this process."""
    Alone(inputs(folder, count), folder)
    files = [("inputs.npy", (folder / "inputs.npy").stat().st_size, None, None)]
    return child.Alone({"pack": str(folder / "inputs.pack"), "files": files, "input": {**vars(FORM), "shape": [1, 4]}})


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    last: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return last


def run(folder: Path, count: int, most: int = 1 << 20) -> None:
    (folder / "m").touch()
    work(folder, count).answers(str(folder / "m"), str(folder / "results"), str(folder), 1, most)


def test_an_output_that_is_no_number_shifts_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(child, "Engine", FakeEngine)
    run(tmp_path, 2)
    about = said(capsys)
    assert (about["outputs"], about["kept"]) == ([0, 2], 2)
    assert np.load(tmp_path / "output-2.npy").reshape(2, 4)[1].tolist() == [-2.0] * 4
    tensors = SimpleNamespace(outputs=[SimpleNamespace(name=name) for name in "abc"])
    answers = Answers((), {number: tmp_path / f"output-{number}.npy" for number in about["outputs"]}, 2)
    model: Any = tensors
    assert [(one.name, one.low) for one in converting._outputs(model, answers, answers)] == [("a", 1.0), ("c", -2.0)]


def test_outputs_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(child, "Engine", FakeEngine)
    run(tmp_path, 9, most=5 * 32 + 31)  # 32 bytes for each input
    assert said(capsys)["kept"] == 5 and len((tmp_path / "results").read_text().splitlines()) == 9
    assert np.load(tmp_path / "output-0.npy").reshape(5, 4)[4].tolist() == [5.0] * 4
    run(tmp_path, 9, most=1)
    about = said(capsys)
    assert (about["kept"], about["outputs"]) == (0, [])


@pytest.mark.parametrize("full", ["before", "meanwhile"])
def test_a_full_disk_is_an_error_that_names_tmpdir(
    full: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(child, "Engine", FakeEngine)
    if full == "before":
        monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=1, f_frsize=16))
    else:

        def refuse(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(BadInput, match=r"no room for .* bytes in .*: set TMPDIR"):
        run(tmp_path, 3)
    with pytest.raises(BadInput, match=r"no room for .* bytes in .*: set TMPDIR"):
        work(tmp_path, 3).tensors(str(tmp_path / "tensors.npy"), 1 << 20)
