"""Time limits of connections, in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Time limits per host, in seconds.

    `connect`: to establish a connection; `away`: to reconnect after a connection broke during work (a board takes a
    minute to boot, a switch may take longer); `silent`: between two messages of a running task, its end included;
    `start`: for each step of starting the node program, of which compiling it there is the longest.
    """

    connect: float = 15.0
    away: float = 300.0
    silent: float = 3600.0
    start: float = 60.0
