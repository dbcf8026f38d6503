"""Pictures with what a model found in them: boxes, class maps, key points or the first class, drawn on copies.

Labels, places and maps come from the cluster and are not trusted: a map has the picture's size or is not drawn, and no
text of a result is part of a file's name but in a safe form.
"""

from __future__ import annotations

import colorsys
import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from clusteradm import atomic, extras
from clusteradm.errors import UsageError
from clusteradm.jobs.inputs import File
from clusteradm.node.spec.wire.manifest import EMBEDDING, RAW
from clusteradm.node.spec.wire.result import Result

_MOST_PIXELS = 50_000_000  # of a picture, as for the ranks
_MOST_BYTES = 128 << 20  # of its file, as for the ranks
_MOST_NAME = 80  # characters of an input's name in that of a picture
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LEAST_POINT = 0.2  # the score below which a key point is not drawn
_MASK = 0.5  # how much of a class's colour is over a picture
_MOST_LABEL = 40  # characters
_SPARE = 1 << 16  # bytes of a map beyond one for each pixel
_OTHERS = (".npy", ".npz", ".wav")  # inputs that are no pictures
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_BACKGROUND = 0  # the class that is not coloured
# Key points that are joined, by their numbers in COCO's order: arms, trunk, legs, face.
_BONES = (
    *((5, 7), (7, 9), (6, 8), (8, 10), (5, 6), (5, 11), (6, 12), (11, 12)),
    *((11, 13), (13, 15), (12, 14), (14, 16), (0, 1), (0, 2), (1, 3), (2, 4)),
)

Fetch = Callable[[str, BinaryIO], None]


def require(task: str | None) -> None:
    """Raise UsageError where the packages are missing, or nothing of the task can be drawn."""
    if task in (None, RAW, EMBEDDING):
        raise UsageError(
            f"--annotate draws classes, boxes, maps and key points: there are none in {task or RAW} results"
        )
    extras.require("results", ("numpy", "PIL"), "--annotate")


def name_of(result: Result) -> str:
    """The name of the picture of a result: its number, and as much of its name as is safe everywhere."""
    last = result.input.rpartition("/")[2] or result.input
    stem = _UNSAFE.sub("_", last.rpartition(".")[0] or last)
    return f"{result.index:06d}-{stem[-_MOST_NAME:].lstrip('.-')}.jpg"


def draw(
    results: Iterator[Result], pictures: Mapping[str, File], folder: Path, fetch: Fetch
) -> Iterator[tuple[Result, str | None]]:
    """Write a JPEG to `folder` for each result without an error; (result, why there is none) one by one.

    `pictures`: the files by the names of the inputs; `fetch` copies a file of the job. What is no picture of these is
    passed over.
    """
    for result in results:
        file = pictures.get(result.input)
        if result.error is not None or file is None or not is_picture(file):
            continue
        try:
            content = _drawn(result, file, fetch)
        except UsageError as error:
            yield result, error.what
            continue
        target = folder / name_of(result)
        if target.is_symlink():  # never written through
            target.unlink()
        atomic.write(target, content)
        yield result, None


def _drawn(result: Result, source: File, fetch: Fetch) -> bytes:
    """The picture with what was found in it, as a JPEG. Raises UsageError."""
    image = _opened(source.read(_MOST_BYTES), result)
    if result.map is not None:
        image = _masked(image, _map(result, fetch))
    _Pen(image).draw(result)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def thumbnail(result: Result, source: File, fetch: Fetch, side: int) -> tuple[bytes, int]:
    """A small JPEG of the picture with what was found in it, but its classes; its longer side, `side` pixels at most.

    Raises UsageError, also where packages are missing.
    """
    extras.require("results", ("numpy", "PIL"), "a report with pictures")
    image = _opened(source.read(_MOST_BYTES), result)
    if result.map is not None:
        image = _masked(image, _map(result, fetch))
    if result.objects or result.poses:
        _Pen(image).draw(result)
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return file.getvalue(), max(image.size)


def is_picture(file: File) -> bool:
    """Whether an input may be one, by its name."""
    return not file.name.lower().endswith(_OTHERS)


