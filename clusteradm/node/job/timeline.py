"""Recorder of a job's timeline: results of each host over time, bounded however long the job takes.

The file is the job's: an attempt goes on with what the one before has written. It is for people who look at the job;
which results there are, the journal says.
"""

import time
from contextlib import suppress
from typing import Dict, List

from clusteradm.node.job import files
from clusteradm.node.spec.wire.timeline import (
    FINEST,
    LONGEST_PAUSE,
    MOST_EVENT,
    MOST_EVENTS,
    MOST_STEPS,
    Event,
    Timeline,
)

WRITE_SECONDS = 1.0
_CHEAP = 8000  # numbers that a board writes in a moment; more are written less often


class Recorder:
    """The timeline of one attempt, after those before it. Times: seconds of the monotonic clock."""

    def __init__(self, path: str, attempt: int, now: float, wall: float) -> None:
        """`wall`: the same moment, in seconds since 1970."""
        self._path = path
        self._step = FINEST
        self._counts: Dict[str, List[int]] = {}
        self._events: List[Event] = []
        offset = 0.0
        before = files.read(Timeline, path) if attempt > 1 else None
        if before is not None:
            self._step = before.step
            self._counts = {host: list(numbers) for host, numbers in before.counts.items()}
            self._events = list(before.events)
            offset = before.seconds + min(max(0.0, wall - before.written), LONGEST_PAUSE)
        self._zero = now - offset
        self._written = now - WRITE_SECONDS
        if attempt > 1:
            self.note("attempt %d begins" % attempt, now)

    def count(self, host: str, results: int, now: float) -> None:
        """Add results of a host."""
        place = self._place(now)
        numbers = self._counts.setdefault(host, [])
        numbers.extend([0] * (place + 1 - len(numbers)))
        numbers[place] += results

    def note(self, text: str, now: float) -> None:
        """Add what has happened; of more than are kept, the first ones stay."""
        if len(self._events) < MOST_EVENTS:
            self._events.append(Event(round(max(0.0, now - self._zero), 1), text[:MOST_EVENT]))

    def write(self, now: float, wall: float, last: bool = False) -> None:
        """Write the file, once a second, or less often if it is large. A full disk costs the timeline, not the job."""
        size = sum(map(len, self._counts.values()))
        if not last and now - self._written < WRITE_SECONDS * max(1.0, size / _CHEAP):
            return
        self._written = now
        self._place(now)
        counts = {host: tuple(numbers) for host, numbers in self._counts.items()}
        timeline = Timeline(self._step, round(max(0.0, now - self._zero), 1), wall, counts, tuple(self._events))
        with suppress(OSError):
            files.write_json(self._path, timeline, keep=False)

    def _place(self, now: float) -> int:
        """The number that a moment belongs to; makes them coarser until there is one."""
        seconds = max(0.0, now - self._zero)
        while seconds >= self._step * MOST_STEPS:
            self._step *= 2
            for numbers in self._counts.values():
                numbers[:] = [sum(numbers[at : at + 2]) for at in range(0, len(numbers), 2)]
        return int(seconds / self._step)


def begin(path: str, attempt: int) -> Recorder:
    """The recorder of an attempt that begins now."""
    return Recorder(path, attempt, time.monotonic(), time.time())
