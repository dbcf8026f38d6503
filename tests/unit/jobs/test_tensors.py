"""From bytes to the model's tensor and back: what a model is fed, and what a result says."""

from __future__ import annotations

import io
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from child import measured
from PIL import Image

from clusteradm.node.edgetpu.tensors import BadInput, Preprocessor


def details(
    shape: tuple[int, ...], dtype: Any, quantization: tuple[float, int] = (0.0, 0), name: str = "t"
) -> dict[str, Any]:
    return {"shape": np.array(shape), "dtype": dtype, "quantization": quantization, "name": name}


def picture(pixels: Any, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return file.getvalue()


RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.dstack([RAMP, RAMP[::-1], RAMP.T])


def test_a_picture_is_fed_pixel_by_pixel() -> None:
    grey = Preprocessor(details((1, 16, 16, 1), np.uint8, (1 / 255, 0))).tensor(picture(RAMP), None)
    assert grey.shape == (1, 16, 16, 1)
    assert np.array_equal(grey[0, :, :, 0], RAMP)
    assert np.array_equal(Preprocessor(details((1, 16, 16), np.uint8)).tensor(picture(RAMP), None)[0], RAMP)
    colour = Preprocessor(details((1, 16, 16, 3), np.uint8)).tensor(picture(COLOURS), None)
    assert np.array_equal(colour[0], COLOURS)


def test_int8_is_the_same_range_and_float_is_minus_one_to_one() -> None:
    signed = Preprocessor(details((1, 16, 16, 1), np.int8, (1 / 255, -128))).tensor(picture(RAMP), None)
    assert signed.dtype == np.int8
    assert np.array_equal(signed.astype(int)[0, :, :, 0], RAMP.astype(int) - 128)
    real = Preprocessor(details((1, 16, 16, 1), np.float32)).tensor(picture(RAMP), None)
    assert real.dtype == np.float32
    assert (real.min(), real.max()) == (-1.0, 1.0)


def test_every_kind_of_picture_becomes_the_models(tmp_path: Path) -> None:
    feed = Preprocessor(details((1, 8, 8, 3), np.uint8))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"):
        file = io.BytesIO()
        Image.fromarray(COLOURS).convert("L" if mode == "I;16" else mode).save(file, "TIFF")
        assert feed.tensor(file.getvalue(), None).shape == (1, 8, 8, 3)
    large = np.kron(COLOURS, np.ones((64, 64, 1), np.uint8))
    small = feed.tensor(picture(large, "JPEG"), None)[0].astype(int)
    expected = np.asarray(Image.fromarray(large).resize((8, 8), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(small - expected).max() <= 6  # JPEG, decoded at an eighth


@pytest.mark.parametrize(
    "data", [b"", b"no picture", picture(COLOURS)[:60], picture(COLOURS, "JPEG")[:300], b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_picture_is_one_bad_input(data: bytes) -> None:
    reasons = set()
    for _ in range(2):
        with pytest.raises(BadInput, match="not a picture that can be read: ") as refused:
            Preprocessor(details((1, 8, 8, 3), np.uint8)).tensor(data, None)
        reasons.add(str(refused.value))
    assert len(reasons) == 1  # no address of an object in memory: results can be compared


def test_a_model_that_takes_no_pictures_says_so() -> None:
    with pytest.raises(BadInput, match="the model takes 1x3, no pictures"):
        Preprocessor(details((1, 3), np.uint8)).tensor(picture(RAMP), None)


def test_arrays() -> None:
    feed = Preprocessor(details((1, 4), np.uint8, (0.5, 10)))
    assert feed.tensor(bytes([1, 2, 3, 4]), ["uint8", [1, 4]]).tolist() == [[1, 2, 3, 4]]
    real = np.array([0.0, 1.0, -100.0, 1e9], np.float32).tobytes()
    assert feed.tensor(real, ["float32", [1, 4]]).tolist() == [[10, 12, 0, 255]]
    with pytest.raises(BadInput, match="NaN or infinity, for which the model's input"):
        feed.tensor(np.array([np.nan, 1, 1, 1], "<f8").tobytes(), ["float64", [1, 4]])


def bomb(kind: str, across: int, down: int) -> bytes:
    """A picture of one colour: few bytes, many pixels."""
    file = io.BytesIO()
    more = {"PNG": {"compress_level": 9}, "TIFF": {"compression": "tiff_lzw"}}.get(kind, {})
    Image.new("L", (across, down)).save(file, kind, **more)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "GIF"])
def test_a_picture_of_too_many_pixels_is_one_bad_input(kind: str) -> None:
    data = bomb(kind, 9000, 7000)
    cost = measured(Preprocessor(details((1, 8, 8, 3), np.uint8)).tensor, data, None)
    assert cost.error == "BadInput: a picture of 9000x7000 pixels, more than 50000000"
    assert (cost.seconds < 2, cost.mebibytes < 64) == (True, True)


def test_a_png_of_20000_by_20000_is_refused_before_it_is_decoded() -> None:
    data = bomb("PNG", 20_000, 20_000)
    cost = measured(Preprocessor(details((1, 8, 8, 3), np.uint8)).tensor, data, None)
    assert cost.error == "BadInput: a picture of more than 50000000 pixels" and cost.mebibytes < 64


def test_a_header_of_a_million_pixels_squared_is_one_bad_input() -> None:
    data = bytearray(bomb("PNG", 8, 8))
    data[16:24] = (1 << 30).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    cost = measured(Preprocessor(details((1, 8, 8, 3), np.uint8)).tensor, bytes(data), None)
    assert cost.error.startswith("BadInput: ")
    assert cost.mebibytes < 64


def test_a_large_jpeg_is_decoded_small_but_not_a_progressive_one() -> None:
    feed = Preprocessor(details((1, 8, 8, 3), np.uint8))
    for progressive in (False, True):
        file = io.BytesIO()
        Image.new("RGB", (8000, 8000)).save(file, "JPEG", progressive=progressive)
        if progressive:
            with pytest.raises(BadInput, match="8000x8000 pixels"):
                feed.tensor(file.getvalue(), None)
        else:
            assert feed.tensor(file.getvalue(), None).shape == (1, 8, 8, 3)


def test_a_document_that_another_program_would_draw_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    monkeypatch.setattr(subprocess, "check_call", lambda *_, **__: pytest.fail("a program was started"))
    file = io.BytesIO()
    Image.fromarray(RAMP).save(file, "EPS")
    with pytest.raises(BadInput, match="a file of the format EPS; pictures are "):
        Preprocessor(details((1, 8, 8, 3), np.uint8)).tensor(file.getvalue(), None)


@pytest.mark.parametrize(
    ("data", "form"),
    [(b"", ["uint8", [1, 4]]), (b"1234", ["O", [1, 4]]), (b"1234", ["nonsense", [1, 4]]), (b"12345", ["<f4", [1, 4]])],
)
def test_an_index_that_does_not_fit_the_bytes_is_one_bad_input(data: bytes, form: Any) -> None:
    with pytest.raises(BadInput, match="not an array that the model takes"):
        Preprocessor(details((1, 4), np.uint8)).tensor(data, form)
