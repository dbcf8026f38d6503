"""Pictures with what was found: the right pixels are coloured, and nothing of a result leads elsewhere."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from PIL import Image

from clusteradm.errors import UsageError
from clusteradm.jobs import annotate
from clusteradm.jobs.inputs import File
from clusteradm.node.spec import answers
from clusteradm.node.spec.wire.decode import decode
from clusteradm.node.spec.wire.manifest import EMBEDDING, RAW, TASKS
from clusteradm.node.spec.wire.result import Result

MAP = "outputs-20260101-000000-abcdef/000000-map.png"


def nothing(name: str, into: BinaryIO) -> None:
    raise AssertionError("nothing is to be fetched")


def grey(folder: Path, wide: int = 400, high: int = 200, name: str = "a.png", **options: Any) -> Path:
    path = folder / name
    Image.new("RGB", (wide, high), (128, 128, 128)).save(path, **options)
    return path


def drawn(folder: Path, answer: dict[str, Any], path: Path, fetch: Any = nothing) -> Any:
    """The pixels of the picture that is made."""
    result = decode(Result, {"input": "a.png", "index": 0, **answer})
    ((_, why),) = annotate.draw(iter([result]), {"a.png": File("a.png", path, 1)}, folder, fetch)
    assert why is None
    return np.asarray(Image.open(folder / "000000-a.jpg")).astype(int)


def changed(pixels: Any) -> Any:
    return np.abs(pixels - 128).max(2) > 40


def test_a_box_is_where_the_object_is(tmp_path: Path) -> None:
    answer = {"size": [400, 200], "objects": [{"class": 1, "label": "cat", "score": 0.75, "box": [100, 80, 300, 180]}]}
    where = changed(drawn(tmp_path, answer, grey(tmp_path)))
    assert where[180, 150:250].all() and where[100:170, 100].all() and where[100:170, 300].all()
    assert not where[120:160, 150:250].any() and not where[:60].any() and not where[:, 320:].any()


def test_boxes_beyond_the_picture_and_empty_ones(tmp_path: Path) -> None:
    boxes = [[-50, -50, 1 << 30, 1 << 30], [10, 10, 10, 10], [300, 100, 100, 50], [900, 900, 950, 950]]
    found = [
        {"class": n, "label": "x" * 5000 + "\n\x1b[31m\u4e00", "score": None, "box": box} for n, box in enumerate(boxes)
    ]
    where = changed(drawn(tmp_path, {"size": [400, 200], "objects": found}, grey(tmp_path)))
    assert where[199, 100:300].all() and not where[100:150, 100:300].any()


def test_a_map_colours_its_places(tmp_path: Path) -> None:
    classes = np.zeros((200, 400), np.uint8)
    classes[:, 200:] = 3
    file = io.BytesIO()
    Image.fromarray(classes).save(file, "PNG")
    answer = {"size": [400, 200], "segments": [], "map": {"name": "m", "file": MAP}}

    def fetch(name: str, into: BinaryIO) -> None:
        assert name == MAP
        into.write(file.getvalue())

    where = changed(drawn(tmp_path, answer, grey(tmp_path), fetch))
    assert where[:, 210:].all() and not where[:, :190].any()


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"x" * 200_000, "small", "colour", "gif"])
def test_a_map_that_is_none_of_the_picture_is_not_drawn(data: Any, tmp_path: Path) -> None:
    if isinstance(data, str):
        file = io.BytesIO()
        image = Image.new("RGB" if data == "colour" else "L", (100 if data == "small" else 400, 200))
        image.save(file, "GIF" if data == "gif" else "PNG")
        data = file.getvalue()
    result = Result("a.png", 0, map=decode_map(), size=(400, 200))
    found = annotate.draw(
        iter([result]), {"a.png": File("a.png", grey(tmp_path), 1)}, tmp_path, lambda name, into: into.write(data)
    )
    ((_, why),) = found
    assert why is not None and "map" in why
    assert not (tmp_path / "000000-a.jpg").exists()


def decode_map() -> Any:
    return decode(Result, {"input": "a", "index": 0, "map": {"file": MAP}}).map


def test_key_points_and_what_joins_them(tmp_path: Path) -> None:
    points = [{"name": name, "x": None, "y": 20.0, "score": 0.9} for name in answers.POINTS]
    points[5], points[7] = ({"name": "", "x": x, "y": 100.0, "score": 0.9} for x in (100.0, 300.0))
    points[9] = {"name": "", "x": 350.0, "y": 20.0, "score": 0.1}  # not sure enough
    where = changed(
        drawn(tmp_path, {"size": [400, 200], "poses": [{"score": 0.5, "keypoints": points}]}, grey(tmp_path))
    )
    assert where[100, 100:300].all()
    assert not where[:80].any() and not where[120:].any()


def test_the_picture_is_upright_and_others_are_passed_over(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = grey(tmp_path, 200, 400, "turned.jpg", exif=exif)
    answer = {"size": [400, 200], "objects": [{"class": 1, "score": 0.5, "box": [0, 0, 399, 199]}]}
    assert drawn(tmp_path, answer, path).shape == (200, 400, 3)
    others = [Result("b.png", 1), Result("a.png", 2, error="cut short")]
    assert list(annotate.draw(iter(others), {"a.png": File("a.png", path, 1)}, tmp_path, nothing)) == []


def test_a_picture_is_drawn_as_the_ranks_see_it(tmp_path: Path) -> None:
    """Greys of 16 bits, which Pillow would cut off at 255, and a colour that is transparent."""
    wide, high = 400, 200
    Image.fromarray(np.full((high, wide), 32896, np.uint16)).save(tmp_path / "grey16.png")
    Image.new("RGBA", (wide, high), (10, 200, 10, 0)).save(tmp_path / "hidden.png")
    hidden = Image.new("P", (wide, high), 3)
    hidden.putpalette([10, 200, 10] * 256)
    hidden.save(tmp_path / "palette.png", transparency=3)
    for name, shade in (("grey16", 128), ("hidden", 255), ("palette", 255)):
        pixels = drawn(tmp_path, {"size": [wide, high], "objects": []}, tmp_path / f"{name}.png")
        assert np.abs(pixels - shade).max() <= 2, name


def test_a_picture_that_is_another_by_now_is_not_drawn(tmp_path: Path) -> None:
    result = Result("a.png", 0, size=(40, 20))
    for path, said in (
        (grey(tmp_path), "not the picture of the result, which had 40x20 pixels"),
        (tmp_path / "gone.png", "No such file"),
        (tmp_path / "text.png", "not a picture that can be read here"),
    ):
        (tmp_path / "text.png").write_text("text")
        ((_, why),) = annotate.draw(iter([result]), {"a.png": File("a.png", path, 1)}, tmp_path, nothing)
        assert why is not None and said in why


def test_nothing_but_what_ranks_read_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n")
    assert Image.open(path).format == "EPS"
    monkeypatch.setattr("PIL.EpsImagePlugin.EpsImageFile.load", lambda *_: pytest.fail("PostScript is run"))
    with pytest.raises(UsageError, match="not a picture that can be read here"):
        annotate._opened(path.read_bytes(), Result("a.jpg", 0))
    for kind in ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"):
        Image.new("RGB", (3, 2)).save(path, kind)
        assert annotate._opened(path.read_bytes(), Result("a.jpg", 0, size=(3, 2))).size == (3, 2)


def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "large.png")
    found = annotate.draw(
        iter([Result("a.png", 0)]), {"a.png": File("a.png", tmp_path / "large.png", 1)}, tmp_path, nothing
    )
    ((_, why),) = found
    assert why is not None and "400000000 pixels" in why
    Image.new("1", (9_000, 9_000)).save(tmp_path / "large.png")
    found = annotate.draw(
        iter([Result("a.png", 0)]), {"a.png": File("a.png", tmp_path / "large.png", 1)}, tmp_path, nothing
    )
    assert [why for _, why in found] == ["a picture of 9000x9000 pixels, more than 50,000,000"]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a.png", "000007-a.jpg"),
        ("folder/b c.jpeg", "000007-b_c.jpg"),
        ("../../etc/passwd", "000007-passwd.jpg"),
        ("/", "000007-_.jpg"),
        ("..", "000007-.jpg"),
        (".png", "000007-png.jpg"),
        ("-rf\n\x1b[31m.png", "000007-rf_31m.jpg"),
        ("caf\\udce9.png", "000007-caf_udce9.jpg"),
        ("x" * 300 + ".png", "000007-" + "x" * 80 + ".jpg"),
        ("tars.tar/members/1.png", "000007-1.jpg"),
    ],
)
def test_the_names_of_pictures_are_safe_everywhere(name: str, file: str) -> None:
    assert annotate.name_of(Result(name, 7)) == file


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "000000-a.jpg").symlink_to(secret)
    list(
        annotate.draw(
            iter([Result("a.png", 0)]), {"a.png": File("a.png", grey(tmp_path), 1)}, tmp_path / "out", nothing
        )
    )
    assert secret.read_text() == "mine" and not (tmp_path / "out" / "000000-a.jpg").is_symlink()


@pytest.mark.parametrize("task", [None, RAW, *TASKS])
def test_what_cannot_be_drawn_is_said_before(task: str | None) -> None:
    if task in (None, RAW, EMBEDDING):
        with pytest.raises(UsageError, match="--annotate draws classes, boxes, maps and key points"):
            annotate.require(task)
    else:
        annotate.require(task)
