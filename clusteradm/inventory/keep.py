"""What is kept of old jobs: `30d`, `20G`, or both, `30d 20G`."""

from __future__ import annotations

import re
from typing import NamedTuple

_SECONDS = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_BYTES = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_WORD = re.compile(r"([0-9]{1,6})([hdwMGT])")
FORM = "an age, a size, or both: 30d, 20G, 30d 20G (h, d, w; M, G, T)"


class Keep(NamedTuple):
    """Jobs that ended longer ago are removed, and the oldest of those that take more. None: no limit."""

    seconds: float | None = None
    bytes: int | None = None


def parse(text: str) -> Keep:
    """The limits that the text names; none where it is empty. Raises ValueError."""
    found = Keep()
    for word in text.split():
        match = _WORD.fullmatch(word)
        if match is None:
            raise ValueError(f"{text!r} is not {FORM}")
        name = "seconds" if match[2] in _SECONDS else "bytes"
        if getattr(found, name) is not None:
            raise ValueError(f"{text!r} has two {'ages' if name == 'seconds' else 'sizes'}")
        number = int(match[1])
        if name == "seconds":
            found = found._replace(seconds=number * _SECONDS[match[2]])
        else:
            found = found._replace(bytes=number * _BYTES[match[2]])
    return found
