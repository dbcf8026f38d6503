"""Sending of what a host may get in more than one connection: when another one is worth it."""

from __future__ import annotations

from collections.abc import Callable

# Seconds to seek the host after a lost connection; times that a file is sent.
RECONNECT = 300.0
MOST_SENT = 50
_MOST_IDLE = 3  # connections in a row that bring nothing


class Sent:
    """What was sent of an upload. It is worth another connection after each that has brought some of it."""

    def __init__(self, progress: Callable[[int, int], None] | None) -> None:
        self._progress = progress
        self._most = self._before = 0
        self._idle = 0

    def tell(self, sent: int, total: int) -> None:
        """Note it, and pass it on."""
        self._most = max(self._most, sent)
        if self._progress is not None:
            self._progress(sent, total)

    def anew(self) -> bool:
        """Whether to try another connection: unless several in a row have brought nothing."""
        self._idle = 0 if self._most > self._before else self._idle + 1
        self._before = self._most
        return self._idle < _MOST_IDLE
