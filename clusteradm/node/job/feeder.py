"""Feeder of a rank: reads and decodes inputs ahead of the Edge TPU, in threads, as Pillow and pread release the GIL."""

import os
import threading
import time
from queue import SimpleQueue
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

from clusteradm.node.edgetpu.tensors import BadInput, Fed
from clusteradm.node.job.files import opener
from clusteradm.node.job.pulse import Pulse

AHEAD = 16  # decoded inputs in the queue; more gains nothing and costs memory
_TOGETHER = 4  # are decoded once there is room for so many: to wake a thread for each costs more than many a decoding
_ALIGNED = 16
READ_BYTES = 4 << 20  # the pack is read by the chunk, not by the input: each call costs NFS a round trip


class Decoded(NamedTuple):
    """One decoded input: a tensor, or an error. `clipped`: the share of numbers cut to the range of the input; `size`:
    width and height of a picture."""

    chunk: int
    input: int
    tensor: Any
    error: Optional[str]
    clipped: float
    size: Optional[Tuple[int, int]] = None


class Feeder:
    """Queue of chunks in, decoded inputs out.

    `decode` is called as decode(bytes, or a view of them, form) in any of `threads` threads. `pulse` is told what each
    thread decodes.
    """

    def __init__(self, pack: str, decode: Callable[[Any, Any], Fed], threads: int, pulse: Pulse) -> None:
        self._pack = opener(pack, os.O_RDONLY)
        self._decode = decode
        self._pulse = pulse
        # Of C, as the inference thread would pay for those of Python; hence what bounds one of them is another.
        self._chunks: "SimpleQueue[Dict[str, Any]]" = SimpleQueue()
        self._ready: "SimpleQueue[Union[Decoded, BaseException, None]]" = SimpleQueue()
        self._room: "SimpleQueue[None]" = SimpleQueue()
        for _ in range(AHEAD):
            self._room.put(None)
        self._given = self._got = 0  # inputs, so far
        self._reading = threading.Lock()
        self._raw = self._read()
        self.decode_seconds = self.read_seconds = 0.0
        self._adding = threading.Lock()
        for number in range(threads):
            threading.Thread(target=self._run, args=(number,), name="decode-%d" % number, daemon=True).start()

    def put(self, chunk: Dict[str, Any]) -> None:
        """Add a chunk, as rank 0 sends it: {"chunk": number, "inputs": [[index, offset, size, form], ...]}."""
        self._given += len(chunk["inputs"])
        self._chunks.put(chunk)

    def get(self) -> Optional[Decoded]:
        """The next decoded input, in any order, waited for; None after `end`. Raises a thread's exception."""
        item = self._ready.get()
        if isinstance(item, BaseException):
            raise item
        self._got += 1
        if self._got % _TOGETHER == 0:
            for _ in range(_TOGETHER):
                self._room.put(None)
        return item

    def idle(self) -> bool:
        """Whether every input that was put has been got."""
        return self._got == self._given

    def empty(self) -> bool:
        """Whether `get` would wait."""
        return self._ready.empty()

    def end(self) -> None:
        """Have `get` return None, after what is decoded already."""
        self._ready.put(None)

    def _read(self) -> Iterator[Tuple[int, List[Any], Union[bytes, memoryview]]]:
        while True:
            chunk = self._chunks.get()
            for batch in batches(chunk["inputs"]):
                start = min(piece[1] for piece in batch)
                end = max(piece[1] + piece[2] for piece in batch)
                before = time.perf_counter()
                data = _pread(self._pack, end - start, start)
                self.read_seconds += time.perf_counter() - before
                for piece in batch:
                    yield chunk["chunk"], piece, _part(data, piece[1] - start, piece[2], piece[3])

    def _run(self, number: int) -> None:
        try:
            while True:
                with self._reading:
                    self._room.get()
                    chunk, piece, data = next(self._raw)
                started = time.perf_counter()
                fed, error = Fed(None), None
                self._pulse.decode(number, piece[0])
                try:
                    fed = self._decode(data, piece[3])
                except BadInput as bad:
                    error = str(bad)
                except MemoryError:
                    error = "there is not enough memory to decode it"
                self._pulse.decode(number, None)
                with self._adding:
                    self.decode_seconds += time.perf_counter() - started
                self._ready.put(Decoded(chunk, piece[0], fed.tensor, error, fed.clipped, fed.size))
        except BaseException as error:  # get() raises it
            self._ready.put(error)


def _part(data: bytes, start: int, size: int, form: Any) -> Union[bytes, memoryview]:
    """Bytes of an input. Those of an array are not copied, unless its numbers would lie across words of memory."""
    if form is None or start % _ALIGNED:
        return data[start : start + size]
    return memoryview(data)[start : start + size]


def batches(pieces: List[List[Any]]) -> Iterator[List[List[Any]]]:
    """The inputs of a chunk, grouped by read: neighbours in the pack, up to READ_BYTES together."""
    batch: List[List[Any]] = []
    for piece in pieces:
        adjoins = batch and piece[1] == batch[-1][1] + batch[-1][2]
        if batch and not (adjoins and piece[1] + piece[2] - batch[0][1] <= READ_BYTES):
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


def _pread(fd: int, size: int, offset: int) -> bytes:
    """Read exactly `size` bytes: one call on a network file system may return fewer."""
    parts = []
    while size:
        part = os.pread(fd, size, offset)
        if not part:
            raise OSError("inputs.pack ends at %d, short of %d bytes" % (offset, size))
        parts.append(part)
        size -= len(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
