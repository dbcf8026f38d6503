"""Arena: memory that a front process shares with the engines, in which tensors cross beside the sockets."""

import mmap
import os
import tempfile
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from clusteradm.node.serve.loaded import Loaded

SIZE = 64 << 20  # only what has been used takes memory
_ALIGN = 64
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a file there has no name


class Layout(NamedTuple):
    """Where the tensors of a request lie, counted from its block: (offset, shape, dtype) of inputs and outputs;
    `output_bytes`: (offset, size) of these."""

    inputs: Tuple[Tuple[int, Tuple[int, ...], str], ...]
    outputs: Tuple[Tuple[int, Tuple[int, ...], str], ...]
    output_bytes: Tuple[Tuple[int, int], ...]
    size: int


def layout(loaded: Loaded, rows: int) -> Layout:
    """The layout of a request of so many rows; both sides make the same. `rows`: 0 for the model's own shape."""
    at = 0
    found: List[List[Tuple[int, Tuple[int, ...], str]]] = [[], []]
    sizes: List[List[Tuple[int, int]]] = [[], []]
    for number, tensors in enumerate((loaded.inputs, loaded.outputs)):
        for each in tensors:
            shape = (rows, *each.shape[1:]) if rows else tuple(each.shape)
            found[number].append((at, shape, each.dtype))
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(each.dtype).itemsize
            sizes[number].append((at, size))
            at += (size + _ALIGN - 1) // _ALIGN * _ALIGN
    return Layout(tuple(found[0]), tuple(found[1]), tuple(sizes[1]), max(at, _ALIGN))


class Arena:
    """One file in memory, mapped by both sides. The front gives blocks out; the first place that fits, so that few
    pages are used."""

    def __init__(self, fd: Optional[int] = None) -> None:
        """A new one, or the one of this file."""
        if fd is None:
            folder = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it is open as long as this lives
            self._file.truncate(SIZE)
            fd = self._file.fileno()
        self.fd = fd
        self.memory = mmap.mmap(fd, SIZE)
        self._free: List[Tuple[int, int]] = [(0, SIZE)]
        self._used: Dict[int, int] = {}

    def take(self, size: int) -> Optional[int]:
        """The offset of a block; None where there is no room now."""
        for number, (at, room) in enumerate(self._free):
            if room >= size:
                if room == size:
                    del self._free[number]
                else:
                    self._free[number] = (at + size, room - size)
                self._used[at] = size
                return at
        return None

    def give(self, at: int) -> None:
        """Give a block back."""
        size = self._used.pop(at)
        free = self._free
        low, high = 0, len(free)
        while low < high:
            middle = (low + high) // 2
            if free[middle][0] < at:
                low = middle + 1
            else:
                high = middle
        free.insert(low, (at, size))
        if low + 1 < len(free) and at + size == free[low + 1][0]:
            free[low] = (at, size + free.pop(low + 1)[1])
        if low and sum(free[low - 1]) == at:
            free[low - 1] = (free[low - 1][0], free[low - 1][1] + free.pop(low)[1])

    def array(self, at: int, shape: Tuple[int, ...], dtype: str) -> Any:
        """The tensor at an offset; not a copy."""
        return np.ndarray(shape, dtype, self.memory, at)
