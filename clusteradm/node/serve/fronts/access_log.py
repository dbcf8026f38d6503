"""Access log: one line of JSON a request, written by a thread, so that a log that is not read delays no answer."""

import collections
import os
import threading
from typing import Any, Deque, Dict, Sequence

import orjson

_MOST_LINES = 10000  # that wait
_MOST_WRITE = 256  # lines of one write


class AccessLog:
    """Lines to a file descriptor. What there is no room for is counted, and the count is written later."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: Deque[Dict[str, Any]] = collections.deque()
        self._lost = 0
        self._ended = False
        self._waiting = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def write(self, lines: Sequence[Dict[str, Any]]) -> None:
        """Have lines written: several at a time, as to wake the thread takes a tenth of a millisecond."""
        room = max(0, _MOST_LINES - len(self._lines))
        self._lines.extend(lines[:room])
        self._lost += len(lines[room:])
        self._waiting.set()

    def close(self, seconds: float = 2.0) -> None:
        """Write what is left, within this time."""
        self._ended = True
        self._waiting.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        ended = False
        while not ended:
            self._waiting.wait()
            self._waiting.clear()
            ended = self._ended
            while self._lines or self._lost:
                lines = [self._lines.popleft() for _ in range(min(len(self._lines), _MOST_WRITE))]
                lost, self._lost = self._lost, 0
                if lost:
                    lines.append({"lost": lost})
                if not self._put(b"".join(_encoded(line) for line in lines)):
                    return

    def _put(self, data: bytes) -> bool:
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:  # nobody reads any more
            return False
        return True


def _encoded(line: Dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    except (TypeError, ValueError):  # half a character, of a path that is no UTF-8
        return orjson.dumps({name: _shown(value) for name, value in line.items()}, option=orjson.OPT_APPEND_NEWLINE)


def _shown(value: Any) -> Any:
    return value if isinstance(value, (int, float)) else ascii(value)[1:-1]
