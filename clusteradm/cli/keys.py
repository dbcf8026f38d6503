"""Keys that a person presses while a display is drawn, one by one."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from types import TracebackType
from typing import Any


class Keys:
    """Keys of the terminal, without Enter and without echo, until the end of the block; none without a terminal.

    Ctrl-C stays what it is.
    """

    def __init__(self) -> None:
        self._before: list[Any] | None = None

    def __enter__(self) -> Keys:
        if sys.stdin.isatty():
            self._before = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin, termios.TCSANOW)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            termios.tcsetattr(sys.stdin, termios.TCSANOW, self._before)

    def read(self, seconds: float) -> str:
        """The next key within this time; "" where none is pressed."""
        if self._before is None:
            time.sleep(seconds)
            return ""
        if not select.select([sys.stdin], [], [], seconds)[0]:
            return ""
        # Of a key that sends several bytes (an arrow), the first alone counts.
        return os.read(sys.stdin.fileno(), 64).decode("utf-8", "replace")[:1]
