"""Plots of a page: places in percent of a plot's width and height, which a template makes lines, areas and labels of.

Lines are SVG that is stretched to the page; labels are text of the page, and so as large on a telephone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

COLOURS = 8  # of series, by their number (page.html.j2); what is beyond is one of its own


@dataclass(frozen=True)
class Tick:
    """A label of an axis, at a place in percent."""

    at: float
    text: str


@dataclass(frozen=True)
class Shape:
    """A line or an area. `points`: as SVG takes them; `colour`: its number; `name`: for the legend."""

    name: str
    points: str
    colour: int


@dataclass(frozen=True)
class Mark:
    """Something at a place of the x axis, by its number in a list below; or a dot, with `up` in percent."""

    at: float
    text: str
    up: float = 0.0
    colour: int = 0


@dataclass(frozen=True)
class Plot:
    """One plot. `label`: what it shows, for those who cannot see it."""

    label: str
    x: Sequence[Tick]
    y: Sequence[Tick]
    areas: Sequence[Shape] = ()
    lines: Sequence[Shape] = ()
    marks: Sequence[Mark] = field(default=())
    dots: Sequence[Mark] = ()


def nice(most: float, steps: int = 5) -> float:
    """The length of a step of an axis, 1, 2 or 5 times a power of ten, of which about `steps` reach `most`."""
    if most <= 0:
        return 1.0
    raw = most / steps
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))


def axis(most: float, steps: int = 5) -> tuple[float, list[float]]:
    """The end of an axis from 0 that `most` fits on, and the places of its labels."""
    step = nice(most, steps)
    count = max(1, math.ceil(most / step - 1e-9))
    return count * step, [number * step for number in range(count + 1)]


def points(places: Sequence[tuple[float, float]]) -> str:
    """Places in percent, y upwards, as SVG takes them."""
    return " ".join(f"{x:.2f},{100 - y:.2f}" for x, y in places)
