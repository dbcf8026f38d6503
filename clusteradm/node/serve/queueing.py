"""Queue of an engine: requests by priority and order of arrival, bounded for each version."""

import heapq
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from clusteradm.node.serve.messages import Run

MOST_QUEUED = 128  # requests of one version


class Waiting(NamedTuple):
    """A request in the queue. `sender`: whoever gets the answer; `came`: by time.monotonic()."""

    run: Run
    sender: Any
    came: float


class Queue:
    """`late` is called for a request whose deadline is over before its turn."""

    def __init__(self, late: Callable[[Waiting], None]) -> None:
        self._late = late
        self._heap: List[Tuple[int, int, Waiting]] = []
        self._counts: Dict[int, int] = {}
        self._number = 0

    def __len__(self) -> int:
        return sum(self._counts.values())

    def count(self, key: int) -> int:
        """The requests for a version."""
        return self._counts.get(key, 0)

    def put(self, run: Run, sender: Any, most: int = MOST_QUEUED) -> bool:
        """Take a request; False where the version has `most` already."""
        if self.count(run.key) >= most:
            return False
        self._number += 1
        heapq.heappush(self._heap, (run.priority, self._number, Waiting(run, sender, time.monotonic())))
        self._counts[run.key] = self.count(run.key) + 1
        return True

    def take(self) -> Optional[Waiting]:
        """The next request whose deadline is not over; None for none."""
        while self._heap:
            waiting = heapq.heappop(self._heap)[2]
            self._drop(waiting)
            if waiting.run.deadline and waiting.run.deadline <= time.monotonic():
                self._late(waiting)
                continue
            return waiting
        return None

    def take_more(self, key: int, rows: int, most: int) -> List[Waiting]:
        """Further requests for the version that was taken last, as long as all have at most `most` rows."""
        found: List[Waiting] = []
        kept = []
        for place in sorted(self._heap):
            run = place[2].run
            if run.key == key and rows + run.rows <= most and not (run.deadline and run.deadline <= time.monotonic()):
                rows += run.rows
                found.append(place[2])
                self._drop(place[2])
            else:
                kept.append(place)
        self._heap = kept  # sorted, which is a heap
        return found

    def remove(self, sender: Any, number: Optional[int] = None) -> List[Waiting]:
        """Take out the requests of a sender, or one of them; what was taken out."""
        gone = [place[2] for place in self._heap if place[2].sender is sender and number in (None, place[2].run.id)]
        if gone:
            self._heap = [place for place in self._heap if place[2] not in gone]
            heapq.heapify(self._heap)
            for waiting in gone:
                self._drop(waiting)
        return gone

    def _drop(self, waiting: Waiting) -> None:
        key = waiting.run.key
        self._counts[key] -= 1
        if not self._counts[key]:
            del self._counts[key]
