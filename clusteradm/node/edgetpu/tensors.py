"""Tensors: an input's bytes to the tensor that the model takes, its outputs to a result. numpy and Pillow only."""

import io
import os
import re
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
from PIL import Image

from clusteradm.node import atomic, paths

# An output of at most this many numbers is in the result itself, a larger one in a file of its own.
INLINE_NUMBERS = 1024

# The most pixels of a picture as it is decoded; a rank decodes up to three at once, on boards of 1 GB.
MOST_PIXELS = 50000000
# Pillow knows more, and for some of them starts other programs (Ghostscript for EPS).
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "TGA", "TIFF", "WEBP")
_MOST_REASON = 300  # characters of an error

_BILINEAR = 2  # Image.BILINEAR: the name has moved between Pillow's versions, the number has not


class BadInput(Exception):
    """An input that cannot be used; it gets an error as its result, and the job goes on."""


class Preprocessor:
    """Input tensors of one model. `details`: the interpreter's of the input (shape, dtype, quantization)."""

    def __init__(self, details: Dict[str, Any]) -> None:
        self.shape = tuple(int(size) for size in details["shape"])
        self.dtype = np.dtype(details["dtype"])
        scale, zero = details["quantization"]
        self.scale, self.zero = float(scale), int(zero)

    def tensor(self, data: bytes, form: Any) -> Any:
        """The tensor, as the model takes it. `form` is None for a picture, [dtype, shape] for an array.

        Raises BadInput, and with the text of a form {"error": text}.
        """
        if form is None:
            return self._pixels(self._decode(data))
        if isinstance(form, dict):
            raise BadInput(str(form.get("error"))[:_MOST_REASON])
        try:
            values = np.frombuffer(data, np.dtype(form[0])).reshape(self.shape)
        except (ValueError, TypeError) as error:
            raise BadInput("not an array that the model takes: %s" % error)
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        if values.dtype == self.dtype:
            return values
        if values.dtype == np.uint8:
            return self._pixels(values)
        return self._real(values)

    def _decode(self, data: bytes) -> Any:
        """A picture as uint8 in the model's shape, resized to its height and width."""
        height, width, channels = picture_size(self.shape)
        mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
        try:
            file = Image.open(io.BytesIO(data))
            if file.format not in FORMATS:
                raise BadInput("a file of the format %s; pictures are %s" % (file.format, ", ".join(FORMATS)))
            whole = file.size
            # A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if that is enough, at a fraction of the cost.
            file.draft(None, (width, height))
            # But a progressive one is first unpacked as a whole.
            across, down = whole if "progressive" in file.info else file.size
            if across * down > MOST_PIXELS:
                raise BadInput("a picture of %dx%d pixels, more than %d" % (across, down, MOST_PIXELS))
            image = file.convert(mode)
            if image.size != (width, height):
                image = image.resize((width, height), _BILINEAR)
        except BadInput:
            raise
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error ...
            # Without the address of an object in memory: the same input gives the same result.
            text = " ".join(re.sub(r"<[^>]*>", "", str(error)).split())
            raise BadInput("not a picture that can be read: %s" % (text or type(error).__name__)[:_MOST_REASON])
        return np.asarray(image, np.uint8).reshape(self.shape)

    def _pixels(self, values: Any) -> Any:
        """Pixels in the model's dtype: black to white is the whole range of a quantised input, -1 to 1 of a float."""
        if self.dtype == np.uint8:
            return values
        if self.dtype == np.int8:
            return (values.astype(np.int16) - 128).astype(np.int8)
        return (values.astype(np.float32) / np.float32(127.5) - np.float32(1)).astype(self.dtype)

    def _real(self, values: Any) -> Any:
        """Real numbers in the model's dtype, quantised by the input's scale and zero point."""
        if self.dtype.kind == "f" or not self.scale:
            return values.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        quantised = np.round(values.astype(np.float64) / self.scale) + self.zero
        return np.clip(np.nan_to_num(quantised), limits.min, limits.max).astype(self.dtype)


