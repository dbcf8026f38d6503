"""Feeder of a rank: reads and decodes inputs ahead of the Edge TPU, in threads, as Pillow and pread release the GIL."""

import json
import sys
import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import Any, Callable, Deque, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

from clusteradm.node.edgetpu.tensors import BadInput, Fed
from clusteradm.node.job.packs import Packs
from clusteradm.node.job.pulse import Pulse

AHEAD = 16  # decoded inputs in the queue, more only of small ones: to wake a thread costs more than to copy an array
_MOST_AHEAD, _AHEAD_BYTES = 128, 4 << 20
_ALIGNED = 16
# The pack is read by the chunk, not by the input: each call costs NFS a round trip. But what is read has to be in the
# processor's cache still when it is used.
READ_BYTES = 1 << 20

# Number of the chunk, piece, and its bytes: None where they are not there any more.
_Piece = Tuple[int, List[Any], Union[bytes, memoryview, None]]


def ahead(size: int) -> int:
    """How many inputs, or outputs, of so many bytes are to lie ready."""
    return max(AHEAD, min(_MOST_AHEAD, _AHEAD_BYTES // max(1, size)))


class Decoded(NamedTuple):
    """One decoded input: a tensor, or an error. `clipped`: the share of numbers cut to the range of the input; `size`:
    width and height of a picture."""

    chunk: int
    input: int
    tensor: Any
    error: Optional[str]
    clipped: float
    size: Optional[Tuple[int, int]] = None
    # Of what another stage has handed on: the number of inputs in its chunk; tensors for later stages, by name; when it
    # came, by time.perf_counter().
    of: int = 0
    carried: Dict[str, Any] = {}
    since: float = 0.0

    def done(self) -> "Decoded":
        """The same without its tensor, whose memory others wait for."""
        return Decoded(
            self.chunk, self.input, None, self.error, self.clipped, self.size, self.of, self.carried, self.since
        )


class Source:
    """Where the inference thread has its inputs from."""

    decode_seconds = read_seconds = 0.0

    def get(self) -> Optional[Decoded]:
        """The next input, waited for; None after `end`."""
        raise NotImplementedError

    def take(self) -> Optional[List[Decoded]]:
        """The next inputs that are there together, waited for; None after `end`."""
        item = self.get()
        return None if item is None else [item]

    def idle(self) -> bool:
        """Whether none is expected at present."""
        raise NotImplementedError

    def empty(self) -> bool:
        """Whether `get` would wait."""
        raise NotImplementedError

    def end(self) -> None:
        """Have `get` return None."""
        raise NotImplementedError


class Feeder(Source):
    """Queue of chunks in, decoded inputs out.

    `decode` is called as decode(bytes, or a view of them, form) in any of `threads` threads. `pulse` is told what each
    thread decodes. `size`: bytes of a decoded input.
    """

    def __init__(
        self, pack: str, decode: Callable[[Any, Any], Fed], threads: int, pulse: Pulse, size: int = _AHEAD_BYTES
    ) -> None:
        self._packs = Packs(pack)
        self._decode = decode
        self._pulse = pulse
        self._lot = ahead(size) * 2 // 3
        # Of C, as the inference thread would pay for those of Python; hence what bounds one of them is another.
        self._chunks: "SimpleQueue[Dict[str, Any]]" = SimpleQueue()
        self._ready: "SimpleQueue[Union[List[Decoded], BaseException, None]]" = SimpleQueue()
        self._here: Deque[Decoded] = deque()  # of `_ready`, the next ones
        self._room: "SimpleQueue[None]" = SimpleQueue()
        for _ in range(ahead(size)):
            self._room.put(None)
        self._given = self._got = 0  # inputs, so far
        self._left = 0  # of these, for which room has not been made yet
        self._reading = threading.Lock()
        self._memory = Memory()
        self._raw = self._read()
        self._unused = 0  # inputs of the last read, after the last one
        self.decode_seconds = self.read_seconds = 0.0
        self._adding = threading.Lock()
        for number in range(threads):
            threading.Thread(target=self._run, args=(number,), name="decode-%d" % number, daemon=True).start()

    def put(self, chunk: Dict[str, Any]) -> None:
        """Add a chunk, as rank 0 sends it: {"chunk": number, "size": of inputs, "inputs": a JSON text}, of a list of
        [index, offset, size, form], in a job that stays open for more with the number of their batch behind the form.
        """
        self._given += chunk["size"]
        self._chunks.put(chunk)

    def get(self) -> Optional[Decoded]:
        """The next decoded input, in any order, waited for; None after `end`. Raises a thread's exception."""
        if not self._here:
            self._here.extend(self.take() or ())
        return self._here.popleft() if self._here else None

    def take(self) -> Optional[List[Decoded]]:
        """The next decoded inputs, as `get`: those that one thread has decoded together."""
        items = self._ready.get()
        if isinstance(items, BaseException):
            raise items
        if items is None:
            return None
        self._got += len(items)
        # Many at once: to wake a thread for each costs more than many a decoding.
        self._left += len(items)
        if self._left >= self._lot:
            for _ in range(self._left):
                self._room.put(None)
            self._left = 0
        return items

    def idle(self) -> bool:
        """Whether every input that was put has been got."""
        return self._got == self._given and not self._here

    def empty(self) -> bool:
        """Whether `get` would wait."""
        return not self._here and self._ready.empty()

    def end(self) -> None:
        """Have `get` return None, after what is decoded already."""
        self._ready.put(None)

    def _read(self) -> Iterator[_Piece]:
        while True:
            chunk = self._chunks.get()
            for batch in batches(json.loads(chunk["inputs"])):
                start = min(piece[1] for piece in batch)
                end = max(piece[1] + piece[2] for piece in batch)
                before = time.perf_counter()
                data = self._memory.take(end - start)
                there = self._packs.read(batch[0][4] if len(batch[0]) > 4 else None, data, end - start, start)
                self.read_seconds += time.perf_counter() - before
                self._unused = len(batch)
                for piece in batch:
                    self._unused -= 1
                    yield chunk["chunk"], piece, _part(data, piece[1] - start, piece[2], piece[3]) if there else None

    def _next(self) -> List[_Piece]:
        """The inputs that are decoded next by one thread: a picture, or the arrays of a read that there is room for."""
        with self._reading:
            self._room.get()
            pieces = [next(self._raw)]
            while self._unused and pieces[-1][1][3] is not None and not self._room.empty():
                self._room.get()
                pieces.append(next(self._raw))
            return pieces

    def _run(self, number: int) -> None:
        try:
            while True:
                pieces = self._next()
                started = time.perf_counter()
                decoded = [self._decoded(number, *piece) for piece in pieces]
                with self._adding:
                    self.decode_seconds += time.perf_counter() - started
                self._ready.put(decoded)
        except BaseException as error:  # get() raises it
            self._ready.put(error)

    def _decoded(self, number: int, chunk: int, piece: List[Any], data: Union[bytes, memoryview, None]) -> Decoded:
        fed, error = Fed(None), None
        self._pulse.decode(number, piece[0])
        try:
            if data is None:
                raise BadInput("its bytes are not there any more")
            fed = self._decode(data, piece[3])
        except BadInput as bad:
            error = str(bad)
        except MemoryError:
            error = "there is not enough memory to decode it"
        self._pulse.decode(number, None)
        return Decoded(chunk, piece[0], fed.tensor, error, fed.clipped, fed.size)


class Memory:
    """Memory that is read into again, once nobody has a part of it any more: new one costs a fault for every page."""

    def __init__(self) -> None:
        self._known: List[bytearray] = []

    def take(self, size: int) -> bytearray:
        """So many bytes, or more."""
        for one in self._known:
            if len(one) >= size and sys.getrefcount(one) == _UNUSED:
                return one
        size = max([size, *map(len, self._known)])
        # What is given up here goes with those that have a part of it.
        self._known = self._known[1 - _MOST_KNOWN :]
        self._known.append(bytearray(size))
        return self._known[-1]


# References to what only the list above has: its own, the loop's, and that of the question.
_UNUSED = 3
_MOST_KNOWN = AHEAD + 2  # of inputs that are read one by one, as many as lie ready, one inferred and one read


def _part(data: bytearray, start: int, size: int, form: Any) -> Union[bytes, memoryview]:
    """Bytes of an input. Those of an array are not copied, unless its numbers would lie across words of memory."""
    part = memoryview(data)[start : start + size]
    return bytes(part) if form is None or start % _ALIGNED else part


def batches(pieces: List[List[Any]]) -> Iterator[List[List[Any]]]:
    """The inputs of a chunk, grouped by read: neighbours in the pack, up to READ_BYTES together."""
    batch: List[List[Any]] = []
    for piece in pieces:
        adjoins = batch and piece[1] == batch[-1][1] + batch[-1][2] and piece[4:] == batch[-1][4:]
        if batch and not (adjoins and piece[1] + piece[2] - batch[0][1] <= READ_BYTES):
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch
