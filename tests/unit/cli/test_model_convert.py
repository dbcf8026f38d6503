"""`clusteradm model convert` and `explain-log`: real conversions of small sets, the compiler's log, what is refused."""

from __future__ import annotations

import io
import json
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from clusteradm.cli import model_convert
from clusteradm.cli.main import main
from clusteradm.errors import UsageError
from clusteradm.jobs import LocalInputs, converting, resolve
from clusteradm.jobs.converting import Converted, Plan
from clusteradm.models import edgetpu_compiler
from clusteradm.models.convert.source import look
from clusteradm.models.tflite.inspect import inspect

FLOATS = Path(__file__).resolve().parents[3] / "clusteradm" / "lab" / "digits" / "digits_float.tflite"
COMPILER = """\
#!/bin/sh
# As edgetpu_compiler -s -t SECONDS -o FOLDER MODEL
cp "$6" "$5/model_edgetpu.tflite"
echo "Edge TPU Compiler version 16.0.384591198"
echo "Model compiled successfully in 17 ms."
echo "Input model: $6"
echo "Output model: $5/model_edgetpu.tflite"
echo "On-chip memory used for caching model parameters: 80.00KiB"
echo "Off-chip memory used for streaming uncached model parameters: 0.00B"
echo "Number of operations that will run on Edge TPU: 9"
echo "Number of operations that will run on CPU: 1"
echo "CONV_2D    9   Mapped to Edge TPU"
echo "SOFTMAX    1   More than one subgraph is not supported"
"""
FAILING = """\
#!/bin/sh
echo "Edge TPU Compiler version 16.0.384591198"
echo "Internal compiler error. Aborting!"
exit 1
"""


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Some calibration inputs; to the path of their file."""
    path = tmp_path / "inputs.npy"
    np.save(path, np.random.default_rng(0).random((12, 28, 28, 1), np.float32))
    return path


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program that is found as edgetpu_compiler; to be written."""
    folder = tmp_path / "bin"
    folder.mkdir()
    path = folder / edgetpu_compiler.PROGRAM
    path.write_text(COMPILER)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return path


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """A real conversion."""
    path = tmp_path_factory.mktemp("converted") / "inputs.npy"
    np.save(path, np.random.default_rng(0).random((12, 28, 28, 1), np.float32))
    inputs = resolve([str(path)])
    assert isinstance(inputs, LocalInputs)
    return converting.convert(
        look(FLOATS), inputs, Plan(), path.with_name("m.tflite"), lambda text: None, lambda what, done, total: None
    )


@pytest.fixture
def at_once(converted: Converted, monkeypatch: pytest.MonkeyPatch) -> None:
    """For what comes after a conversion: it has been done."""
    monkeypatch.setattr(converting, "convert", lambda *arguments: converted)


def convert(inputs: Path, *more: str) -> int:
    output = inputs.with_name("m.tflite")
    return main(["model", "convert", str(FLOATS), "--calibration", str(inputs), "--output", str(output), *more])


def test_convert(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(inputs) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0].endswith(
        "input uint8 1x28x28x1 (scale 0.00392135, zero 0), output uint8 1x10 (scale 0.00390625, zero 0)"
    )
    assert lines[1].startswith("calibrated with 12 inputs: arrays, values from ")
    assert lines[3].split()[:2] == ["bytes", "285,416"]
    assert "on an Edge TPU: at most 10 of 10 operations" in lines
    assert lines[-1].startswith(
        f"next: edgetpu_compiler -s -o {inputs.parent} {inputs.with_name('m.tflite')}, then clusteradm deploy-model "
    )
    assert "warning: calibrated with 12 inputs only" in told.err
    found = inspect(inputs.with_name("m.tflite").read_bytes(), "m")
    assert (found.inputs[0].dtype, found.inputs[0].shape, found.inputs[0].dynamic) == ("uint8", (1, 28, 28, 1), False)


