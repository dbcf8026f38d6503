"""Pace of this host: how long it took to start a section is a measure of what else it can do in a time.

A loaded or slow board is given longer, so that slow is not taken for wrong; long limits stay as they are.
"""

import os
from typing import Any, Dict, List, Optional

from clusteradm.node.texts import number, read

# Seconds from the fork of a section to its module being imported, on a Dev Board that has nothing else to do.
USUAL = 0.5
# No host is waited for more than so many times as long, and no short limit becomes longer than this.
_MOST, _LONG = 4.0, 30.0

_present = [1.0]


def factor(lag: float) -> float:
    """How many times as long as usual a host is given whose section took `lag` seconds to start."""
    return min(_MOST, max(1.0, lag / USUAL))


def follow(lag: float) -> None:
    """Set the pace of this process by the seconds that its start took."""
    _present[0] = factor(lag)


def seconds(limit: float, times: Optional[float] = None) -> float:
    """The limit at this process's pace, or `times` as long."""
    return min(limit * (_present[0] if times is None else times), max(limit, _LONG))


def load(root: str, lags: List[float]) -> Dict[str, Any]:
    """How busy the host is: processors, processes that run or wait for one, and the longest start of a section (s).

    Not the load average, which also counts processes that wait for a disk or a server.
    """
    fields = (read(root, "proc/loadavg") or "").split()
    running = number(fields[3].partition("/")[0]) if len(fields) > 3 else None  # type: Optional[int]
    return {"cpus": os.cpu_count(), "running": running, "lag": round(max(lags), 3) if lags else None}
