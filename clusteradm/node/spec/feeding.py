"""How a model's input is fed: whether it takes pictures, and which number of the input stands for each pixel value.

The rule is the same for the admin side, which says it, and for the ranks, which apply it. In this order: the mean and
the deviation that the user gives or that the model's metadata has, (pixel - mean) / std being the real number that the
input holds; else by the input's type: 8 bits and 16 bits: black to white is the input's whole range; floating point:
-1 to 1; whole numbers without a scale: 0 to 255. Where none holds there is no rule, and pictures are refused.
"""

from typing import List, NamedTuple, Optional, Sequence, Tuple, Union

from clusteradm.node.spec.wire.job import InputForm
from clusteradm.node.spec.wire.manifest import METADATA, Feed

NHWC, NCHW = "nhwc", "nchw"

# The form of an input that is samples of 16 bits, with the number of its channels.
SOUND = "sound"
# The form of an input of several tensors, with the type and the shape of each.
SEVERAL = "several"
# Samples a second, where nothing says more: what models of speech and of sounds take.
SAMPLE_RATE = 16000
_LEAST_WINDOW = 128  # samples: of 8 ms

# Channels of a picture, and what they are.
CHANNELS = {1: "grey", 3: "RGB", 4: "RGBA"}

# Types that an array, and so an input, may have: the smallest and the largest number of each that has bounds.
INTEGERS = {
    "uint8": (0, 255),
    "int8": (-128, 127),
    "uint16": (0, 65535),
    "int16": (-32768, 32767),
    "uint32": (0, 2**32 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint64": (0, 2**64 - 1),
    "int64": (-(2**63), 2**63 - 1),
}
FLOATS = ("float16", "float32", "float64")
TYPES = (*INTEGERS, *FLOATS, "bool")

# A 16-bit input is one of pictures, without more being said, if its range is one of these.
_USUAL_RANGES = ((-1.0, 1.0), (0.0, 1.0), (0.0, 255.0))
_CLOSE = 0.01
# The share of pixel values that may be out of an input's range before its metadata is taken for a mistake.
_MOST_CLIPPED = 0.25
# So many numbers at least stand for 256 pixel values, or else it is taken for one, too.
_FEWEST_STEPS = 25

Numbers = List[List[Union[int, float]]]


class NoRule(ValueError):
    """The input takes no pictures, or nothing says how; the text says which."""


class Picture(NamedTuple):
    """The pictures that an input takes."""

    height: int
    width: int
    channels: int
    layout: str

    def __str__(self) -> str:
        return "%dx%d %s" % (self.width, self.height, CHANNELS[self.channels])


class Rule(NamedTuple):
    """`numbers`: what the input gets for each of 256 pixel values, a list per channel, one for all if they are equal;
    `text`: the rule in words; `warning`: why it may not be what the model was made for."""

    picture: Picture
    numbers: Numbers
    text: str
    warning: Optional[str] = None


def rule(form: InputForm) -> Rule:
    """The rule for pictures. Raises NoRule."""
    feed = form.feed or Feed()
    picture = picture_of(form.shape, feed)
    for values in (feed.mean, feed.std):
        if len(values) not in (0, 1, picture.channels):
            raise NoRule(
                "a mean and a deviation for %d channels; its pictures have %d" % (len(values), picture.channels)
            )
    if not feed.std:
        numbers, text = _by_type(form)
        return Rule(picture, [numbers], text)
    channels = range(max(len(feed.mean), len(feed.std)))
    text = "(pixel - %s) / %s" % (_list(feed.mean), _list(feed.std))
    if feed.source == METADATA:
        text += ", by its metadata"
    real = [[(pixel - _of(feed.mean, n)) / _of(feed.std, n) for pixel in range(256)] for n in channels]
    if form.dtype in FLOATS:
        return Rule(picture, [list(one) for one in real], text)
    if form.dtype not in INTEGERS:
        raise NoRule("an input of the type %s takes no pictures" % form.dtype)
    if not form.scale:
        return _without_scale(form, picture, real, text)
    low, high = INTEGERS[form.dtype]
    exact = [[value / form.scale + form.zero_point for value in one] for one in real]
    if form.dtype in ("uint8", "int8") and all(
        abs(value - pixel - low) <= 1 for one in exact for pixel, value in enumerate(one)
    ):
        return Rule(picture, [list(range(low, high + 1))], text)
    clipped = sum(not low - 1 <= value <= high + 1 for one in exact for value in one) / (256.0 * len(exact))
    steps = max(max(one) - min(one) for one in exact)
    if feed.source == METADATA and (clipped > _MOST_CLIPPED or steps < _FEWEST_STEPS):
        numbers, text = _by_type(form)
        warning = "its metadata (mean %s, std %s) does not fit its input's scale: pictures are fed without it; %s" % (
            _list(feed.mean),
            _list(feed.std),
            "--mean and --std say otherwise",
        )
        return Rule(picture, [numbers], text, warning)
    much = "%.0f %% of the pixel values are out of the input's range" % (100 * clipped) if clipped else None
    return Rule(picture, [[min(high, max(low, round(value))) for value in one] for one in exact], text, much)


def _without_scale(form: InputForm, picture: Picture, real: Sequence[Sequence[float]], text: str) -> Rule:
    """The rule for an input of whole numbers as they are, which holds no (pixel - mean) / std that is none.

    Metadata may have it nevertheless: of what the model does with the pixels inside.
    """
    if form.feed and form.feed.source == METADATA:
        numbers, text = _by_type(form)
        return Rule(picture, [numbers], text)
    low, high = INTEGERS[form.dtype]
    if not all(low <= value <= high and value == int(value) for one in real for value in one):
        raise NoRule("its input is of whole numbers (%s) without a scale, which cannot be %s" % (form.dtype, text))
    return Rule(picture, [[int(value) for value in one] for one in real], text)


def picture_of(shape: Sequence[int], feed: Feed) -> Picture:
    """The pictures that an input of this shape takes: 1xHxWxC, 1xCxHxW, or 1xHxW for grey. Raises NoRule."""
    if feed.pictures is not False and len(shape) == 4 and shape[0] == 1 and min(shape) > 0:
        if feed.layout != NCHW and shape[3] in CHANNELS:
            return Picture(shape[1], shape[2], shape[3], NHWC)
        if feed.layout != NHWC and shape[1] in CHANNELS:
            return Picture(shape[2], shape[3], shape[1], NCHW)
    if feed.pictures is not False and len(shape) == 3 and shape[0] == 1 and min(shape) > 0 and feed.layout is None:
        return Picture(shape[1], shape[2], 1, NHWC)
    raise NoRule("the model takes %s, no pictures: give it .npy files" % "x".join(str(size) for size in shape))


def takes_pixels(form: InputForm) -> bool:
    """Whether an array of uint8 is pixels to this input. One of 1xHxW may be of anything, if nothing says more."""
    feed = form.feed or Feed()
    try:
        rule(form)
    except NoRule:
        return False
    return len(form.shape) == 4 or bool(feed.std) or feed.pictures is True


def size(shape: Sequence[int]) -> int:
    """How many values a tensor of this shape has."""
    found = 1
    for number in shape:
        found *= number
    return found


def window(form: InputForm) -> int:
    """Samples of sound that the input takes at once: it is one row of numbers, and no whole ones but 16-bit samples.

    0 where it takes none.
    """
    longest = max(form.shape, default=0)
    takes = form.dtype in FLOATS or form.dtype == "int16" or (form.dtype in INTEGERS and bool(form.scale))
    return longest if takes and size(form.shape) == longest >= _LEAST_WINDOW else 0


def batch(inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> int:
    """How many inputs a model takes at once, by the shapes of its tensors: the first size of each of them, or 1.

    That of pictures alone: of fewer dimensions, nothing says whether the first counts inputs, or steps of time.
    """
    size = inputs[0][0] if len(inputs) == 1 and len(inputs[0]) == 4 else 1
    return size if size > 1 and outputs and all(len(shape) > 0 and shape[0] == size for shape in outputs) else 1


def bounds(form: InputForm) -> Optional[Tuple[float, float]]:
    """The smallest and the largest real number that the input holds; None where it is not quantised."""
    if form.dtype not in INTEGERS or not form.scale:
        return None
    low, high = INTEGERS[form.dtype]
    return (low - form.zero_point) * form.scale, (high - form.zero_point) * form.scale


def _by_type(form: InputForm) -> Tuple[List[Union[int, float]], str]:
    """The numbers for 256 pixel values, by the input's type alone, and the rule in words."""
    if form.dtype in FLOATS:
        return [pixel / 127.5 - 1 for pixel in range(256)], "black to white is -1 to 1"
    if form.dtype in ("uint8", "int8"):
        low, _ = INTEGERS[form.dtype]
        return list(range(low, low + 256)), "black to white is its whole range"
    limits = bounds(form)
    if form.dtype in INTEGERS and limits is None:
        return list(range(256)), "black to white is 0 to 255"
    if form.dtype in INTEGERS and limits is not None:
        for black, white in _USUAL_RANGES:
            close = _CLOSE * (white - black)
            if abs(limits[0] - black) <= close and abs(limits[1] - white) <= close:
                first, last = INTEGERS[form.dtype]
                whole = [first + round(pixel * (last - first) / 255) for pixel in range(256)]
                return list(whole), "black to white is %g to %g" % (black, white)
        raise NoRule(
            "an input of the type %s for numbers from %.6g to %.6g: nothing says which of these black and white are; "
            "say it by --mean and --std" % (form.dtype, limits[0], limits[1])
        )
    raise NoRule("an input of the type %s takes no pictures" % form.dtype)


def _of(values: Sequence[float], channel: int) -> float:
    return values[channel] if len(values) > 1 else (values[0] if values else 0.0)


def _list(values: Sequence[float]) -> str:
    return ",".join("%g" % value for value in values) or "0"
