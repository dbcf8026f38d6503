"""Tiles of a page: the figures that a reader looks for first."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """One figure. `more`: a little about it; `tone`: "error" or "warning", where it calls for attention."""

    name: str
    value: str
    more: str = ""
    tone: str = ""


def percent(share: float) -> str:
    """A share as a percentage."""
    return f"{100 * share:.1f} %" if share < 0.9995 else "100 %"
