"""Models with several inputs: arrays of an .npz file by their names, whatever order they come in."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from graphs import End, Step, build

from clusteradm.node.edgetpu.engine import Engine
from clusteradm.node.edgetpu.tensors import BadInput, Several
from clusteradm.node.job import pack
from clusteradm.node.job.pack import Entry
from clusteradm.node.spec.wire.job import InputForm

FORMS = (
    InputForm("float32", (1, 4), name="serving_default_left:0"),
    InputForm("uint8", (1, 2), 0.5, 10, name="right"),
)


def npz(save: Any = np.savez, **arrays: Any) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def lines(folder: Path, data: bytes, name: str = "a.npz", forms: tuple[InputForm, ...] = FORMS) -> list[Any]:
    (folder / "pack").write_bytes(data)
    entries = [Entry(name, 0, len(data))]
    return list(pack.index(str(folder / "pack"), entries, *map(pack.wanted, forms)))


def details(forms: tuple[InputForm, ...]) -> list[dict[str, Any]]:
    return [
        {"name": one.name, "shape": one.shape, "dtype": one.dtype, "quantization": (one.scale or 0.0, one.zero_point)}
        for one in forms
    ]


def fed(folder: Path, found: list[Any], known: list[dict[str, Any]], forms: tuple[InputForm, ...] = FORMS) -> list[Any]:
    feed = Several(known, [one.name for one in forms])
    data = (folder / "pack").read_bytes()
    return [
        [one.tolist() for one in feed.feed(data[line["offset"] :][: line["size"]], line["form"]).tensor]
        for line in found
    ]


LEFT, RIGHT = np.arange(8, dtype=np.float32).reshape(2, 4), np.array([[0.0, 1.0], [2.0, 200.0]])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_rows_of_each_array_belong_together(tmp_path: Path, save: Any) -> None:
    found = lines(tmp_path, npz(save, right=RIGHT, left=LEFT, more=np.zeros(3), names=np.array(["a", None], object)))
    assert [line["input"] for line in found] == ["a.npz[0]", "a.npz[1]"]
    expected = [[[[0, 1, 2, 3]], [[10, 12]]], [[[4, 5, 6, 7]], [[14, 255]]]]
    assert fed(tmp_path, found, details(FORMS)) == expected
    # A compiler may have changed their order.
    turned = fed(tmp_path, found, details(FORMS[::-1]))
    assert turned == [one[::-1] for one in expected]


def test_one_input_and_the_whole_name(tmp_path: Path) -> None:
    found = lines(tmp_path, npz(**{"serving_default_left:0": LEFT[0], "right": RIGHT[:1].astype(">f4")}))
    assert [line["input"] for line in found] == ["a.npz"]
    assert fed(tmp_path, found, details(FORMS)) == [[[[0, 1, 2, 3]], [[10, 12]]]]


@pytest.mark.parametrize(
    ("data", "name", "said"),
    [
        (npz(left=LEFT), "a.npz", "it has no array for the input right"),
        (npz(left=LEFT, right=RIGHT[:1]), "a.npz", "different numbers of inputs: serving_default_left:0 2, right 1"),
        (
            npz(left=LEFT[:, :3], right=RIGHT),
            "a.npz",
            "serving_default_left:0: not an input for this model: it has shape",
        ),
        (
            npz(np.savez_compressed, left=LEFT, right=RIGHT.astype(complex)),
            "a.npz",
            "right: not an input for this model",
        ),
        (npz(left=LEFT, right=RIGHT)[:-30], "a.npz", "no sound .npz file"),
        (b"", "a.npz", "no sound .npz file"),
        (b"png", "a.png", "the model has 2 inputs: give it .npz files of left, right"),
    ],
)
def test_what_is_not_all_of_its_inputs_is_one_error(tmp_path: Path, data: bytes, name: str, said: str) -> None:
    (line,) = lines(tmp_path, data, name)
    assert said in line["form"]["error"]
    with pytest.raises(BadInput, match="no"):
        Several(details(FORMS), ["left", "right"]).feed(b"", line["form"])


def test_arrays_that_unfold_to_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "_MOST_BESIDES", 0)
    many = np.zeros((100_000, 4), np.float32)
    (line,) = lines(tmp_path, npz(np.savez_compressed, left=many, right=np.zeros((100_000, 2))))
    assert "unfold to many times its inputs" in line["form"]["error"]
    assert (tmp_path / "pack").stat().st_size < 100_000


def test_a_model_of_two_inputs_computes_with_both() -> None:
    ends = [End((1, 4), name="a"), End((1, 4), name="b"), End((1, 4), name="sum")]
    step = Step("ADD", (0, 1), (2,), options=("AddOptions", schema.AddOptionsT()))
    engine = Engine(build(ends, [step], inputs=(0, 1)), None)
    engine.warm_up()
    one, other = np.array([[1, 2, 3, 4]], np.float32), np.array([[10, 20, 30, 40]], np.float32)
    assert engine.invoke(one, other)[0].tolist() == [[11, 22, 33, 44]]


def test_a_real_model_of_three_inputs(tmp_path: Path) -> None:
    folder = os.environ.get("CLUSTERADM_TEST_DATA")
    if not folder:
        pytest.skip("CLUSTERADM_TEST_DATA names no folder with real models")
    model = (Path(folder) / "split_concat.tflite").read_bytes()
    engine = Engine(model, None)
    forms = tuple(
        InputForm(np.dtype(one["dtype"]).name, tuple(map(int, one["shape"])), *one["quantization"], name=one["name"])
        for one in engine.inputs
    )
    random = np.random.default_rng(4)
    arrays = {form.name: random.integers(0, 256, form.shape, dtype=np.uint8) for form in forms}
    (line,) = lines(tmp_path, npz(**arrays), forms=forms)
    data = (tmp_path / "pack").read_bytes()[line["offset"] :][: line["size"]]
    tensors = Several(engine.inputs, [form.name for form in forms]).feed(data, line["form"]).tensor
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    for one in interpreter.get_input_details():
        interpreter.set_tensor(one["index"], arrays[one["name"]])
    interpreter.invoke()
    for output, found in zip(interpreter.get_output_details(), engine.invoke(*tensors), strict=True):
        assert np.array_equal(interpreter.get_tensor(output["index"]), found)
