"""`clusteradm model split`: files, the table, the document, and the proof on the lab's digits."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clusteradm.cli.main import main
from clusteradm.models.split import by_schema
from clusteradm.models.split.split import Elsewhere, split
from clusteradm.models.tflite import rewriting
from clusteradm.models.tflite.inspect import inspect
from clusteradm.node.spec.wire import names
from clusteradm.testing import FakeHosts

from .conftest import Run, document

DIGITS = Path(__file__).resolve().parents[3] / "clusteradm" / "lab" / "digits" / "digits.tflite"


def test_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "split", str(DIGITS), "--segments", "3", "--output", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    names = [f"digits_segment_{number}_of_3.tflite" for number in range(3)]
    assert (
        [Path(one["file"]).name for one in document["segments"]] == names == sorted(p.name for p in tmp_path.glob("d*"))
    )
    assert sum(one["operations"] for one in document["segments"]) == 10
    assert sum(one["macs"] for one in document["segments"]) == 5_532_544
    assert (document["compared_inputs"], document["problem"]) == (3, None)
    assert document["measured_on"] is None
    models = [inspect((tmp_path / name).read_bytes(), name) for name in names]
    for before, after in itertools.pairwise(models):
        assert {one.name for one in after.inputs} <= {one.name for one in before.outputs}
        assert [(one.dtype, one.scale, one.zero_point) for one in after.inputs] == [
            (one.dtype, one.scale, one.zero_point) for one in before.outputs
        ]
    assert models[0].inputs == inspect(DIGITS.read_bytes(), "m").inputs


def test_the_table_and_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["model", "split", str(DIGITS), "--segments", "2", "--balance", "latency", "--output", str(tmp_path)]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measured_on"] == "this machine's CPU"
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "ms on a CPU" in lines[0] and lines[1].startswith("digits_segment_0_of_2.tflite")
    assert lines[3] == "in turn they give what the whole model gives, bit by bit, on 3 random inputs"
    note = lines.index(f"next: edgetpu_compiler -s -o {tmp_path} {tmp_path / 'digits_segment_0_of_2.tflite'}")
    assert " ".join(lines[4:note]).startswith("the times are of this machine's CPU, by which the segments are balanced")


def test_times_of_another_host(
    tmp_path: Path, inventory: Path, hosts: FakeHosts, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """A host on which one operation, the fifth, takes as long as all the others together."""
    words = ["model", "split", DIGITS, "--segments", 2, "--balance", "latency", "--output", tmp_path, "--host", "w1"]

    def times(fields: Mapping[str, Any]) -> dict[str, Any]:
        parts = [inspect(hosts["w1"].blobs[digest], "m") for digest in fields["models"]]
        counts = [sum(part.cpu_operations.values()) for part in parts]
        return {"milliseconds": [float(count + 10 * (count >= 5)) for count in counts]}

    hosts["w1"].answer(names.MODEL_TIMES, times)
    found = document(run(*words, "--json"))
    assert found["measured_on"] == "w1's CPU"
    assert sum(one["milliseconds"] for one in found["segments"]) == 20
    assert [one["operations"] for one in found["segments"]] in ([4, 6], [5, 5])
    hosts["w1"].answer(names.MODEL_TIMES, times)
    assert "the times are of w1's CPU" in " ".join(run(*words).split())
    for answer, why in (
        ({"milliseconds": [1.0], "refused": "out of memory"}, "it cannot measure the model on its CPU: out of memory"),
        ({"milliseconds": []}, "it cannot measure the model on its CPU: no times"),
    ):
        hosts["w1"].answer(names.MODEL_TIMES, answer)
        assert main([*map(str, words)]) == 3
        told = capsys.readouterr().err
        assert why in told and "clusteradm health --limit w1" in told
    assert main([*map(str, words[:-1]), "w7"]) == 2
    assert "no such host: w7" in capsys.readouterr().err
    assert main(["model", "split", str(DIGITS), "--segments", "2", "--host", "w1"]) == 2
    assert "--host is of use with --balance latency alone, not size" in capsys.readouterr().err


def test_a_part_that_chance_made_slow_says_nothing_about_the_later_ones(tmp_path: Path) -> None:
    def times(parts: Sequence[bytes], slow: int = -1) -> list[float]:
        counts = [sum(inspect(part, "m").cpu_operations.values()) for part in parts]
        return [99.0 if number == slow else float(count) for number, count in enumerate(counts)]

    right = split(DIGITS, 2, "latency", tmp_path, Elsewhere("w1", times))
    assert sum(one.milliseconds or 0 for one in right.pieces) == 10
    disturbed = split(DIGITS, 2, "latency", tmp_path, Elsewhere("w1", lambda parts: times(parts, slow=1)))
    assert sum(one.milliseconds or 0 for one in disturbed.pieces) == 10
    assert [one.segment for one in disturbed.pieces] == [one.segment for one in right.pieces]


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for count, text in (("11", "cannot be split into 11 segments: of its 10 operations, 9 can begin a new one"),):
        assert main(["model", "split", str(DIGITS), "--segments", count, "--output", str(tmp_path)]) == 2
        assert text in capsys.readouterr().err
    assert main(["model", "split", str(DIGITS), "--segments", "2", "--output", str(tmp_path / "none")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert list(tmp_path.glob("digits*")) == []


def test_a_segment_that_differs_is_found(tmp_path: Path) -> None:
    assert main(["model", "split", str(DIGITS), "--segments", "2", "--output", str(tmp_path)]) == 0
    paths = [str(path) for path in sorted(tmp_path.glob("digits_segment_*"))]
    writer = by_schema.Writer(DIGITS)
    assert by_schema.differences(writer, paths) == []
    model = rewriting.unpacked(Path(paths[0]).read_bytes())
    weights = max(model.buffers, key=lambda buffer: 0 if buffer.data is None else len(buffer.data))
    weights.data = np.zeros_like(weights.data)
    Path(paths[0]).write_bytes(rewriting.packed(model))
    assert by_schema.differences(writer, paths) == ["StatefulPartitionedCall_1:0"]
