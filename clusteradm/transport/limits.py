"""How long a host is waited for, in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """`connect`: to answer at all; `away`: to be back when its connection broke in the middle of work (a board takes a
    minute to boot, a switch longer to wake up); `silent`: for a task to say anything, its end included."""

    connect: float = 15.0
    away: float = 300.0
    silent: float = 3600.0
