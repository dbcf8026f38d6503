"""Pulse of a worker process: a page of memory in which it says what it works on, for the rank that started it.

Memory, and not messages: a process that hangs or has been killed sends none.
"""

import mmap
import struct
from typing import Optional, Set

SIZE = mmap.PAGESIZE
DECODERS = 8  # the most threads that say what they decode

_NUMBER, _SECONDS = struct.Struct("<q"), struct.Struct("<d")
_STEP, _INFERRED, _SLOWEST, _LOADING, _STORING, _DECODED = 0, 8, 16, 24, 32, 40  # places in the page
# An input's number plus one: a new page says that there is none. And in the place of the inference:
_WARM_UP = -1


class Pulse:
    """The page. Written by the worker process, read by its rank."""

    def __init__(self, fd: int = -1) -> None:
        """`fd`: a file of SIZE bytes; -1 for a page of this process alone."""
        self._page = mmap.mmap(fd, SIZE)

    def load(self, seconds: float) -> None:
        """Say how long it took to load the model."""
        _SECONDS.pack_into(self._page, _LOADING, seconds)

    def warm_up(self) -> None:
        """Say that inferences on made-up input begin."""
        _NUMBER.pack_into(self._page, _INFERRED, _WARM_UP)

    def begin(self, index: int) -> None:
        """Say that the inference of an input begins."""
        _NUMBER.pack_into(self._page, _INFERRED, index + 1)
        _NUMBER.pack_into(self._page, _STEP, self.step + 1)

    def end(self, seconds: float) -> None:
        """Say that it has ended, after so many seconds."""
        _NUMBER.pack_into(self._page, _INFERRED, 0)
        slowest = self.slowest
        if seconds > slowest:
            # A single one that took very long had perhaps been stopped with its host.
            _SECONDS.pack_into(self._page, _SLOWEST, min(seconds, 4 * slowest) if slowest else seconds)

    def decode(self, thread: int, index: Optional[int]) -> None:
        """Say which input a thread decodes; None: none any more."""
        _NUMBER.pack_into(self._page, _DECODED + 8 * (thread % DECODERS), 0 if index is None else index + 1)

    def store(self, storing: bool) -> None:
        """Say that a file of a result is being written to the shared file system; or that it no longer is."""
        _NUMBER.pack_into(self._page, _STORING, storing)

    @property
    def storing(self) -> bool:
        """Whether a file of a result is being written."""
        return bool(_NUMBER.unpack_from(self._page, _STORING)[0])

    @property
    def step(self) -> int:
        """The number of inferences that were begun."""
        return int(_NUMBER.unpack_from(self._page, _STEP)[0])

    @property
    def inferred(self) -> Optional[int]:
        """The input whose inference has begun and not ended."""
        return self._input(_INFERRED)

    @property
    def warming_up(self) -> bool:
        """Whether an inference on made-up input has begun and not ended."""
        return int(_NUMBER.unpack_from(self._page, _INFERRED)[0]) == _WARM_UP

    @property
    def slowest(self) -> float:
        """Seconds of the slowest inference so far."""
        return float(_SECONDS.unpack_from(self._page, _SLOWEST)[0])

    @property
    def loading(self) -> float:
        """Seconds that it took to load the model."""
        return float(_SECONDS.unpack_from(self._page, _LOADING)[0])

    def inputs(self) -> Set[int]:
        """Every input that is worked on."""
        places = [_INFERRED, *(_DECODED + 8 * thread for thread in range(DECODERS))]
        return {index for index in map(self._input, places) if index is not None}

    def _input(self, place: int) -> Optional[int]:
        number = int(_NUMBER.unpack_from(self._page, place)[0])
        return number - 1 if number > 0 else None
