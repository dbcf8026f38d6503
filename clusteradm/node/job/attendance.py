"""Attendance of the ranks: who has not been heard of for too long. Without MPI or a clock of its own."""

from typing import Iterable, Set

from clusteradm.node.job.running import RunningTime

SILENT_SECONDS = 5.0  # a rank says that it lives every second
_LONGEST_STEP = 0.5


class Attendance:
    """When each rank was last heard of. Time in which this process did not run (a frozen head) does not count."""

    def __init__(self, ranks: Iterable[int], now: float) -> None:
        """`now`: seconds, by a monotonic clock."""
        self._clock = RunningTime(now, _LONGEST_STEP)
        self._last = dict.fromkeys(ranks, 0.0)

    def pass_time(self, now: float) -> None:
        """Go on to the present. To be called often, after what has been received was told to `hear`."""
        self._clock.pass_to(now)

    def hear(self, rank: int) -> None:
        """Note a sign of life."""
        self._last[rank] = self._clock.seconds

    def leave(self, rank: int) -> None:
        """Forget a rank that is not waited for any more."""
        self._last.pop(rank, None)

    def silent(self) -> Set[int]:
        """The ranks that count as lost."""
        now = self._clock.seconds
        return {rank for rank, last in self._last.items() if now - last > SILENT_SECONDS}
