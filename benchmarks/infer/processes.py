"""Processes below one, and what they have used of the processor and of memory, by /proc."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> dict[int, int]:
    """The processes below this one, each with its parent."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            text = (path / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        parents[int(path.name)] = int(text.rpartition(")")[2].split()[1])
    found = {root: 0}
    grown = True
    while grown:
        more = {pid: parent for pid, parent in parents.items() if parent in found and pid not in found}
        found.update(more)
        grown = bool(more)
    return found


def processor(pids: Iterable[int]) -> float:
    """Seconds of the processor that these processes have used."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / _TICK


class Meter:
    """What the processes below one have used of the processor at which time, also those that have ended since."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._used: dict[int, float] = {}
        self._seen: list[tuple[float, float]] = []  # time, seconds of the processor

    def look(self, anew: bool) -> None:
        """Note what they have used up to now; `anew`: also those that have begun, which takes longer to find out."""
        for pid in tree(self._root) if anew else list(self._used):
            self._used[pid] = max(self._used.get(pid, 0.0), processor([pid]))
        self._seen.append((time.time(), sum(self._used.values())))

    def between(self, begun: float, ended: float) -> float:
        """Seconds of the processor between two times."""
        return self._at(ended) - self._at(begun)

    def _at(self, when: float) -> float:
        for (before, least), (after, most) in itertools.pairwise(self._seen):
            if before <= when <= after:
                return least + (most - least) * (when - before) / (after - before)
        return self._seen[-1][1]


def memory(pid: int) -> float:
    """Mebibytes of a process, what it shares with others counted in part (PSS)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    return int(next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1]) / 1024
