"""What the converters have in common: their arguments, and rows of tensors that tell how far they have been read."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from clusteradm.models.channel import Channel

_EVERY = 0.1  # seconds between two lines about the progress


def run(convert: Callable[[Channel, Path, Path, Path, str], None]) -> None:
    """The program of a converter. Its argument is JSON: the source, the float model, the 8-bit one, and its ends."""
    channel = Channel()
    source, floats, output, ends = json.loads(sys.argv[1])
    convert(channel, Path(source), Path(floats), Path(output), ends)


class Rows:
    """Rows of tensors, one at a time as a batch of 1, that tell how far a converter has read.

    `silent`: readings from the first to the last row that are not told of.
    """

    def __init__(self, rows: Any, form: Callable[[Any], Any], channel: Channel, silent: int = 0) -> None:
        self._rows, self._form, self._channel = rows, form, channel
        self._silent = silent

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Any]:
        tell, self._silent = self._silent < 1, self._silent - 1
        said = 0.0
        for number in range(len(self._rows)):
            if tell and time.monotonic() - said > _EVERY:
                said = time.monotonic()
                self._channel.say(done=number, total=len(self._rows))
            yield self._form(self._rows[number])
