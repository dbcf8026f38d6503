"""Decoder of picture files: upright, opaque, 8 bits a channel, in the size and the channels that a model takes.

The same file gives the same numbers on every board, whatever its Pillow (5.4 and newer) makes of it by default.
By Pillow alone: simplejpeg, which scales while it decodes too, gives the very same numbers in 0.9 of the time
(640x480 to 224x224, Pillow 13 and simplejpeg 1.9, libjpeg-turbo 3), which is not worth a wheel on every host.
"""

import io
import re
from typing import Any, Callable, Tuple, TypeVar

import numpy as np
from PIL import Image

from clusteradm.node.edgetpu import formats
from clusteradm.node.edgetpu.tasks.fit import Fit
from clusteradm.node.spec.wire.manifest import STRETCH

# The most pixels of a picture as it is decoded; a rank decodes up to three at once, on boards of 1 GB.
MOST_PIXELS = 50000000
# The longest side of a JPEG (ITU-T T.81), and more than any camera gives.
MOST_SIDE = 65535
_MOST_REASON = 300  # characters of an error

T = TypeVar("T")

# Numbers of Pillow's constants, whose names have moved between its versions.
_BILINEAR = 2
# Exif's orientation -> what turns the picture upright (Image.transpose).
_FLIP_LEFT_RIGHT, _FLIP_TOP_BOTTOM, _ROTATE_90, _ROTATE_180, _ROTATE_270, _TRANSPOSE, _TRANSVERSE = range(7)
_UPRIGHT = {
    2: _FLIP_LEFT_RIGHT,
    3: _ROTATE_180,
    4: _FLIP_TOP_BOTTOM,
    5: _TRANSPOSE,
    6: _ROTATE_270,
    7: _TRANSVERSE,
    8: _ROTATE_90,
}


class BadInput(Exception):
    """An input that cannot be used; it gets an error as its result, and the job goes on."""


def decode(data: bytes, height: int, width: int, channels: int, fit: str = STRETCH) -> Tuple[Any, Tuple[int, int]]:
    """The picture as uint8 of the shape (height, width, channels), and its own width and height, upright.

    `fit`: one of FITS of node/spec/wire/manifest.py. Raises BadInput.
    """
    return _readable(lambda: _decode(data, formats.look(data), (height, width), channels, fit))


def size(data: bytes) -> Tuple[int, int]:
    """Width and height of the picture, upright, by its header. Raises BadInput."""

    def look() -> Tuple[int, int]:
        across, down = Image.open(io.BytesIO(data)).size
        return (down, across) if formats.look(data).orientation > 4 else (across, down)

    return _readable(look)


def _readable(work: Callable[[], T]) -> T:
    """What the work gives, and whatever it raises as BadInput."""
    try:
        return work()
    except formats.Unfit as error:
        raise BadInput(str(error)) from None
    except (BadInput, MemoryError):
        raise
    except Image.DecompressionBombError:  # Pillow's own limit, which is higher
        raise BadInput("a picture of more than %d pixels" % MOST_PIXELS) from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error ...
        # Without the address of an object in memory: the same input gives the same result.
        text = " ".join(re.sub(r"<[^>]*>", "", str(error)).split())
        raise BadInput("not a picture that can be read: %s" % (text or type(error).__name__)[:_MOST_REASON]) from None


def _decode(
    data: bytes, about: formats.About, sides: Tuple[int, int], channels: int, kind: str
) -> Tuple[Any, Tuple[int, int]]:
    file = Image.open(io.BytesIO(data))
    if file.format != about.kind and (about.kind, file.format) != ("JPEG", "MPO"):
        raise BadInput("it begins like %s but Pillow reads it as %s" % (about.kind, file.format))
    whole = file.size
    lies = about.orientation > 4
    size = whole[::-1] if lies else whole
    fit = Fit(kind, sides, size)
    left, top, width, height = fit.box
    # A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if that is enough, at a fraction of the cost.
    file.draft(None, (height, width) if lies else (width, height))
    # But a progressive one is first unpacked as a whole.
    across, down = whole if "progressive" in file.info else file.size
    if across * down > MOST_PIXELS:
        raise BadInput("a picture of %dx%d pixels, more than %d" % (across, down, MOST_PIXELS))
    # To make one pixel of a line, Pillow weighs each of its pixels at once: lines of many millions cost gigabytes.
    if max(whole) > MOST_SIDE:
        raise BadInput("a picture of %dx%d pixels, a side longer than %d" % (whole[0], whole[1], MOST_SIDE))
    if about.kind == "GIF" and getattr(file, "is_animated", False):
        raise BadInput("an animation: save the pictures of it that are to be used")
    image = _converted(file, about, channels)
    if about.orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[about.orientation])
    if image.size != (width, height):
        image = image.resize((width, height), _BILINEAR)
    pixels = np.asarray(image, np.uint8).reshape(height, width, channels)
    if (height, width) != sides:
        picture, pixels = pixels, np.full((*sides, channels), fit.border, np.uint8)
        pixels[:, :, 3:] = 255  # opaque
        pixels[top : top + height, left : left + width] = picture
    return pixels, size


def _converted(file: Any, about: formats.About, channels: int) -> Any:
    """The picture in so many channels. What is transparent is shown on white, unless the model takes it."""
    file.load()
    if file.mode.startswith("I;16") or (file.mode == "I" and about.kind in ("PNG", "PPM")):
        # Pillow would cut off at 255.
        grey = (np.asarray(file).astype(np.uint32) + 128) // 257
        file = Image.fromarray(grey.astype(np.uint8))
    elif file.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"):
        raise BadInput("pixels of the kind %s, of which nothing says which are black and white" % file.mode)
    elif about.kind == "BMP" and file.mode == "RGBA":
        file = file.convert("RGB")  # whether a BMP's fourth byte is transparency depends on Pillow
    if channels == 4:
        return file.convert("RGBA")
    if file.mode in ("LA", "PA", "RGBA") or "transparency" in file.info:
        layers = file.convert("RGBA")
        file = Image.alpha_composite(Image.new("RGBA", layers.size, (255, 255, 255, 255)), layers).convert("RGB")
    if channels == 3:
        return file.convert("RGB")
    return file.convert("L") if file.mode in ("1", "L") else _grey(file.convert("RGB"))


def _grey(image: Any) -> Any:
    """The luma of ITU-R BT.601, rounded; Pillow rounded it down before version 7."""
    red, green, blue = np.asarray(image, np.uint32).transpose(2, 0, 1)
    return Image.fromarray(((red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16).astype(np.uint8))
