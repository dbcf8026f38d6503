"""Tensors: an input's bytes to the tensor that the model takes, its outputs to a result. numpy and Pillow only."""

import os
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from clusteradm.node import atomic, paths
from clusteradm.node.edgetpu.pictures import BadInput, decode
from clusteradm.node.spec import feeding
from clusteradm.node.spec.wire.job import InputForm
from clusteradm.node.spec.wire.manifest import Feed

__all__ = ["INLINE_NUMBERS", "BadInput", "Postprocessor", "Preprocessor"]

# An output of at most this many numbers is in the result itself, a larger one in a file of its own.
INLINE_NUMBERS = 1024

_MOST_REASON = 300  # characters of an error


class Preprocessor:
    """Input tensors of one model. `details`: the interpreter's of the input (shape, dtype, quantization); `feed`: of
    the job, for pictures."""

    def __init__(self, details: Dict[str, Any], feed: Optional[Feed] = None) -> None:
        self.shape = tuple(int(size) for size in details["shape"])
        self.dtype = np.dtype(details["dtype"])
        scale, zero = details["quantization"]
        self.scale, self.zero = float(scale), int(zero)
        form = InputForm(self.dtype.name, self.shape, self.scale or None, self.zero, feed)
        self._pixels_fit = feeding.takes_pixels(form)
        try:
            rule = feeding.rule(form)
            self._refusal = ""
            self._picture = rule.picture
            # A row for each pixel value, a column for each channel, or one for all.
            self._numbers = np.array(rule.numbers, np.float64).T.astype(self.dtype)
        except feeding.NoRule as error:
            self._refusal = str(error)

    def tensor(self, data: bytes, form: Any) -> Any:
        """The tensor alone of `feed`."""
        return self.feed(data, form)[0]

    def feed(self, data: bytes, form: Any) -> Tuple[Any, float]:
        """The tensor, as the model takes it, and the share of its numbers that had to be cut to the input's range.

        `form` is None for a picture, [dtype, shape] for an array. Raises BadInput, and with the text of a form
        {"error": text}.
        """
        if form is None:
            return self._shown(data), 0.0
        if isinstance(form, dict):
            raise BadInput(str(form.get("error"))[:_MOST_REASON])
        try:
            values = np.frombuffer(data, np.dtype(form[0])).reshape(self.shape)
        except (ValueError, TypeError) as error:
            raise BadInput("not an array that the model takes: %s" % error)
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        if values.dtype == self.dtype:
            return values, 0.0
        if values.dtype == np.uint8 and self._pixels_fit:
            return self._pixels(values), 0.0
        return self._real(values)

    def _shown(self, data: bytes) -> Any:
        """The tensor of a picture file, resized to its height and width."""
        if self._refusal:
            raise BadInput(self._refusal)
        height, width, channels, layout = self._picture
        pixels = decode(data, height, width, channels)
        if layout == feeding.NCHW:
            pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        return self._pixels(pixels.reshape(self.shape))

    def _pixels(self, values: Any) -> Any:
        """Pixels, in the model's shape, as its numbers."""
        if self._numbers.shape[1] == 1:
            if self.dtype == np.uint8 and np.array_equal(self._numbers[:, 0], np.arange(256)):
                return values
            return self._numbers[:, 0][values]
        axis = 1 if self._picture.layout == feeding.NCHW else len(self.shape) - 1
        made = np.empty(self.shape, self.dtype)
        for channel in range(self._numbers.shape[1]):
            place = (slice(None),) * axis + (channel,)
            made[place] = self._numbers[:, channel][values[place]]
        return made

    def _real(self, values: Any) -> Tuple[Any, float]:
        """Real numbers in the model's dtype, quantised by the input's scale and zero point, and the share out of range.

        Raises BadInput where the input has no number for them: NaN, or 3.7 in whole numbers.
        """
        if self.dtype.kind == "f":
            with np.errstate(over="ignore"):
                cast = values.astype(self.dtype)
            lost = np.isinf(cast) & np.isfinite(values.astype(np.float64))
            if lost.any():
                raise BadInput("it has numbers that are too large for the model's input, which is %s" % self.dtype.name)
            return cast, 0.0
        if self.dtype.kind not in "iu":
            raise BadInput("the model takes %s, not %s" % (self.dtype.name, values.dtype.name))
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise BadInput("it has NaN or infinity, for which the model's input (%s) has no number" % self.dtype.name)
        limits = np.iinfo(self.dtype)
        if not self.scale:
            with np.errstate(invalid="ignore"):
                cast = values.astype(self.dtype)
            if not np.array_equal(cast.astype(np.float64), values.astype(np.float64)):
                raise BadInput("the model takes whole numbers from %d to %d" % (limits.min, limits.max))
            return cast, 0.0
        quantised = np.round(values.astype(np.float64) / self.scale) + self.zero
        # A step beyond the end is what rounding makes of the end itself.
        clipped = float(np.mean((quantised < limits.min - 1) | (quantised > limits.max + 1)))
        return np.clip(quantised, limits.min, limits.max).astype(self.dtype), clipped


class Postprocessor:
    """Results of one model. `details`: the interpreter's of the outputs; `top`: classes in a classifier's result, of
    those that have a score of `threshold` at least."""

    def __init__(self, details: List[Dict[str, Any]], top: int, folder: str, threshold: Optional[float] = None) -> None:
        self._threshold = threshold
        self._details = details
        self._folder = folder
        size = [int(n) for n in details[0]["shape"]]
        # A classifier, by its shape: one output, one row of scores.
        classifier = len(details) == 1 and bool(size) and size[-1] > 1 and int(np.prod(size)) == size[-1]
        classifier = classifier and np.dtype(details[0]["dtype"]).kind in "iuf"
        self._top = min(top, size[-1]) if classifier else 0

    @property
    def classifier(self) -> bool:
        """Whether the model is one, by its shape."""
        return self._top > 0

    def result(self, index: int, outputs: List[Any]) -> Dict[str, Any]:
        """The result of input `index`, in the journal's form: "top": [[class, score], ...] or "outputs"."""
        if self._top:
            scores = outputs[0].reshape(-1)
            # Of equal scores the lower class first, as argmax does. Negation would overflow in a small dtype.
            order = np.argsort(-scores.astype(np.float64), kind="stable")[: self._top]
            real = _real(scores[order], self._details[0])
            least = self._threshold
            found = [(n, score) for n, score in zip(order, real) if least is None or score >= least]
            return {"i": index, "top": [[int(n), _rounded(score)] for n, score in found]}
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
            # Not on the disk at once; should a power failure empty it, the journal does not count the input as done.
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