def test_the_document_and_the_compiler(inputs: Path, compiler: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = inputs.with_name("truth.csv")
    truth.write_text("input,label\n" + "".join(f"inputs.npy[{n}],8\n" for n in range(12)))
    assert convert(inputs, "--json", "--ends", "int8", "--truth", str(truth), "--compile") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "model convert" and document["model"]["inputs"][0]["dtype"] == "int8"
    assert document["calibration"]["inputs"] == document["same_first_answer"] == 12
    before, after = document["accuracy"]["float"], document["accuracy"]["int8"]
    assert before["labelled"] == after["labelled"] == 12 and before["right"] == after["right"]
    assert document["compiled"] == str(inputs.with_name("m_edgetpu.tflite"))
    assert Path(document["compiled"]).read_bytes() == inputs.with_name("m.tflite").read_bytes()
    compiled, output = document["compiled"], str(inputs.with_name("m.tflite"))
    assert (document["log"]["input"], document["log"]["output"]) == (output, compiled)
    assert document["model"]["file"] == output
    mends = [one["mend"] for one in document["model"]["obstacles"]]
    assert mends == [f"edgetpu_compiler -s -o {inputs.parent} {output}"]
    assert (document["log"]["on_tpu"], document["log"]["on_cpu"], document["log"]["cached_bytes"]) == (9, 1, 81920)


def test_a_compiled_model_that_cannot_be_written(
    at_once: None, inputs: Path, compiler: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs.with_name("m_edgetpu.tflite").mkdir()
    assert convert(inputs, "--compile") == 2
    assert "m_edgetpu.tflite: cannot write the compiled model: " in capsys.readouterr().err
    assert inputs.with_name("m.tflite").is_file()


def test_a_compiler_that_cannot_be_started(inputs: Path, compiler: Path) -> None:
    compiler.write_text("no program")
    with pytest.raises(UsageError, match=r"edgetpu_compiler: cannot start edgetpu_compiler: Exec format error"):
        edgetpu_compiler.compile_file(FLOATS, inputs.with_name("m_edgetpu.tflite"))


def test_what_the_compiler_refuses(
    at_once: None, inputs: Path, compiler: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compiler.write_text(FAILING)
    assert convert(inputs, "--compile") == 2
    assert "edgetpu_compiler cannot compile it: the compiler gave up" in capsys.readouterr().err
    assert not inputs.with_name("m_edgetpu.tflite").exists()


def test_commands_that_are_printed_are_for_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("my models/it's.tflite")
    first, then = model_convert._next(path, "--mean 0 --std 255").split(", then ")
    assert shlex.split(first) == ["edgetpu_compiler", "-s", "-o", "my models", str(path)]
    compiled = ["my models/it's_edgetpu.tflite", "--name", "NAME", "--mean", "0", "--std", "255"]
    assert shlex.split(then) == ["clusteradm", "deploy-model", *compiled]
    monkeypatch.setattr(model_convert, "_is_lab", lambda: True)
    first, _ = model_convert._next(path, "").split(", then ")
    assert shlex.split(first) == ["clusteradm", "lab", "compile-model", str(path)]


def test_labels_are_those_of_the_network_s_classes(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = inputs.with_name("labels.txt")
    truth = inputs.with_name("truth.csv")
    labels.write_text("zero\none\ntwo\n")
    assert convert(inputs, "--labels", str(labels)) == 2
    assert "3 labels, but the model has 10 classes" in capsys.readouterr().err
    assert not inputs.with_name("m.tflite").exists()
    # Numbered from 1 on, as label maps are: class 0 has the first.
    labels.write_text("".join(f"{number} digit-{number - 1}\n" for number in range(1, 11)))
    answers = run_floats(inputs)
    lines = [f"inputs.npy[{row}],digit-{answer}\n" for row, answer in enumerate(answers)]
    truth.write_text("".join(["input,label\n", *lines]))
    capsys.readouterr()
    assert convert(inputs, "--labels", str(labels), "--truth", str(truth), "--json") == 0
    found = json.loads(capsys.readouterr().out)["accuracy"]["float"]
    assert (found["labelled"], found["right"]) == (12, 12)


def run_floats(inputs: Path) -> list[int]:
    """The first answer of the float network to each input."""
    interpreter = Interpreter(model_path=str(FLOATS))
    interpreter.allocate_tensors()
    found = []
    for row in np.load(inputs):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row[None])
        interpreter.invoke()
        found.append(int(np.argmax(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))))
    return found


@pytest.mark.parametrize(
    ("labels", "text"),
    [("one\ntwo\n", "2 labels"), ("item { id: 1 name: 'a' }\nitem { id: 9999999 ", "labels inside it are left out")],
)
def test_labels_inside_that_cannot_be_its_own_are_a_warning(
    labels: str, text: str, inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, archive = inputs.with_name("labelled.tflite"), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("labels.txt", labels)
    source.write_bytes(FLOATS.read_bytes() + archive.getvalue())
    output = str(inputs.with_name("m.tflite"))
    assert main(["model", "convert", str(source), "--calibration", str(inputs), "-o", output]) == 0
    told = capsys.readouterr().err
    assert "warning: the labels inside it are left out: " in told and text in told
    assert "give others by --labels" in told


def test_without_a_compiler_the_command_to_run_elsewhere(
    at_once: None, inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(inputs, "--compile") == 2
    told = capsys.readouterr().err
    assert f"m.tflite is written, but {edgetpu_compiler.PROGRAM} is not on this machine's PATH" in told
    assert f"edgetpu_compiler -s -o {inputs.parent} {inputs.with_name('m.tflite')}\n" in told


def test_in_a_lab_its_compiler(at_once: None, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusteradm.cli.model_convert.LABS", tmp_path)  # the inventory of the tests is in there
    assert convert(inputs, "--compile") == 0
    assert inspect(inputs.with_name("m_edgetpu.tflite").read_bytes(), "m").tpu_operations == 1


def test_pictures_and_how_they_are_fed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(
        tmp_path / "inputs.npy",
        np.full((12, 28, 28, 1), 100, np.uint8) + np.arange(12, dtype=np.uint8)[:, None, None, None],
    )
    assert convert(tmp_path / "inputs.npy", "--mean", "0", "--std", "255") == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[1]
        == "calibrated with 12 inputs: pictures of 28x28 grey, (pixel - 0) / 255, values from 0.392157 to 0.435294"
    )
    # The range of these inputs is not that of all pixels: deploy-model has to be told.
    assert lines[-1].endswith("--name NAME --mean 0 --std 255")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("nan", "inputs.npy[3]: it has NaN or infinity"),
        ("shape", "inputs.npy: not an input for this model: it has shape 12x27x28x1; the model takes 1x28x28x1"),
        ("constant", "all numbers of all calibration inputs are 0: they tell no range"),
        ("picture", "broken.png: not a picture that can be read"),
    ],
)
def test_calibration_inputs_that_are_refused(
    change: str, text: str, inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.load(inputs)
    if change == "nan":
        values[3, 5, 5, 0] = np.nan
    np.save(inputs, values[:, 1:] if change == "shape" else values * 0 if change == "constant" else values)
    if change == "picture":
        inputs = inputs.with_name("broken.png")
        inputs.write_bytes(b"\x89PNG\r\n\x1a\n")
    assert convert(inputs) == 2
    told = capsys.readouterr().err
    assert text in told and (change == "constant" or "calibration inputs cannot be used" in told)
    assert not inputs.with_name("m.tflite").exists()


def test_options_that_are_refused_before_the_work(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["model", "convert", str(FLOATS), "--calibration", str(inputs), "--output"]
    for output, text in (("m.bin", "does not end in .tflite"), ("none/m.tflite", "folder of --output does not exist")):
        assert main([*words, output]) == 2
        assert text in capsys.readouterr().err
    assert main(["model", "convert", str(FLOATS), "--calibration", "head:x", "--output", "m.tflite"]) == 2
    assert "calibration inputs are of this machine" in capsys.readouterr().err


def test_ctrl_c_ends_the_converter(tmp_path: Path) -> None:
    np.save(tmp_path / "inputs.npy", np.random.default_rng(0).random((4000, 28, 28, 1), np.float32))
    words = ["model", "convert", str(FLOATS), "--calibration", "inputs.npy", "--output", "m.tflite"]
    process = subprocess.Popen(
        [sys.executable, "-m", "clusteradm", *words], cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stderr is not None
    said = b""
    while b"calibrating" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    process.stderr.close()
    end = time.monotonic() + 30
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < end:
        time.sleep(0.05)
    assert children and not any(Path(f"/proc/{child}").exists() for child in children)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".tflite") == []


def test_explain_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "m.log"
    log.write_text(
        "Edge TPU Compiler version 16.0.384591198\nCONV_2D 3 Mapped to Edge TPU\nCAST 1 Operation not supported\n"
    )
    assert main(["model", "explain-log", str(log)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "the model: compiled by compiler 16.0.384591198, for Edge TPU runtime 14 or newer"
    assert lines[3].split()[:3] == ["CAST", "1", "CPU"] and "an Edge TPU has no such operation" in lines[3]
    assert main(["model", "explain-log", str(log), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["logs"][0]["on_cpu"] == 1
    log.write_text("nothing")
    assert main(["model", "explain-log", str(log)]) == 2
