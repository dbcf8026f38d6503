"""A converter's side of its conversation with the process that started it: lines of JSON, errors as sentences."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

_EVERY = 0.1  # seconds between two lines about the progress
_MOST_WORDS = 500  # characters of an error


class Channel:
    """Lines to the parent process. What libraries write to standard output goes to standard error."""

    def __init__(self) -> None:
        self._lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def say(self, **about: Any) -> None:
        """One line."""
        self._lines.write(json.dumps(about) + "\n")
        self._lines.flush()

    def fail(self, what: str, next_step: str = "") -> NoReturn:
        """Tell the error, and end."""
        self.say(error=what, next_step=next_step)
        self._lines.close()
        sys.exit(2)

    def hear(self) -> dict[str, Any]:
        """A line of the parent; ends this process where there is none."""
        line = sys.stdin.readline()
        if not line:
            sys.exit(2)
        return dict(json.loads(line))


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


def words(error: BaseException) -> str:
    """An exception of a library as one short line."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
    return (text if len(text) <= _MOST_WORDS else text[:_MOST_WORDS] + " ...") or type(error).__name__
