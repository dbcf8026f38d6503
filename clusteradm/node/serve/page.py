"""Page of memory that all processes of a board's server share: how long each engine's queue is, what it works on.

Each place has one writer, and what is read there is advice: a request that it sends the wrong way is refused or waits.
"""

import mmap
import os
import struct
import time
from typing import NamedTuple, Optional, Tuple

ENGINES, FRONTS = 64, 64

_FRONT = struct.Struct("<I")  # requests that a front process has with an engine
_ENGINE = struct.Struct("<dIIQ")  # when the inference began, 0 for none; which version; the last; how many so far
_BEGUN, _ENDED, _COUNT = struct.Struct("<dII"), struct.Struct("<dI"), struct.Struct("<Q")  # parts of it
_TOTALS = struct.Struct("<dQd")  # seconds of all inferences; swaps of one model for another; what those took more
_TOTALS_AT, _EACH = 32, 64  # bytes of an engine's own place
_CLOSED = ENGINES * _EACH  # a byte for each engine
_COUNTS = _CLOSED + ENGINES  # a number for each front process and each engine
_SIZE = _COUNTS + _FRONT.size * FRONTS * ENGINES


class Totals(NamedTuple):
    """Of an engine since the server's start. `busy`: seconds of all inferences; `swaps`: inferences after one of
    another model; `swap_seconds`: what those took more than others, below 0 by chance where it is next to nothing."""

    busy: float
    swaps: int
    swap_seconds: float


class Page:
    """The page, in a file of a folder in memory. Keys of versions are 32 bits; 0 is none."""

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(fd, _SIZE)
            self._memory = mmap.mmap(fd, _SIZE)
        finally:
            os.close(fd)

    def begin(self, engine: int, key: int) -> None:
        """An engine says that an inference begins."""
        _BEGUN.pack_into(self._memory, engine * _EACH, time.monotonic(), key, key)

    def end(self, engine: int) -> None:
        """It says that the inference has ended."""
        _ENDED.pack_into(self._memory, engine * _EACH, 0.0, 0)
        at = engine * _EACH + _BEGUN.size
        _COUNT.pack_into(self._memory, at, _COUNT.unpack_from(self._memory, at)[0] + 1)

    def clear(self, engine: int) -> None:
        """The supervisor, of an engine that it starts anew."""
        _ENGINE.pack_into(self._memory, engine * _EACH, 0.0, 0, 0, self.count(engine))

    def running(self, engine: int) -> Tuple[float, int]:
        """(seconds since the inference at work began, its version); (0, 0) for none."""
        began, key, _, _ = self._engine(engine)
        return (max(0.0, time.monotonic() - began), key) if began else (0.0, 0)

    def last(self, engine: int) -> int:
        """The version that ran last."""
        return self._engine(engine)[2]

    def count(self, engine: int) -> int:
        """The inferences so far."""
        return self._engine(engine)[3]

    def add(self, engine: int, seconds: float, swap_seconds: Optional[float]) -> None:
        """An engine counts an inference; `swap_seconds`: None where it was none after another model's."""
        busy, swaps, more = self.totals(engine)
        if swap_seconds is not None:
            swaps, more = swaps + 1, more + swap_seconds
        _TOTALS.pack_into(self._memory, engine * _EACH + _TOTALS_AT, busy + seconds, swaps, more)

    def totals(self, engine: int) -> Totals:
        """What it has counted."""
        return Totals(*_TOTALS.unpack_from(self._memory, engine * _EACH + _TOTALS_AT))

    def _engine(self, engine: int) -> Tuple[float, int, int, int]:
        return _ENGINE.unpack_from(self._memory, engine * _EACH)

    def close(self, engine: int, closed: bool) -> None:
        """The supervisor takes an engine out of rotation, or returns it."""
        self._memory[_CLOSED + engine] = int(closed)

    def closed(self, engine: int) -> bool:
        """Whether it is out of rotation."""
        return bool(self._memory[_CLOSED + engine])

    def set_waiting(self, front: int, engine: int, count: int) -> None:
        """A front process says how many requests it has with an engine."""
        _FRONT.pack_into(self._memory, _COUNTS + _FRONT.size * (front * ENGINES + engine), count)

    def waiting(self, engine: int, fronts: int) -> int:
        """The requests that all have with it."""
        at, step = _COUNTS + _FRONT.size * engine, _FRONT.size * ENGINES
        return sum(_FRONT.unpack_from(self._memory, at + step * front)[0] for front in range(fronts))
