"""Pictures: the same numbers on every board, and none that depend on a decoder's defaults."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clusteradm.node.edgetpu import pictures
from clusteradm.node.edgetpu.pictures import BadInput
from clusteradm.node.spec.wire.manifest import LETTERBOX, PAD

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.dstack([RAMP, RAMP[::-1], RAMP.T])
CORNER = np.zeros((16, 16, 3), np.uint8)
CORNER[:4, :8] = 255  # bright at the top left, wide


def decode(data: bytes, height: int, width: int, channels: int) -> Any:
    return pictures.decode(data, height, width, channels)[0]


def saved(image: Any, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


# What a camera that was held so writes: the picture as it lies, and how to turn it.
TURNS = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"lossless": True})])
def test_a_picture_is_upright(kind: str, options: dict[str, Any], orientation: int) -> None:
    upright = np.ascontiguousarray(CORNER[:, :12])
    lying = Image.fromarray(np.ascontiguousarray(TURNS[orientation](upright)))
    data = saved(lying, kind, exif=turned(orientation), **options)
    assert np.abs(decode(data, 16, 12, 3).astype(int) - upright).max() < 40
    # Also where a JPEG is decoded at a fraction of its size.
    large = lying.resize((lying.width * 16, lying.height * 16), Image.Resampling.NEAREST)
    data = saved(large, kind, exif=turned(orientation), **options)
    assert np.abs(decode(data, 16, 12, 3).astype(int) - upright).mean() < 12


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"MM\0*\0\0\xff\xff", turned(1)[:20], turned(9), b"II*\0\0\0\0\0"])
def test_nonsense_in_exif_leaves_the_picture_as_it_is(exif: bytes) -> None:
    assert np.array_equal(decode(saved(COLOURS, "WEBP", lossless=True, exif=exif), 16, 16, 3), COLOURS)


GREYS = (RAMP.astype(np.uint16) * 257).astype("<u2")


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bits_of_grey_are_scaled_and_not_cut(kind: str) -> None:
    image = Image.fromarray(GREYS)
    data = saved(image, kind)
    assert np.array_equal(decode(data, 16, 16, 1)[:, :, 0], RAMP)
    assert np.array_equal(decode(data, 16, 16, 3)[:, :, 2], RAMP)
    dark = saved(Image.fromarray((GREYS // 4).astype("<u2")), kind)
    assert np.abs(decode(dark, 16, 16, 1)[:, :, 0].astype(int) - RAMP / 4).max() <= 1


def test_what_is_transparent_is_white_whatever_colour_it_hides() -> None:
    hidden = np.dstack([COLOURS, np.full_like(RAMP, 0)])
    hidden[:8, :, 3] = 255
    expected = COLOURS.copy()
    expected[8:] = 255
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        assert np.array_equal(decode(saved(hidden, kind, **options), 16, 16, 3), expected)
    assert np.array_equal(decode(saved(hidden), 16, 16, 4), hidden)  # a model that takes the transparency gets it
    assert decode(saved(COLOURS), 16, 16, 4)[:, :, 3].min() == 255
    half = saved(np.dstack([RAMP, np.full_like(RAMP, 128)]))
    assert np.abs(decode(half, 16, 16, 1)[:, :, 0] - (RAMP * 128.0 + 255 * 127) / 255).max() <= 1
    # In a palette, and as one colour of a picture without a fourth channel.
    palette = Image.fromarray(RAMP // 64).convert("P")
    palette.putpalette([10, 20, 30, 90, 90, 90, 200, 100, 0, 0, 0, 0])
    for kind in ("PNG", "GIF"):
        pixels = decode(saved(palette, kind, transparency=3), 16, 16, 3)
        assert (pixels[0, 0].tolist(), pixels[15, 15].tolist()) == ([10, 20, 30], [255, 255, 255])
    one = saved(Image.fromarray(COLOURS), transparency=tuple(int(n) for n in COLOURS[3, 3]))
    assert decode(one, 16, 16, 3)[3, 3].tolist() == [255, 255, 255]


def test_colours_become_the_same_grey_in_every_version() -> None:
    """Pillow before 7 rounded down."""
    expected = np.rint(COLOURS @ np.array([19595, 38470, 7471]) / 65536)
    assert np.array_equal(decode(saved(COLOURS), 16, 16, 1)[:, :, 0], expected)


def test_palettes_bits_and_inks() -> None:
    palette = Image.fromarray(COLOURS).quantize(16)
    assert np.array_equal(decode(saved(palette), 16, 16, 3), np.asarray(palette.convert("RGB")))
    bits = Image.fromarray(RAMP > 100)
    for kind in ("PNG", "TIFF", "BMP", "PPM"):
        assert set(decode(saved(bits, kind), 16, 16, 1).reshape(-1).tolist()) == {0, 255}
    inks = Image.fromarray(COLOURS).convert("CMYK")
    for data in (saved(inks, "TIFF"), saved(inks, "JPEG", quality=100, subsampling=0)):
        assert np.abs(decode(data, 16, 16, 3).astype(int) - COLOURS).mean() < 6
    # Adobe's segment is what says that the inks are inverted.
    data = bytearray(saved(inks, "JPEG"))
    at = data.index(b"Adobe")
    data[at : at + 5] = b"Abode"
    with pytest.raises(BadInput, match="four inks that does not say whether they are inverted"):
        decode(bytes(data), 16, 16, 3)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_is_refused(kind: str) -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), 80 * n, np.uint8)) for n in range(3)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    with pytest.raises(BadInput, match="an animation"):
        decode(data, 8, 8, 3)
    assert decode(saved(frames[1], kind), 8, 8, 3).shape == (8, 8, 3)


def test_a_picture_with_others_behind_it_is_the_first(tmp_path: Any) -> None:
    """MPO, as phones write it: a JPEG that any reader of JPEG shows."""
    first, second = Image.fromarray(COLOURS), Image.fromarray(255 - COLOURS)
    data = saved(first, "MPO", save_all=True, append_images=[second], quality=95)
    assert np.abs(decode(data, 16, 16, 3).astype(int) - COLOURS).mean() < 10


def scanned(times: int) -> bytes:
    """A progressive JPEG whose last scan is there so many times: small, and each is work of the whole picture."""
    data = saved(RAMP, "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    return data[:at] + data[at:-2] * times + data[-2:]


def test_the_scans_of_a_jpeg_are_those_before_its_end() -> None:
    for data in (
        scanned(80),
        scanned(1) + b"\xff\xda\0\2" * 200,
        scanned(1)[:-2] + b"\xff\0\xff\xd0" * 200 + b"\xff\xd9",
    ):
        assert decode(data, 16, 16, 1).shape == (16, 16, 1)


def tiff(**tags: Any) -> bytes:
    return saved(Image.fromarray(RAMP), "TIFF", tiffinfo={int(key[1:]): value for key, value in tags.items()})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", "the format HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", "the format HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "the format AVIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0avif", "the format AVIF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0mp41", "a video"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20), "the format JPEG 2000"),
        (b"\xff\x0a" + bytes(20), "the format JPEG XL"),
        (b"<svg xmlns='x'/>", "the format SVG"),
        (b"%PDF-1.4", "the format PDF"),
        (b"8BPS" + bytes(20), "the format Photoshop"),
        (scanned(200), "a JPEG of more than 100 scans"),
        (b"P2\n2 2\n255\n1 2 3 4\n", "of the form P2"),
        (b"P5\n2 2\n1023\n" + bytes(8), "whose white is 1023"),
        (b"P6\n2 2\n65535\n" + bytes(24), "whose white is 65535"),
        (b"P5\n# no more", "whose white is 0"),
        (saved(np.zeros((8, 8), np.float32), "TIFF"), "floating-point numbers"),
        (saved(np.zeros((8, 8), np.int32), "TIFF"), "TIFF file of"),
        (tiff(t274=6), "is to be turned"),
        (saved(np.dstack([RAMP] * 3), "TIFF", compression="zstd"), "TIFF file with compression 50000"),
        (saved(Image.fromarray(COLOURS).convert("YCbCr"), "TIFF"), "TIFF file of YCbCr colours"),
        (b"", "an empty file"),
        (saved(Image.fromarray(RAMP), "TIFF", save_all=True, append_images=[Image.fromarray(RAMP)]), "several pages"),
        (b"BM" + struct.pack("<IHHIIiiHHI", 1000, 0, 0, 54, 40, 8, 8, 1, 8, 1) + bytes(900), "compressed BMP"),
    ],
)
def test_what_has_more_than_one_meaning_is_refused_by_name(data: bytes, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        decode(data, 8, 8, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM"])
def test_a_picture_cut_anywhere_is_one_bad_input_or_a_picture(kind: str) -> None:
    data = saved(Image.fromarray(COLOURS), kind)
    for size in [*range(40), *range(40, len(data), 13)]:
        try:
            assert decode(data[:size], 8, 8, 3).shape == (8, 8, 3)
        except BadInput:
            continue


def test_a_list_of_chunks_without_end_ends() -> None:
    chunk = struct.pack(">I4s", 0, b"junk") + struct.pack(">I", zlib.crc32(b"junk"))
    with pytest.raises(BadInput):
        decode(b"\x89PNG\r\n\x1a\n" + chunk * 300000, 8, 8, 3)


@pytest.mark.parametrize(("turn", "kind"), [(1, "PNG"), (6, "PNG"), (6, "JPEG")])
def test_a_picture_in_its_own_proportions(turn: int, kind: str) -> None:
    """400x200, of red: at the upper left of 100x80 with black below, or in the middle with grey above and below."""
    red = np.full((200, 400, 3), (255, 0, 0), np.uint8)
    lying = np.rot90(red, 1) if turn == 6 else red
    data = saved(np.ascontiguousarray(lying), kind, exif=turned(turn))
    for fit, first, border in ((PAD, 0, 0), (LETTERBOX, 15, 114)):
        pixels, size = pictures.decode(data, 80, 100, 3, fit)
        assert size == (400, 200)
        inside = np.zeros((80, 100), bool)
        inside[first : first + 50] = True
        assert np.abs(pixels[inside].astype(int) - (255, 0, 0)).max() <= 2
        assert (pixels[~inside] == border).all()
    assert pictures.decode(data, 80, 100, 4, LETTERBOX)[0][0, 0].tolist() == [114, 114, 114, 255]
    assert pictures.decode(data, 80, 100, 3)[1] == (400, 200)
