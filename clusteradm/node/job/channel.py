"""Messages between the ranks: JSON in MPI bytes, received by polling, sent without waiting.

Not mpi4py's pickles: the head's Python may write a pickle that a board's Python 3.7 cannot read. Not a blocking
receive: Open MPI's waits spin and take a whole core, of which a board has four. Not a blocking send: of a message above
the transport's eager limit it waits for the receiver, and two that send to each other at the same time would wait for
ever.
"""

import json
import time
from contextlib import suppress
from typing import Any, Callable, List, NamedTuple, Optional, Tuple

from clusteradm.node.spec.wire.decode import WireError, loads

READY, CHUNK, RESULT, FAILED, STOP, BEGIN, ALIVE, ACTIVATION = 1, 2, 3, 4, 5, 6, 7, 8

NAP = 0.001  # seconds between two polls at least
# What a message may hold. A rank that is fast enough for chunks of hundreds of inputs needs less than half of it, also
# for results of several outputs with 1,024 numbers each.
MOST_BYTES = 64 << 20
MOST_VALUES = 4 << 20
# What Open MPI sends at once through shared memory, as it is told: a chunk and its results. By default it is 4 KiB, by
# TCP 64; the most that it takes is the size of its fragments.
EAGER_BYTES = 32 << 10


def text(value: Any) -> str:
    """A value as JSON; it may hold dataclasses of node/spec/wire. What a message passes on for others to read is such a
    text in it: whoever passes it on does not read and write its values anew."""
    return json.dumps(value, separators=(",", ":"), default=vars)


class Message(NamedTuple):
    """One received message. `damage`: what is wrong with it, if it cannot be read."""

    rank: int
    tag: int
    body: Any
    damage: Optional[str] = None


def read(rank: int, tag: int, data: bytes) -> Message:
    """A message of these bytes, whatever they are."""
    try:
        return Message(rank, tag, loads(data, MOST_VALUES))
    except WireError as error:
        return Message(rank, tag, None, str(error))


class Channel:
    """MPI.COMM_WORLD of a job."""

    def __init__(self, mpi: Any) -> None:
        self._mpi = mpi
        self._comm = mpi.COMM_WORLD
        self.rank = int(self._comm.Get_rank())
        self.size = int(self._comm.Get_size())
        self._status = mpi.Status()
        self._sent: List[Tuple[Any, bytes, float]] = []  # what MPI has not done with yet, and since when

    def send(self, rank: int, tag: int, body: Any = None) -> None:
        """Send one message; its body is as of `text`."""
        data = text(body).encode("utf-8")
        self._sent = [entry for entry in self._sent if not self._over(entry[0])]
        # To a rank that has died: whoever waits for its answer misses it.
        with suppress(self._mpi.Exception):
            self._sent.append((self._comm.Isend([data, self._mpi.BYTE], rank, tag), data, time.monotonic()))

    def patience(self, longest: float) -> float:
        """Seconds after which MPI is to be called again: `longest`, or as long as it has had a large message, since it
        may go on with that only where it is called."""
        self._sent = [entry for entry in self._sent if not self._over(entry[0])]
        large = [since for _, data, since in self._sent if len(data) > EAGER_BYTES]
        return min(longest, max(NAP, time.monotonic() - large[-1])) if large else longest

    def _over(self, request: Any) -> bool:
        try:
            return bool(request.Test())
        except self._mpi.Exception:
            return True

    def poll(self) -> Optional[Message]:
        """The next message; None where there is none now. Only rank 0 hears others than rank 0."""
        status, source = self._status, 0 if self.rank else self._mpi.ANY_SOURCE
        # Open MPI looks at what it has, and takes in what has come since only then.
        if not (self._probe(source, status) or self._probe(source, status)):
            return None
        rank, tag, size = status.Get_source(), status.Get_tag(), status.Get_count(self._mpi.BYTE)
        data = bytearray(min(max(size, 0), MOST_BYTES))
        try:
            self._comm.Recv([data, self._mpi.BYTE], rank, tag)
        except self._mpi.Exception as error:
            return Message(rank, tag, None, "%d bytes: %s" % (size, error))
        return read(rank, tag, bytes(data))

    def _probe(self, source: int, status: Any) -> bool:
        """Whether there is a message from `source`. Open MPI 5 may answer for all of them no more once one has died."""
        try:
            return bool(self._comm.Iprobe(source, self._mpi.ANY_TAG, status))
        except self._mpi.Exception:
            others = range(self.size) if source == self._mpi.ANY_SOURCE else ()
            return any(self._probe(rank, status) for rank in others if rank != self.rank)

    def receive(self) -> Message:
        """The next message, waited for."""
        message = self.poll()
        while message is None:
            time.sleep(NAP)
            message = self.poll()
        return message

    def post(self, rank: int, data: bytes) -> Callable[[], bool]:
        """Begin to send bytes to another stage; what is returned says whether MPI has done with them."""
        with suppress(self._mpi.Exception):
            request = self._comm.Isend([data, self._mpi.BYTE], rank, ACTIVATION)
            return lambda: self._over(request) and data is not None  # they are MPI's until then
        return lambda: True

    def fetch(self, rank: int, most: int) -> Optional[Tuple[bytearray, Callable[[], bool]]]:
        """Begin to receive bytes of another stage, no more than `most`, and what says whether they are here; None where
        none are on their way."""
        status = self._mpi.Status()
        with suppress(self._mpi.Exception):
            if self._comm.Iprobe(rank, ACTIVATION, status):
                data = bytearray(min(max(status.Get_count(self._mpi.BYTE), 0), most))
                request = self._comm.Irecv([data, self._mpi.BYTE], rank, ACTIVATION)
                return data, lambda: self._over(request)
        return None

    def abort(self) -> None:
        """End every rank of the job, this one included."""
        self._comm.Abort(1)
