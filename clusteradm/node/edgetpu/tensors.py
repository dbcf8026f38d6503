"""Input tensors: an input's bytes to what the model takes. numpy and Pillow only. Its outputs: tasks."""

from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from clusteradm.node.edgetpu.pictures import BadInput, decode
from clusteradm.node.spec import feeding
from clusteradm.node.spec.wire.job import InputForm
from clusteradm.node.spec.wire.manifest import STRETCH, Feed

__all__ = ["BadInput", "Fed", "Preprocessor", "Several"]

_MOST_REASON = 300  # characters of an error


class Fed(NamedTuple):
    """An input as the model takes it. `clipped`: the share of its numbers that had to be cut to the input's range;
    `size`: width and height of a picture, upright."""

    tensor: Any
    clipped: float = 0.0
    size: Optional[Tuple[int, int]] = None


class Preprocessor:
    """Input tensors of one model. `details`: the interpreter's of the input (shape, dtype, quantization); `feed`: of
    the job, for pictures; `fit`: how they are brought to the input's size, as the reader of the outputs says."""

    def __init__(self, details: Dict[str, Any], feed: Optional[Feed] = None, fit: str = STRETCH) -> None:
        self._fit = fit
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
        return self.feed(data, form).tensor

    def feed(self, data: bytes, form: Any) -> Fed:
        """The input as the model takes it.

        `form` is None for a picture, [dtype, shape] for an array, [SOUND, channels] for samples of 16 bits. Raises
        BadInput, and with the text of a form {"error": text}.
        """
        if form is None:
            return self._shown(data)
        if isinstance(form, dict):
            raise BadInput(str(form.get("error"))[:_MOST_REASON])
        if form[0] == feeding.SOUND:
            return self._heard(data, form[1])
        try:
            values = np.frombuffer(data, np.dtype(form[0])).reshape(self.shape)
        except (ValueError, TypeError) as error:
            raise BadInput("not an array that the model takes: %s" % error)
        if values.dtype == self.dtype:
            return Fed(values)
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        if values.dtype == self.dtype:
            return Fed(values)
        if values.dtype == np.uint8 and self._pixels_fit:
            return Fed(self._pixels(values))
        return Fed(*self._real(values))

    def _shown(self, data: bytes) -> Fed:
        """The tensor of a picture file, brought to its height and width."""
        if self._refusal:
            raise BadInput(self._refusal)
        height, width, channels, layout = self._picture
        pixels, size = decode(data, height, width, channels, self._fit)
        if layout == feeding.NCHW:
            pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        return Fed(self._pixels(pixels.reshape(self.shape)), 0.0, size)

    def _heard(self, data: bytes, channels: int) -> Fed:
        """The tensor of samples of 16 bits: the mean of the channels, from -1 to 1, silence behind the last."""
        mono = np.frombuffer(data, "<i2").reshape(-1, channels).mean(1)
        samples = np.zeros(int(np.prod(self.shape)))
        samples[: len(mono)] = mono
        if self.dtype == np.int16 and not self.scale:
            return Fed(np.round(samples).astype(np.int16).reshape(self.shape))
        return Fed(*self._real((samples / 32768).reshape(self.shape)))

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


class Several:
    """Input tensors of a model that takes several at once. `details`: the interpreter's, of each; `names`: of the same
    inputs, in the order of the forms."""

    def __init__(self, details: Sequence[Dict[str, Any]], names: Sequence[str]) -> None:
        known = [str(one["name"]) for one in details]
        # A compiler may change their order.
        order = [known.index(name) for name in names] if sorted(known) == sorted(names) else range(len(known))
        self._feeds = [(number, Preprocessor(details[number])) for number in order]

    def feed(self, data: bytes, form: Any) -> Fed:
        """The tensors, in the interpreter's order, of [SEVERAL, [[dtype, shape], ...]]. Raises BadInput."""
        if not isinstance(form, list) or form[0] != feeding.SEVERAL or len(form[1]) != len(self._feeds):
            raise BadInput(str(form.get("error"))[:_MOST_REASON] if isinstance(form, dict) else "not all of its inputs")
        tensors: Dict[int, Any] = {}
        clipped, at = 0.0, 0
        for (number, feed), one in zip(self._feeds, form[1]):
            size = int(np.prod(one[1])) * np.dtype(one[0]).itemsize
            fed = feed.feed(bytes(data[at : at + size]), one)
            tensors[number], clipped, at = fed.tensor, max(clipped, fed.clipped), at + size
        return Fed(tuple(tensors[number] for number in range(len(tensors))), clipped)
