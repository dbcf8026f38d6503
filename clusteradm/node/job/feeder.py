"""Feeder of a rank: reads and decodes inputs ahead of the Edge TPU, in threads, as Pillow and pread release the GIL."""

import os
import queue
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from clusteradm.node.edgetpu.tensors import BadInput, Fed
from clusteradm.node.job.files import opener
from clusteradm.node.job.pulse import Pulse

AHEAD = 16  # decoded inputs in the queue; more gains nothing and costs memory
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

    `decode` is called as decode(bytes, form) in any of `threads` threads. `pulse` is told what each thread decodes.
    """

    def __init__(self, pack: str, decode: Callable[[bytes, Any], Fed], threads: int, pulse: Pulse) -> None:
        self._pack = opener(pack, os.O_RDONLY)
        self._decode = decode
        self._pulse = pulse
        self._chunks = queue.Queue()  # type: queue.Queue[Dict[str, Any]]
        self._ready = queue.Queue(AHEAD)  # type: queue.Queue[Decoded]
        self._reading = threading.Lock()
        self._raw = self._read()
        self._failed: Optional[BaseException] = None
        self.decode_seconds = 0.0
        self._adding = threading.Lock()
        for number in range(threads):
            threading.Thread(target=self._run, args=(number,), name="decode-%d" % number, daemon=True).start()

    def put(self, chunk: Dict[str, Any]) -> None:
        """Add a chunk, as rank 0 sends it: {"chunk": number, "inputs": [[index, offset, size, form], ...]}."""
        self._chunks.put(chunk)

    def get(self, timeout: float) -> Optional[Decoded]:
        """The next decoded input, in any order; None after `timeout` seconds. Raises a thread's exception."""
        try:
            return self._ready.get(timeout=timeout)
        except queue.Empty:
            if self._failed is not None:
                raise self._failed
            return None

    def _read(self) -> Iterator[Tuple[int, List[Any], bytes]]:
        while True:
            chunk = self._chunks.get()
            for batch in batches(chunk["inputs"]):
                start = min(piece[1] for piece in batch)
                end = max(piece[1] + piece[2] for piece in batch)
                data = _pread(self._pack, end - start, start)
                for piece in batch:
                    yield chunk["chunk"], piece, data[piece[1] - start : piece[1] - start + piece[2]]

    def _run(self, number: int) -> None:
        try:
            while True:
                with self._reading:
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
        except BaseException as error:  # get() raises it in the main thread
            self._failed = self._failed or error


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
