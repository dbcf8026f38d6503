"""Lack of memory on the hosts of one job, as far as it is known: what kernels count, and a MemoryError in the log."""

import re
from typing import Dict, List, Optional, Sequence

from clusteradm.node.job import files, oom
from clusteradm.node.spec.wire.job import RankProgress

# As mpirun tags the last line of a traceback: "[1,0]<stderr>:numpy.core._exceptions._ArrayMemoryError: Unable to ...".
_ERROR = re.compile(rb"^\[\d+,(\d{1,6})\]<stderr>:[\w.]*MemoryError\b", re.M)
REMEDY = (
    "; to see what has the memory there: clusteradm exec --limit %s -- 'ps -eo rss,user,args --sort=-rss | head'; once"
    " some is free: clusteradm job resume %s"
)


class Shortage:
    """What a supervisor finds out."""

    def __init__(self, job: str, head: str, before: Optional[int]) -> None:
        """`before`: the count of the head's kernel as the job began."""
        self._job, self._head = job, head
        now = oom.of_host()
        self.before = now if before is None or now is None or now < before else before  # less: it was restarted
        self._kills: Dict[str, int] = {}
        self._errors: Dict[int, str] = {}  # rank that had a MemoryError -> host
        self._last: List[str] = []

    def read(self, log: str, start: int, ranks: Sequence[RankProgress]) -> None:
        """Read what the log of an attempt says from `start` on. Raises OSError."""
        hosts = {rank.rank: rank.host for rank in ranks}
        for found in _ERROR.finditer(files.part(log, max(start, files.size(log) - (1 << 20)))):
            rank = int(found.group(1))
            self._errors[rank] = hosts.get(rank, self._head)

    def hear(self, host: str, text: bytes, ranks: Sequence[RankProgress]) -> None:
        """Take what another host's kernel counts, as oom.LOOK prints it, after an attempt of these ranks."""
        before = [rank.kills for rank in ranks if rank.host == host and rank.kills is not None]
        if before:
            self._kills[host] = max(self._kills.get(host, 0), oom.since(min(before), oom.count(text)))

    def said(self) -> List[str]:
        """What is known, for a person; nothing where no memory has run out."""
        self._kills[self._head] = oom.since(self.before, oom.of_host())
        found = ["rank %d (%s) had a MemoryError" % error for error in sorted(self._errors.items())]
        return found + [oom.said(host, kills) for host, kills in sorted(self._kills.items()) if kills]

    def news(self) -> List[str]:
        """What `said` says, where it is more than the last time."""
        before, self._last = self._last, self.said()
        return self._last if self._last != before else []

    def remedy(self) -> str:
        """What is known, and what to do: the end of an error's text."""
        said = self.said()
        if not said:
            return ""
        hosts = sorted({*self._errors.values(), *(host for host, kills in self._kills.items() if kills)})
        return "; memory has run out while the job ran: %s" % ", ".join(said) + REMEDY % (",".join(hosts), self._job)
