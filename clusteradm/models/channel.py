"""The side of a child (child.py) in its conversation with its parent: lines of JSON, errors as sentences."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any, NoReturn

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


def words(error: BaseException) -> str:
    """An exception of a library as one short line."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
    return (text if len(text) <= _MOST_WORDS else text[:_MOST_WORDS] + " ...") or type(error).__name__
