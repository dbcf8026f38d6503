"""Compiling of several models in one run, by a program in the compiler's place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusteradm.cli.main import main
from clusteradm.models import edgetpu_compiler
from clusteradm.models.upload import prepare

from .conftest import darwinn_package

# As edgetpu_compiler -s -t SECONDS -o FOLDER MODEL..., which writes of each what is beside this program.
COMPILER = """\
#!/bin/sh
echo "$@" >"$0.words"
shift 4
folder=$1
shift
echo "Edge TPU Compiler version 16.0.384591198"
for model; do
    name=$(basename "$model" .tflite)
    cp "$(dirname "$0")/$name.made" "$folder/${name}_edgetpu.tflite" || exit 1
    echo "Model compiled successfully in 17 ms."
    echo
    echo "Input model: $model"
    echo "Output model: $folder/${name}_edgetpu.tflite"
    echo "On-chip memory used for caching model parameters: 80.00KiB"
    echo "Number of operations that will run on Edge TPU: 9"
    echo
done
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: Callable[..., bytes]) -> Path:
    """Two models, and a compiler that gives them one token."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / edgetpu_compiler.PROGRAM
    program.write_text(COMPILER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    for number, name in enumerate(("faces", "people")):
        (tmp_path / f"{name}.tflite").write_bytes(b"a model")
        made = compiled(darwinn_package(14, 300 + number, 40, token=0xAB), shape=(1, 4, 4, 1 + number))
        (tmp_path / "bin" / f"model{number}.made").write_bytes(made)
    (tmp_path / "bin" / "model.made").write_bytes(made)
    return tmp_path


def compile_both(folder: Path, *more: object, status: int = 0) -> None:
    words = ["model", "compile", folder / "faces.tflite", folder / "people.tflite", *more]
    assert main([str(word) for word in words]) == status


def test_several_are_compiled_in_one_run_and_their_manifests_say_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "out"
    out.mkdir()
    compile_both(folder, "-o", out, "--json")
    models: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["models"]
    assert [(Path(one["output"]).name, one["cached_bytes"], one["tokens"]) for one in models] == [
        ("faces_edgetpu.tflite", 300, ["00000000000000ab"]),
        ("people_edgetpu.tflite", 301, ["00000000000000ab"]),
    ]
    assert models[0]["shares_with"] == [str(out / "people_edgetpu.tflite")]
    words = (folder / "bin" / f"{edgetpu_compiler.PROGRAM}.words").read_text().split()
    assert [Path(word).name for word in words[-2:]] == ["model0.tflite", "model1.tflite"]
    manifests = [prepare(Path(one["output"]), "m", None).manifest for one in models]
    assert [manifest.tokens for manifest in manifests] == [("00000000000000ab",)] * 2
    assert manifests[0].to_json()["tokens"] == ("00000000000000ab",)


def test_the_table_says_who_shares_and_what_is_next(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compile_both(folder)
    told = capsys.readouterr()
    assert "people_edgetpu.tflite" in told.out.splitlines()[1]
    assert f"clusteradm deploy-model {folder / 'faces_edgetpu.tflite'} --name NAME" in told.err


def test_nothing_is_written_unless_all_are_compiled(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bin" / "model1.made").unlink()
    compile_both(folder, status=2)
    assert "people.tflite" in capsys.readouterr().err
    assert not list(folder.glob("*_edgetpu.tflite"))


@pytest.mark.parametrize("more", [["-o", "{folder}/nowhere"], ["{folder}/none.tflite"], ["{folder}/bin/faces.tflite"]])
def test_what_cannot_be_is_refused_before_anything_runs(folder: Path, more: list[str]) -> None:
    (folder / "bin" / "faces.tflite").write_bytes(b"another")
    options = ["-o", str(folder)] if more[0].endswith("bin/faces.tflite") else []
    compile_both(folder, *(word.format(folder=folder) for word in more), *options, status=2)
    assert not (folder / "bin" / f"{edgetpu_compiler.PROGRAM}.words").exists()


def test_without_the_compiler_the_command_for_elsewhere_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bin" / edgetpu_compiler.PROGRAM).unlink()
    compile_both(folder, status=2)
    told = capsys.readouterr().err
    assert f"edgetpu_compiler -s -o {folder} {folder / 'faces.tflite'} {folder / 'people.tflite'}" in told
