"""Bridge between stages on two hosts: the keepers of both pass activations on, by MPI.

The keeper of the earlier stage takes them from its worker process as a stage on its own host would, the keeper of the
later one gives them to its own as a stage there would. No more are under way than the later stage has room for, as
they are received only then. What was under way when the pipeline began anew is received, as MPI has it, and dropped.
"""

import struct
from collections import deque
from typing import Any, Callable, Deque, List, Tuple

from clusteradm.node.job import activations, handing
from clusteradm.node.job.activations import Layout, Reader, Writer, address
from clusteradm.node.job.channel import Channel
from clusteradm.node.spec.wire.decode import WireError
from clusteradm.node.spec.wire.job import Assignment
from clusteradm.node.spec.wire.pipeline import Stage

_SIZE = struct.Struct("<II")  # the turn of the pipeline, and the bytes of the head
MOST_HEAD = 1 << 14
_MOST = 16  # activations that are being sent, or received


class Outward:
    """What a rank hands on to the rank after it, on another host."""

    def __init__(self, channel: Channel, stage: Stage, after: int, layout: Layout) -> None:
        self._channel, self._after, self._layout = channel, after, layout
        self._sent: Deque[Callable[[], bool]] = deque()
        self._listen(stage)

    def _listen(self, stage: Stage) -> None:
        self._number = stage.turn
        self._reader = Reader(address(stage.link, self._after, outward=True), self._layout)

    def begin_anew(self, stage: Stage) -> None:
        """Take what another process of the rank hands on."""
        self._reader.close()
        self._listen(stage)

    def turn(self) -> None:
        """Send what there is. Raises Gone where the rank's own process has ended."""
        while self._sent and self._sent[0]():
            self._sent.popleft()
        while len(self._sent) < _MOST and self._reader.is_ready():
            found = self._reader.read()
            if found is None:
                return
            place, head, memory = found
            has_tensors = activations.read_head(head).error is None
            data = b"".join([_SIZE.pack(self._number, len(head)), head, memory if has_tensors else b""])
            self._reader.free(place)
            self._sent.append(self._channel.post(self._after, data))


class Inward:
    """What comes from the rank before, on another host."""

    def __init__(self, channel: Channel, stage: Stage, before: int, mine: int, layout: Layout) -> None:
        self._channel, self._before, self._mine, self._layout = channel, before, mine, layout
        self._coming: Deque[Tuple[bytearray, Callable[[], bool]]] = deque()
        self._connect(stage)

    def _connect(self, stage: Stage) -> None:
        self._number = stage.turn
        self._writer = Writer(address(stage.link, self._mine), self._layout)

    def begin_anew(self, stage: Stage) -> None:
        """Give what comes to another process of the rank."""
        self._writer.close()
        self._connect(stage)

    def turn(self) -> None:
        """Receive what there is room for. Raises WireError for what no stage sends, Gone where the rank's own process
        has ended."""
        while len(self._coming) < _MOST:
            found = self._channel.fetch(self._before, _SIZE.size + MOST_HEAD + self._layout.bytes)
            if found is None:
                break
            self._coming.append(found)
        while self._coming and self._coming[0][1]():
            if turn_of(self._coming[0][0]) == self._number:
                if not self._writer.is_free():
                    return
                self._writer.pass_on(*parted(self._coming[0][0], self._layout.bytes))
            self._coming.popleft()


def turn_of(data: Any) -> int:
    """The turn of the pipeline in which it was handed on. Raises WireError."""
    if len(data) < _SIZE.size:
        raise WireError("no activation")
    return int(_SIZE.unpack_from(data)[0])


def parted(data: Any, size: int) -> Tuple[bytes, bytes]:
    """Head and tensors of what has come from another host. Raises WireError."""
    if len(data) < _SIZE.size:
        raise WireError("no activation")
    end = _SIZE.size + _SIZE.unpack_from(data)[1]
    head, tensors = bytes(data[_SIZE.size : end]), bytes(data[end:])
    if len(tensors) != (size if activations.read_head(head).error is None else 0):
        raise WireError("an activation of %d bytes" % len(tensors))
    return head, tensors


def bridges(channel: Channel, mine: Assignment) -> List[Any]:
    """The bridges of a rank."""
    stage, pipeline = mine.stage, mine.model.pipeline
    found: List[Any] = []
    if stage is None or pipeline is None:
        return found
    takes, gives = handing.layouts(pipeline, stage)
    if takes is not None and stage.before is not None and stage.before not in stage.near:
        found.append(Inward(channel, stage, stage.before, mine.place.rank, takes))
    if gives is not None and stage.after is not None and stage.after not in stage.near:
        found.append(Outward(channel, stage, stage.after, gives))
    return found
