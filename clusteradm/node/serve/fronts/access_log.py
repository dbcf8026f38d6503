"""Access log: one line of JSON a request, written by a thread, so that a log that is not read delays no answer."""

import collections
import os
import threading
from typing import Any, Deque, Dict

import orjson

_MOST_LINES = 10000  # that wait
_MOST_WRITE = 256  # lines of one write


class AccessLog:
    """Lines to a file descriptor. What there is no room for is counted, and the count is written later."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: Deque[Dict[str, Any]] = collections.deque()
        self._lost = 0
        self._wake = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def write(self, line: Dict[str, Any]) -> None:
        """Have a line written."""
        if len(self._lines) >= _MOST_LINES:
            self._lost += 1
            return
        self._lines.append(line)
        self._wake.set()

    def close(self, seconds: float = 2.0) -> None:
        """Write what is left, within this time."""
        self._ended = True
        self._wake.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._lines or self._lost:
                lines = [self._lines.popleft() for _ in range(min(len(self._lines), _MOST_WRITE))]
                lost, self._lost = self._lost, 0
                if lost:
                    lines.append({"lost": lost})
                if not self._put(b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)):
                    return
            if self._ended:
                return

    def _put(self, data: bytes) -> bool:
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:  # nobody reads any more
            return False
        return True
