"""Watch over an attempt: whether mpirun will come to its end by itself, by what rank 0 writes twice a second.

mpirun waits for every host, also for one that is frozen.
"""

import time
from typing import Callable, Optional, Set, Tuple

from clusteradm.node.job import files, launch
from clusteradm.node.job.running import RunningTime
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.job import SILENT, Progress

START_SECONDS = 60.0  # until rank 0 writes: every host is to be reached, and to load MPI
INPUTS_PER_SECOND = 5000  # that a slow head reads from the index, the journal included, before rank 0 writes
SILENT_SECONDS = 60.0  # without a word of rank 0
END_SECONDS = 5.0  # after rank 0 has finished
LOST_SECONDS = 0.5  # the same where a rank is lost: mpirun would wait for it
_LONGEST_STEP = 2.0
_READ_SECONDS = 0.4  # between two looks at what it has written, as long as it lives


class Watch:
    """One attempt. Time in which this process did not run (a frozen head) does not count."""

    def __init__(self, progress: str, attempt: int, inputs: int, log: str, alive: Callable[[], bool]) -> None:
        """`progress`: the path of progress.json; `inputs`: those of the job; `log`: its log; `alive`: whether rank 0
        is.
        """
        self._path, self._attempt, self._alive = progress, attempt, alive
        self._log, self._read = log, files.size(log)
        self.progress: Optional[Progress] = None  # of this attempt, as it was read last
        self._start = START_SECONDS + inputs / INPUTS_PER_SECOND
        self._mark: Optional[Tuple[str, float]] = None
        self._clock, self._marked = RunningTime(time.monotonic(), _LONGEST_STEP), 0.0
        self._lived = False
        self._ranks: Set[int] = set()  # of this host, until rank 0 has written
        self._looked = 0.0

    def overdue(self, mpirun: int) -> Optional[str]:
        """Why the attempt is to be ended now; None where it is not. `mpirun`: its process id. To be called often."""
        self._clock.pass_to(time.monotonic())
        alive, now = self._alive(), self._clock.seconds
        mark = self._mark
        if not alive or mark is None or now - self._looked >= _READ_SECONDS:
            mark, self._looked = self._look(), now  # after that: it writes its last word before it ends
        if mark != self._mark:
            self._mark, self._marked = mark, self._clock.seconds
        waited = self._clock.seconds - self._marked
        ended = mark is None or mark[0] != "finished"
        if not alive and (self._lived or mark is not None) and ended:
            return "rank 0 has ended"
        self._lived = self._lived or alive
        if mark is None:
            if self._not_begun():
                return "a rank could not begin"
            ranks = launch.ranks(mpirun)
            if self._ranks - ranks:  # mpirun is told to let the others wait for it
                return "rank %d has ended before it could begin" % min(self._ranks - ranks)
            self._ranks = ranks
            return "the ranks did not start in %d s" % self._start if waited > self._start else None
        if mark[0] == "finished":
            lost = self.progress is not None and any(rank.fault == SILENT for rank in self.progress.ranks)
            limit = LOST_SECONDS if lost else END_SECONDS
            return "a host did not end its ranks in %g s" % limit if waited > limit else None
        return "rank 0 did nothing for %d s" % SILENT_SECONDS if waited > SILENT_SECONDS else None

    def _look(self) -> Optional[Tuple[str, float]]:
        """Phase and time of what rank 0 of this attempt has written last; None before it has."""
        progress = files.read(Progress, self._path)
        if progress is None or progress.attempt != self._attempt:
            return None
        self.progress = progress
        return progress.phase, progress.now

    def _not_begun(self) -> bool:
        """Whether a rank says in the log that it could not."""
        words = job_names.NOT_BEGUN.encode("ascii")
        text = files.part(self._log, self._read)
        if words in text:
            return True
        self._read += max(0, len(text) - len(words))
        return False
