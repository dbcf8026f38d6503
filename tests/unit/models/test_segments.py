"""Segments of a model that is stored for a pipeline: their order, and that they are this model's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from clusteradm.errors import UsageError
from clusteradm.lab.compiler import compile_model
from clusteradm.models import segments, upload
from clusteradm.models.split.split import split
from clusteradm.models.tflite.inspect import inspect
from clusteradm.node.spec.wire.manifest import Manifest
from clusteradm.node.spec.wire.repository import AddModel

DIGITS = Path(__file__).resolve().parents[3] / "clusteradm" / "lab" / "digits" / "digits.tflite"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The digits model in three, as compiled for the lab's TPUs."""
    folder = tmp_path_factory.mktemp("parts")
    found = []
    for piece in split(DIGITS, 3, "size", folder).pieces:
        path = piece.path.with_name(f"{piece.path.stem}_edgetpu.tflite")
        path.write_bytes(compile_model(piece.path.read_bytes(), piece.path.name))
        found.append(path)
    return found


def test_the_segments_are_files_of_the_version(parts: list[Path]) -> None:
    made = upload.prepare(DIGITS, "digits", parts=[parts[2], parts[0], parts[1]])
    files = [f"segment_{number}_of_3.tflite" for number in range(3)]
    assert sorted(made.files) == ["model.tflite", *files]
    assert [made.files[name] for name in files] == [path.read_bytes() for path in parts]
    assert [one.sha256 for one in made.manifest.segments] == [made.digests[name] for name in files]
    assert all(one.tpu_operations == 1 for one in made.manifest.segments)
    again = Manifest.from_json(json.loads(json.dumps(made.manifest.to_json())))
    assert again.segments[1].inputs[0].shape == (1, 7, 7, 64)
    assert any("and its segments with --pipeline 3" in text for text in made.warnings)
    assert "segments" not in upload.prepare(DIGITS, "digits").manifest.to_json()
    AddModel("/srv", "digits", None, made.digests, made.manifest)


@pytest.mark.parametrize("name", ["../x", "segment_0_of_300.tflite", "manifest.json", "segment_0_of_2.tflite.sh"])
def test_root_writes_no_other_file_into_a_version(name: str) -> None:
    with pytest.raises(ValueError, match="no file of a version"):
        AddModel("/srv", "digits", None, {name: "0"}, upload.prepare(DIGITS, "digits").manifest)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ((0, 1), "takes all the segments of one split"),
        ((0, 1, 1), "takes all the segments of one split"),
        ((0,), "takes 2 to 64 files, and not 1"),
    ],
)
def test_all_segments_of_one_split_are_wanted(chosen: Sequence[int], message: str, parts: list[Path]) -> None:
    with pytest.raises(UsageError, match=message):
        segments.ordered([parts[number] for number in chosen])


def test_names_of_ten_segments_and_more_are_in_the_order_of_their_numbers() -> None:
    paths = [Path(f"m_segment_{number}_of_11_edgetpu.tflite") for number in range(11)]
    assert segments.ordered(sorted(paths)) == paths
    assert segments.ordered([Path("b.tflite"), Path("a.tflite")]) == [Path("b.tflite"), Path("a.tflite")]


def test_segments_that_are_not_this_models_are_refused(parts: list[Path]) -> None:
    whole = inspect(DIGITS.read_bytes(), "whole")
    cut = [(path.name, inspect(path.read_bytes(), path.name)) for path in parts]
    segments.check(whole, cut)
    (first, one), (second, two), (third, three) = cut
    with pytest.raises(UsageError, match="the first segment takes"):
        segments.check(whole, [(second, two), (third, three)])
    with pytest.raises(UsageError, match="which no segment before it gives"):
        segments.check(whole, [(first, one), (third, three)])
    with pytest.raises(UsageError, match="no segment gives the model's output"):
        segments.check(whole, [(first, one), (second, two)])
    with pytest.raises(UsageError, match="as an earlier segment does"):
        segments.check(whole, [(first, one), (second, two), (second, two), (third, three)])
    # Of another training of the same network: the same names, other scales.
    other = replace(two, inputs=(replace(two.inputs[0], scale=9.5),))
    with pytest.raises(UsageError, match="are they of one and the same split"):
        segments.check(whole, [(first, one), (second, other), (third, three)])
