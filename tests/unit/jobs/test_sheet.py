"""Sheet of a report: which pictures are in it, what is said of them, and why inputs have no result."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import BinaryIO

import pytest
from PIL import Image

from clusteradm.errors import UsageError
from clusteradm.jobs import annotate, sheet
from clusteradm.jobs.inputs import File
from clusteradm.node.spec.wire.decode import decode
from clusteradm.node.spec.wire.result import Result


def nothing(name: str, into: BinaryIO) -> None:
    raise AssertionError("nothing is to be fetched")


def result(index: int, **more: object) -> Result:
    return decode(Result, {"input": f"{index}.png", "index": index, **more})


def test_reasons_are_counted_and_rare_ones_are_one() -> None:
    errors = ["it is cut short"] * 3 + ["it\n is  cut short"] + [f"reason {number}" for number in range(50)]
    found = sheet.failures(
        [result(0, top=[{"class": 1}]), *(result(number, error=text) for number, text in enumerate(errors, 1))]
    )
    assert (found[0].reason, found[0].count, found[0].names) == (
        "it is cut short",
        4,
        [f"{n}.png" for n in range(1, 5)],
    )
    assert len(found) == sheet.MOST_REASONS and found[-1].reason == "other reasons"
    assert sum(failure.count for failure in found) == 54 and len(found[-1].names) == 5
    assert sheet.failures([]) == []


def test_pictures_are_few_and_evenly_over_the_inputs(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (640, 320), (9, 99, 200)).save(path)
    files = {f"{number}.png": File(f"{number}.png", path, 1) for number in range(100)}
    files["7.png"] = File("7.npy", path, 1)
    results = [
        result(number, size=[640, 320], top=[{"class": 3, "label": "cat", "score": 0.5}]) for number in range(100)
    ]
    results[8] = result(8, error="broken")
    found = list(sheet.pictures(lambda: iter(results), files, nothing))
    numbers = [int(picture.name.partition(".")[0]) for picture in found]
    assert len(found) == sheet.MOST_PICTURES and numbers[0] == 0 and numbers[-1] >= 95 and not {7, 8} & set(numbers)
    assert max(late - early for early, late in itertools.pairwise(numbers)) <= 6
    first = found[0]
    assert first.jpeg is not None and (first.caption, first.side) == ("cat 0.50", sheet.SIDE)
    image = Image.open(io.BytesIO(first.jpeg))
    assert image.size == (320, 160) and image.getpixel((5, 5)) == pytest.approx((9, 99, 200), abs=4)
    assert list(sheet.pictures(lambda: iter(results), {}, nothing)) == []
    (one,) = sheet.pictures(lambda: iter(results), {"4.png": files["4.png"]}, nothing)
    assert one.name == "4.png"


def test_what_was_found_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (400, 200), (128, 128, 128)).save(path)
    box = {"class": 1, "label": "dog", "score": 0.75, "box": [100, 40, 300, 180]}
    jpeg, side = annotate.thumbnail(
        result(0, size=[400, 200], objects=[box]), File("a.png", path, 1), nothing, side=400
    )
    image = Image.open(io.BytesIO(jpeg))
    edge, inside = (image.getpixel(place) for place in ((299, 120), (200, 120)))
    assert side == 400 and max(abs(value - 128) for value in edge) > 40  # type: ignore[union-attr]
    assert inside == pytest.approx((128, 128, 128), abs=4)


def test_one_that_cannot_be_drawn_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"no picture")
    (one,) = sheet.pictures(lambda: iter([result(0)]), {"0.png": File("0.png", path, 1)}, nothing)
    assert one.jpeg is None and "not a picture that can be read here" in one.why and one.caption == "nothing found"

    def missing(*_: object) -> None:
        raise UsageError("a report with pictures needs Python packages that are not here: PIL")

    monkeypatch.setattr("clusteradm.extras.require", missing)
    (one,) = sheet.pictures(lambda: iter([result(0)]), {"0.png": File("0.png", path, 1)}, nothing)
    assert one.jpeg is None and "PIL" in one.why


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ({"top": [{"class": 3, "label": None, "score": 0.126}]}, "class 3 0.13"),
        (
            {"objects": [{"class": n % 2, "label": "ab"[n % 2], "score": 1.0, "box": [0, 0, 1, 1]} for n in range(3)]},
            "2 a, 1 b",
        ),
        ({"segments": [{"class": 1, "label": "sky\n", "share": 0.5}]}, "sky 0.50"),
        ({"poses": [{"score": 0.5, "keypoints": []}]}, "1 pose"),
        ({"embedding": [0.5]}, ""),
        ({}, "nothing found"),
    ],
)
def test_captions(answer: dict[str, object], caption: str) -> None:
    assert sheet.caption(result(0, **answer)) == caption