def picture_size(shape: Tuple[int, ...]) -> Tuple[int, int, int]:
    """(height, width, channels) of the pictures that an input of this shape takes: 1xHxWxC, or 1xHxW for grey."""
    if len(shape) == 4 and shape[0] == 1 and shape[3] in (1, 3, 4):
        return shape[1], shape[2], shape[3]
    if len(shape) == 3 and shape[0] == 1:
        return shape[1], shape[2], 1
    raise BadInput("the model takes %s, no pictures: give it .npy files" % "x".join(str(size) for size in shape))


class Postprocessor:
    """Results of one model. `details`: the interpreter's of the outputs; `top`: classes in a classifier's result."""

    def __init__(self, details: List[Dict[str, Any]], top: int, folder: str) -> None:
        self._details = details
        self._folder = folder
        size = [int(n) for n in details[0]["shape"]]
        # A classifier, by its shape: one output, one row of scores.
        classifier = len(details) == 1 and bool(size) and size[-1] > 1 and int(np.prod(size)) == size[-1]
        classifier = classifier and np.dtype(details[0]["dtype"]).kind in "iuf"
        self._top = min(top, size[-1]) if classifier else 0

    def result(self, index: int, outputs: List[Any]) -> Dict[str, Any]:
        """The result of input `index`, in the journal's form: "top": [[class, score], ...] or "outputs"."""
        if self._top:
            scores = outputs[0].reshape(-1)
            # Of equal scores the lower class first, as argmax does. Negation would overflow in a small dtype.
            order = np.argsort(-scores.astype(np.float64), kind="stable")[: self._top]
            real = _real(scores[order], self._details[0])
            return {"i": index, "top": [[int(n), _rounded(score)] for n, score in zip(order, real)]}
        return {"i": index, "outputs": [self._output(index, n, value) for n, value in enumerate(outputs)]}

    def _output(self, index: int, number: int, value: Any) -> Dict[str, Any]:
        details, value = self._details[number], _writable(value)
        output: Dict[str, Any] = {"name": details["name"], "shape": [int(n) for n in value.shape]}
        if value.size <= INLINE_NUMBERS:
            output["values"] = _plain(_real(value, details))
            return output
        os.makedirs(self._folder, exist_ok=True)
        name = "%06d-%d.npy" % (index, number)
        # Any board can put a link to a folder of this one in its place.
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            path = os.path.join(paths.by_descriptor(folder), name)
            # As durable as the journal's line about it, which is not on the disk either before the attempt ends.
            with atomic.replacing(path, mode=0o644, durable=False) as file:
                np.save(file, value)
        finally:
            os.close(folder)
        scale, zero = details["quantization"]
        output.update(
            file=os.path.basename(self._folder) + "/" + name,
            dtype=str(value.dtype),
            scale=float(scale) or None,
            zero_point=int(zero),
        )
        return output


def _rounded(score: Any) -> Optional[float]:
    """A score as JSON can hold it: None for NaN and infinity."""
    return round(float(score), 6) if np.isfinite(score) else None


def _writable(values: Any) -> Any:
    """An output in a form that JSON and .npy files can hold: numbers, or text for a string tensor's bytes."""
    if values.dtype.kind in "OS":
        text = [item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in values.flat]
        return np.array(text, np.str_).reshape(values.shape)
    # The small types of floating-point numbers that NumPy itself does not have, such as bfloat16.
    return values.astype(np.float32) if values.dtype.kind == "V" else values


def _plain(values: Any) -> Any:
    """Nested lists of what JSON can hold: it has no NaN, no infinity, and [real, imaginary] for a complex number."""
    if values.dtype.kind == "c":
        return _plain(np.stack([values.real, values.imag], -1))
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return [_plain(row) for row in values] if values.ndim else None
    return np.round(values.astype(np.float64), 6).tolist() if values.dtype.kind == "f" else values.tolist()


def _real(values: Any, details: Dict[str, Any]) -> Any:
    """Dequantised numbers."""
    scale, zero = details["quantization"]
    if not scale or values.dtype.kind not in "iu":
        return values
    return (values.astype(np.float64) - zero) * scale
