"""Deadlines of chunks: which rank has had its work for too long, by its own measured time."""

from typing import Dict

from clusteradm.node.job.running import RunningTime

# A chunk may take so many times the rank's slowest so far, and no less than so many seconds.
TIMES = 20.0
SECONDS = 5.0
# One of a rank that has delivered none yet: of a large model on a slow processor, the first may take long.
FIRST_SECONDS = 60.0
_LONGEST_STEP = 0.5


class Deadlines:
    """Of every rank that has work. Time in which this process did not run (a frozen head) does not count."""

    def __init__(self, now: float) -> None:
        """`now`: seconds, by a monotonic clock."""
        self._clock = RunningTime(now, _LONGEST_STEP)
        self._since: Dict[int, float] = {}
        self._slowest: Dict[int, float] = {}

    def pass_time(self, now: float) -> None:
        """Go on to the present. To be called often."""
        self._clock.pass_to(now)

    def begin(self, rank: int) -> None:
        """Note that the rank was given a chunk."""
        self._since.setdefault(rank, self._clock.seconds)

    def deliver(self, rank: int, more: bool, worked: bool = True) -> None:
        """Note that the rank has delivered one. `more`: it has another; `worked`: there was an input in it that could
        be used, which alone says how long one takes."""
        since = self._since.pop(rank, None)
        if since is not None and worked:
            spent, slowest = self._clock.seconds - since, self._slowest.get(rank)
            # A single one that took very long was perhaps kept waiting by the shared file system.
            self._slowest[rank] = spent if slowest is None else max(slowest, min(spent, 4 * slowest))
        if more:
            self._since[rank] = self._clock.seconds

    def leave(self, rank: int) -> None:
        """Wait for the rank no more."""
        self._since.pop(rank, None)

    def late(self) -> Dict[int, float]:
        """The ranks whose time is over, each with that time in seconds."""
        now = self._clock.seconds
        limits = {rank: self._limit(rank) for rank, since in self._since.items()}
        return {rank: limit for rank, limit in limits.items() if now - self._since[rank] > limit}

    def _limit(self, rank: int) -> float:
        slowest = self._slowest.get(rank)
        return FIRST_SECONDS if slowest is None else max(SECONDS, TIMES * slowest)