def _opened(data: bytes, result: Result) -> Any:
    """The picture, upright, in RGB. Raises UsageError for one that is too large, or not the one of the result."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures
            # Those that ranks read: of PostScript, Pillow would start a program with what the file says.
            file = Image.open(io.BytesIO(data), formats=_FORMATS)
            across, down = file.size
            if across * down > _MOST_PIXELS:
                raise UsageError(f"a picture of {across}x{down} pixels, more than {_MOST_PIXELS:,}")
            image = _in_colours(ImageOps.exif_transpose(file), file.format)
    except UsageError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error ...
        raise UsageError(f"not a picture that can be read here: {error}") from None
    if result.size is not None and image.size != result.size:
        across, down = result.size
        raise UsageError(f"it is not the picture of the result, which had {across}x{down} pixels")
    return image


def _in_colours(image: Any, kind: str | None) -> Any:
    """The picture in RGB, as the ranks have it: greys of 16 bits scaled, and what is transparent on white."""
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I"):
        grey = (np.asarray(image).astype(np.uint32) + 128) // 257
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if kind != "BMP" and (image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info):
        layers = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layers.size, (255, 255, 255, 255)), layers)
    return image.convert("RGB")


class _Bounded(io.BytesIO):
    """What a host sends, up to so many bytes."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self._most:
            raise UsageError(f"its map has more than {self._most:,} bytes")
        return int(super().write(data))


def _map(result: Result, fetch: Fetch) -> Any:
    """The map of classes, as a picture of one grey. Raises UsageError for one that does not fit the result."""
    from PIL import Image

    name = result.map.file if result.map else None
    size = result.size
    if name is None or size is None or not name.endswith(".png"):
        raise UsageError("its map has more than 256 classes, which are not drawn")
    file = _Bounded(size[0] * size[1] + _SPARE)
    fetch(name, file)
    try:
        image = Image.open(file, formats=("PNG",))
        if image.size != size or image.mode != "L":
            raise UsageError("its map is not one of its picture")
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise UsageError(f"its map cannot be read: {error}") from None
    return image


def _masked(image: Any, classes: Any) -> Any:
    """The picture with the colour of each place's class over it."""
    from PIL import Image

    palette = [value for number in range(256) for value in _colour(number)]
    colours = classes.copy()
    colours.putpalette(palette)
    cover = classes.point([0 if number == _BACKGROUND else int(255 * _MASK) for number in range(256)])
    return Image.composite(colours.convert("RGB"), image, cover)


def _colour(number: int) -> tuple[int, int, int]:
    """A colour of a class: those of neighbours are far apart."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.85, 1.0)
    return int(red * 255), int(green * 255), int(blue * 255)


class _Pen:
    """What draws on one picture; lines and letters grow with it."""

    def __init__(self, image: Any) -> None:
        from PIL import ImageDraw, ImageFont

        self._draw = ImageDraw.Draw(image)
        self._width, self._height = image.size
        self._line = max(2, max(image.size) // 400)
        self._font = ImageFont.load_default(max(11, max(image.size) // 45))

    def draw(self, result: Result) -> None:
        """Draw a result: the better an answer, the later, so that it is on top."""
        for one in reversed(result.objects):
            box, colour = (
                [self._within(place, number) for number, place in enumerate(one["box"])],
                _colour(one["class"]),
            )
            if box[0] < box[2] and box[1] < box[3]:
                self._draw.rectangle(box, outline=colour, width=self._line)
                self._text(box[0], box[1], _words(one, "score"), colour)
        for one in reversed(result.poses):
            self._pose(one["keypoints"])
        below = 0
        for one in (*result.top, *(one for one in result.segments if one["class"] != _BACKGROUND)):
            below = self._text(0, below, _words(one, "score" if "score" in one else "share"), _colour(one["class"]))

    def _within(self, place: int, number: int) -> int:
        most: int = self._height if number % 2 else self._width
        return min(max(place, 0), most - 1)

    def _pose(self, points: list[dict[str, Any]]) -> None:
        places = [
            (point["x"], point["y"])
            if None not in (point["x"], point["y"]) and (point["score"] or 0) >= _LEAST_POINT
            else None
            for point in points
        ]
        for one, other in _BONES:
            ends = places[one], places[other]
            if ends[0] and ends[1]:
                self._draw.line([ends[0], ends[1]], fill=_colour(1), width=self._line)
        for place in filter(None, places):
            x, y, size = place[0], place[1], 2 * self._line
            self._draw.ellipse([x - size, y - size, x + size, y + size], fill=_colour(2))

    def _text(self, x: int, y: int, text: str, colour: tuple[int, int, int]) -> int:
        """Write a line with its upper left corner there, within the picture; the first row below it."""
        left, top, right, bottom = self._draw.textbbox((0, 0), text, font=self._font)
        x, y = (int(max(0, min(x, self._width - right))), int(max(0, min(y, self._height - bottom))))
        self._draw.rectangle([x + left, y + top, x + right, y + bottom], fill=colour)
        self._draw.text((x, y), text, fill=(0, 0, 0), font=self._font)
        return int(y + bottom)


def _words(answer: Mapping[str, Any], share: str) -> str:
    """A label, in letters that every font has, with its score."""
    label = str(answer.get("label") or answer["class"])[:_MOST_LABEL].encode("ascii", "replace").decode()
    value = answer.get(share)
    return " ".join(label.split()) + ("" if value is None else f" {value:.2f}")
