"""Messages between front processes and engines, over a socket that keeps their boundaries, on one host."""

import struct
from typing import NamedTuple, Optional

RUN, CANCEL = 1, 2
# How an inference ended. FAILED: on this input alone; BROKEN: the engine fails on any.
DONE, FAILED, BROKEN, FULL, LATE, UNKNOWN = range(6)
MOST = 4096  # bytes of a message
_MOST_TEXT = 2000

_RUN = struct.Struct("<BQIIQdi")
_ANSWER = struct.Struct("<QBddI")


class Run(NamedTuple):
    """A request to an engine, or its cancellation. `key`: of the version; `rows`: 0 for the model's own shape;
    `offset`: of its block in the front's arena; `deadline`: by time.monotonic(), 0 for none."""

    kind: int
    id: int
    key: int = 0
    rows: int = 0
    offset: int = 0
    deadline: float = 0.0
    priority: int = 0

    def pack(self) -> bytes:
        return _RUN.pack(*self)


class Ended(NamedTuple):
    """How a request ended. `text`: why it failed; `seconds`: FULL has those until there is room; `batch`: requests
    in the same inference."""

    id: int
    status: int
    queued: float = 0.0
    seconds: float = 0.0
    batch: int = 1
    text: str = ""

    def pack(self) -> bytes:
        text = self.text.encode("utf-8", "replace")[:_MOST_TEXT]
        return _ANSWER.pack(self.id, self.status, self.queued, self.seconds, self.batch) + text


def read_run(data: bytes) -> Optional[Run]:
    """A message of a front process; None for what is none."""
    return Run(*_RUN.unpack(data)) if len(data) == _RUN.size else None


def read_ended(data: bytes) -> Ended:
    """A message of an engine. Raises struct.error."""
    number, status, queued, seconds, batch = _ANSWER.unpack_from(data)
    return Ended(number, status, queued, seconds, batch, data[_ANSWER.size :].decode("utf-8", "replace"))
