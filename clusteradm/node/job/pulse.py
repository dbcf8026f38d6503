"""Pulse of a worker process: a page of memory in which it says what it works on, for the rank that started it.

Memory, and not messages: a process that hangs or has been killed sends none.
"""

import mmap
from typing import Optional, Set

SIZE = mmap.PAGESIZE
DECODERS = 8  # the most threads that say what they decode

# Places in the page, of 8 bytes each.
_STEP, _INFERRED, _SLOWEST, _LOADING, _STORING, _DECODED = 0, 1, 2, 3, 4, 5
# An input's number plus one: a new page says that there is none. And in the place of the inference:
_WARM_UP = -1


class Pulse:
    """The page. Written by the worker process, read by its rank."""

    def __init__(self, fd: int = -1) -> None:
        """`fd`: a file of SIZE bytes; -1 for a page of this process alone."""
        page = memoryview(mmap.mmap(fd, SIZE))
        self._numbers, self._seconds = page.cast("q"), page.cast("d")  # the same places

    def load(self, seconds: float) -> None:
        """Say how long it took to load the model."""
        self._seconds[_LOADING] = seconds

    def warm_up(self) -> None:
        """Say that inferences on made-up input begin."""
        self._numbers[_INFERRED] = _WARM_UP

    def begin(self, index: int) -> None:
        """Say that the inference of an input begins."""
        self._numbers[_INFERRED] = index + 1
        self._numbers[_STEP] += 1

    def end(self, seconds: float) -> None:
        """Say that it has ended, after so many seconds."""
        self._numbers[_INFERRED] = 0
        slowest = self._seconds[_SLOWEST]
        if seconds > slowest:
            # A single one that took very long had perhaps been stopped with its host.
            self._seconds[_SLOWEST] = min(seconds, 4 * slowest) if slowest else seconds

    def decode(self, thread: int, index: Optional[int]) -> None:
        """Say which input a thread decodes; None: none any more."""
        self._numbers[_DECODED + thread % DECODERS] = 0 if index is None else index + 1

    def store(self, storing: bool) -> None:
        """Say that a file of a result is being written to the shared file system; or that it no longer is."""
        self._numbers[_STORING] = storing

    @property
    def storing(self) -> bool:
        """Whether a file of a result is being written."""
        return bool(self._numbers[_STORING])

    @property
    def step(self) -> int:
        """The number of inferences that were begun."""
        return self._numbers[_STEP]

    @property
    def inferred(self) -> Optional[int]:
        """The input whose inference has begun and not ended."""
        return self._input(_INFERRED)

    @property
    def warming_up(self) -> bool:
        """Whether an inference on made-up input has begun and not ended."""
        return self._numbers[_INFERRED] == _WARM_UP

    @property
    def slowest(self) -> float:
        """Seconds of the slowest inference so far."""
        return self._seconds[_SLOWEST]

    @property
    def loading(self) -> float:
        """Seconds that it took to load the model."""
        return self._seconds[_LOADING]

    def inputs(self) -> Set[int]:
        """Every input that is worked on."""
        places = [_INFERRED, *range(_DECODED, _DECODED + DECODERS)]
        return {index for index in map(self._input, places) if index is not None}

    def _input(self, place: int) -> Optional[int]:
        number = self._numbers[place]
        return number - 1 if number > 0 else None
