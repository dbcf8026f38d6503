"""Attendance of the ranks: who has not been heard of for too long. Without MPI or a clock of its own."""

from typing import Dict, Set

from clusteradm.node.job.running import RunningTime

SILENT_SECONDS = 8.0  # a rank says that it lives every second
# All other hosts at once are behind the head's own line, or its switch: that may come back.
ALL_SILENT_SECONDS = 60.0
_LONGEST_STEP = 0.5


class Attendance:
    """When each rank was last heard of. Time in which this process did not run (a frozen head) does not count."""

    def __init__(self, hosts: Dict[int, str], head: str, now: float) -> None:
        """`hosts`: of each rank; `now`: seconds, by a monotonic clock."""
        self._hosts, self._head = hosts, head
        self._clock = RunningTime(now, _LONGEST_STEP)
        self._last = dict.fromkeys(hosts, 0.0)

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
        silent = {rank for rank, last in self._last.items() if now - last > SILENT_SECONDS}
        away = {rank for rank in self._last if self._hosts[rank] != self._head}
        if away <= silent and len({self._hosts[rank] for rank in away}) > 1:
            return {rank for rank in silent if rank not in away or now - self._last[rank] > ALL_SILENT_SECONDS}
        return silent
