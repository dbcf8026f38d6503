"""Fit of a picture into a model's input: where in the input the picture is, and back from there to its pixels."""

from typing import Any, Optional, Tuple

from clusteradm.node.spec.wire.manifest import LETTERBOX, PAD, STRETCH

GREY = 114  # around a picture in the middle
BLACK = 0


class Fit:
    """`kind`: one of FITS; `sides`: height and width of the input; `size`: width and height of the picture, upright,
    None for the input's own. `box`: left, top, width and height of the picture in the input, in whole pixels."""

    def __init__(self, kind: str, sides: Tuple[int, int], size: Optional[Tuple[int, int]]) -> None:
        high, wide = sides
        self.width, self.height = size or (wide, high)
        self.box = (0, 0, wide, high)
        # The value of the pixels around the picture.
        self.border = GREY if kind == LETTERBOX else BLACK
        # Numbers from 0 to 1 across the input, times `scale`, plus `shift`, are pixels of the picture.
        self.scale: Tuple[float, float] = (float(self.width), float(self.height))
        self.shift: Tuple[float, float] = (0.0, 0.0)
        if kind == STRETCH or size is None:
            return
        ratio = min(wide / float(self.width), high / float(self.height))
        self.scale = (wide / ratio, high / ratio)
        if kind == PAD:
            # As pycoral's set_resized_input: cut off to whole pixels.
            self.box = (0, 0, max(1, int(self.width * ratio)), max(1, int(self.height * ratio)))
        elif kind == LETTERBOX:
            across = min(wide, max(1, round(self.width * ratio)))
            down = min(high, max(1, round(self.height * ratio)))
            # An odd pixel is to the right and below, as Ultralytics has it.
            left, top = round((wide - across) / 2.0 - 0.1), round((high - down) / 2.0 - 0.1)
            self.box = (left, top, across, down)
            self.shift = (-left / ratio, -top / ratio)

    def across(self, values: Any) -> Any:
        """Numbers from 0 to 1 across the input as pixels of the picture."""
        return values * self.scale[0] + self.shift[0]

    def down(self, values: Any) -> Any:
        """Numbers from 0 to 1 down the input as pixels of the picture."""
        return values * self.scale[1] + self.shift[1]
