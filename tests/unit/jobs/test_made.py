"""Inputs that are made for a model: NumPy, Pillow and the head's index read them as what they are meant to be."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clusteradm.errors import UsageError
from clusteradm.jobs import made
from clusteradm.jobs.inputs import parts
from clusteradm.node.job import pack
from clusteradm.node.spec.feeding import Picture
from clusteradm.node.spec.wire.job import InputForm, ModelFile
from clusteradm.node.spec.wire.manifest import Feed

PICTURE = InputForm("uint8", (1, 24, 32, 3), 1 / 128, 128)
FLOATS = InputForm("float32", (1, 7), name="serving_default_x:0")


def model(*forms: InputForm) -> ModelFile:
    return ModelFile("m", 1, "/m", "0", forms[0], more=forms[1:])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures(channels: int) -> None:
    found = [made.png(Picture(24, 32, channels, "nhwc"), number) for number in range(8)]
    images = [np.asarray(Image.open(io.BytesIO(data))) for data in found]
    assert {image.shape for image in images} == {(24, 32) if channels == 1 else (24, 32, channels)}
    assert len({image.tobytes() for image in images}) == 8 and all(image.std() > 40 for image in images)


@pytest.mark.parametrize(
    ("forms", "suffix"),
    [
        ((PICTURE,), ".png"),
        ((InputForm("uint8", (1, 28, 28, 1)),), ".png"),
        ((InputForm("int8", (1, 3, 24, 32), 1 / 128, feed=Feed(layout="nchw")),), ".png"),
        ((FLOATS,), ".npy"),
        ((InputForm("int16", (1, 9)),), ".npy"),
        ((InputForm("bool", (3,)),), ".npy"),
        ((InputForm("float32", (1, 16000), feed=Feed(rate=16000)),), ".npy"),
        ((FLOATS, InputForm("uint8", (1, 2, 2), name="y")), ".npz"),
    ],
)
def test_the_head_takes_every_one(forms: tuple[InputForm, ...], suffix: str, tmp_path: Path) -> None:
    found = made.inputs(model(*forms), 20, tmp_path)
    assert len(found.files) == 20 and {file.path.suffix for file in found.files} == {suffix}
    assert len({file.path for file in found.files}) == 8 and len({file.name for file in found.files}) == 20
    entries, at, path = [], 0, tmp_path / "inputs.pack"
    (part,) = parts(found.files)
    path.write_bytes(part.data)
    for file in found.files:
        entries.append(pack.Entry(file.name, at, file.size))
        at += file.size
    lines = list(pack.index(str(path), entries, *map(pack.wanted, forms)))
    assert len(lines) == 20 and not any(isinstance(line["form"], dict) for line in lines), lines[:2]


def test_arrays_are_numpys(tmp_path: Path) -> None:
    (file,) = made.inputs(model(FLOATS), 1, tmp_path).files
    array = np.load(file.path)
    assert array.dtype == np.float32 and array.shape == (1, 7) and 0 <= array.min() < array.max() < 1
    (file,) = made.inputs(model(InputForm("int8", (5,))), 1, tmp_path).files
    assert np.load(file.path).shape == (5,)


def test_they_are_the_same_every_time_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (tmp_path / name for name in "ab")
    for folder in (first, second):
        folder.mkdir()
        made.inputs(model(FLOATS), 8, folder)
    assert [path.read_bytes() for path in sorted(first.iterdir())] == [p.read_bytes() for p in sorted(second.iterdir())]
    monkeypatch.setattr(made, "MOST_BYTES", 1000)
    few = made.inputs(model(FLOATS), 1000, tmp_path)
    assert 1 <= len(few.files) < 10 and few.bytes <= 1000
    with pytest.raises(UsageError, match="is not made up"):
        made.inputs(model(InputForm("float32", (1, 1000))), 1, tmp_path)
    with pytest.raises(UsageError, match="inputs of string 1x2 cannot be made up"):
        made.inputs(model(InputForm("string", (1, 2))), 1, tmp_path)
