"""Steps that are built into ensembles: decode, resize, crop, top_k, threshold."""

from typing import Any, Callable, Dict, Optional

import numpy as np
from PIL import Image

from clusteradm.node.edgetpu import pictures
from clusteradm.node.edgetpu.tasks.fit import Fit
from clusteradm.node.serve.servables.work import Arrays, BadInput, Work
from clusteradm.node.spec.wire.manifest import Manifest
from clusteradm.node.spec.wire.servables import CROP, DECODE, MOST_ROWS, RESIZE, THRESHOLD, TOP_K, Servable, Step

_MOST_SIDE = 2048  # of a picture that is decoded in its own size; a larger one is made smaller
_MOST_BYTES = 64 << 20
_BILINEAR = 2  # Image.BILINEAR, whose place has moved between versions


class EnsembleWork(Work):
    """The built-in steps of an ensemble; what its members do is done elsewhere."""

    def __init__(self, manifest: Manifest) -> None:
        self._servable: Servable = manifest.servable  # type: ignore[assignment]
        self.inputs, self.outputs = manifest.inputs, manifest.outputs

    def run(self, step: Optional[int], inputs: Arrays) -> Arrays:
        """One step."""
        one = self._servable.steps[step or 0]
        if one.op is None:
            raise BadInput("step %s is another model's" % one.name)
        return _WORK[one.op](one, inputs)

    def sample(self) -> Optional[Arrays]:
        """None: its steps are tried by what comes."""
        return None


def _decode(step: Step, inputs: Arrays) -> Arrays:
    given = inputs["data"].ravel().tolist()
    if not step.size and len(given) != 1:
        raise BadInput("%d pictures; one at a time is decoded in its own size" % len(given))
    if len(given) > MOST_ROWS:
        raise BadInput("%d pictures, more than %d" % (len(given), MOST_ROWS))
    try:
        sides = [step.size or _own(data) for data in given]
        if sum(high * wide for high, wide in sides) * step.channels > _MOST_BYTES:
            raise BadInput("its pictures have too many pixels")
        made = [
            pictures.decode(data, high, wide, step.channels, step.fit)[0] for data, (high, wide) in zip(given, sides)
        ]
    except pictures.BadInput as error:
        raise BadInput(str(error)) from None
    return {"picture": np.stack(made)}


def _own(data: bytes) -> Any:
    """Height and width of a picture, upright, as it is decoded."""
    width, height = pictures.size(data)
    ratio = min(1.0, _MOST_SIDE / float(max(width, height)))
    return max(1, int(height * ratio)), max(1, int(width * ratio))


def _resize(step: Step, inputs: Arrays) -> Arrays:
    return {"picture": np.stack([_fitted(each, step) for each in _rows(inputs["picture"])])}


def _rows(given: Any) -> Any:
    if given.ndim != 4 or not given.size or given.shape[3] not in (1, 3, 4):
        raise BadInput("no picture: UINT8 [1, height, width, 1 or 3], not %s" % list(given.shape))
    if len(given) > MOST_ROWS:
        raise BadInput("%d pictures, more than %d" % (len(given), MOST_ROWS))
    return given


def _image(pixels: Any) -> Any:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _fitted(pixels: Any, step: Step) -> Any:
    height, width = step.size
    channels = pixels.shape[2]
    fit = Fit(step.fit, (height, width), (pixels.shape[1], pixels.shape[0]))
    left, top, across, down = fit.box
    image = np.asarray(_image(pixels).resize((across, down), _BILINEAR), np.uint8).reshape(down, across, channels)
    if (down, across) == (height, width):
        return image
    made = np.full((height, width, channels), fit.border, np.uint8)
    made[top : top + down, left : left + across] = image
    return made


def _crop(step: Step, inputs: Arrays) -> Arrays:
    given = _rows(inputs["picture"])
    boxes = inputs["boxes"]
    if len(given) != 1 or boxes.shape[-1] != 4 or (boxes.ndim == 3 and len(boxes) != 1):
        raise BadInput("boxes of one picture, [boxes, 4], not %s of %d" % (list(boxes.shape), len(given)))
    boxes = boxes.reshape(-1, 4)[: step.most].astype(np.float32)
    if not np.isfinite(boxes).all():
        raise BadInput("a box that is not of numbers")
    pixels = given[0]
    height, width = step.size
    image, (high, wide) = _image(pixels), pixels.shape[:2]
    made = np.empty((len(boxes), height, width, pixels.shape[2]), np.uint8)
    for number, (ymin, xmin, ymax, xmax) in enumerate(np.clip(boxes, 0.0, 1.0).tolist()):
        # At least a pixel, so that each box has its picture.
        left, top = min(int(xmin * wide), wide - 1), min(int(ymin * high), high - 1)
        right, bottom = max(left + 1, int(np.ceil(xmax * wide))), max(top + 1, int(np.ceil(ymax * high)))
        part = image.crop((left, top, right, bottom)).resize((width, height), _BILINEAR)
        made[number] = np.asarray(part, np.uint8).reshape(made.shape[1:])
    return {"picture": made, "boxes": boxes}


def _top_k(step: Step, inputs: Arrays) -> Arrays:
    scores = inputs["scores"]
    # Of equal scores the first.
    keys = scores if scores.dtype.kind == "f" else scores.astype(np.float64)
    order = np.argsort(-keys, -1, "stable")[..., : step.most]
    return {"scores": np.take_along_axis(scores, order, -1), "indices": order.astype(np.int32)}


def _threshold(step: Step, inputs: Arrays) -> Arrays:
    scores = inputs["scores"]
    lead = scores.ndim
    if any(each.shape[:lead] != scores.shape for each in inputs.values()) or (lead == 2 and len(scores) != 1):
        raise BadInput("not the same rows: %s" % {name: list(each.shape) for name, each in inputs.items()})
    flat = scores.ravel()
    keep = np.flatnonzero(flat >= step.least)
    keep = keep[np.argsort(-flat[keep], kind="stable")]
    if step.most:
        keep = keep[: step.most]
    return {name: each.reshape((flat.size, *each.shape[lead:]))[keep] for name, each in inputs.items()}


_WORK: Dict[str, Callable[[Step, Arrays], Arrays]] = {
    DECODE: _decode,
    RESIZE: _resize,
    CROP: _crop,
    TOP_K: _top_k,
    THRESHOLD: _threshold,
}
