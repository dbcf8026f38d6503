"""What a benchmark measured, as figures and ratios: lines for a person, and the file that the README quotes."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


def machine() -> str:
    """The machine in one line: cores, processor, memory, kernel, and how busy it was before."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    processor = f"{os.cpu_count()} x {(models or [platform.machine()])[0]}"
    return f"{processor}, {memory:.0f} GiB, Linux {platform.release()}, load {os.getloadavg()[0]:.1f} before"


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


@dataclass
class Record:
    """One run of a benchmark. `figures`: every measurement; `ratios` and their `goals` have the same names.

    A ratio is better when it is larger, unless its name ends in "of the floor".
    """

    name: str
    versions: dict[str, str]
    machine: str = field(default_factory=machine)
    date: str = field(default_factory=_now)
    figures: dict[str, list[float]] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    goals: dict[str, float] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write it as one JSON document."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", encoding="utf-8")

    def met(self, name: str) -> bool:
        """Whether the ratio reaches its goal."""
        ratio, goal = self.ratios[name], self.goals[name]
        return ratio <= goal if name.endswith("of the floor") else ratio >= goal

    def lines(self) -> Iterable[str]:
        """The ratios beside their goals, for a person."""
        for name, ratio in self.ratios.items():
            goal = f"goal {self.goals[name]:g}: {'met' if self.met(name) else 'MISSED'}" if name in self.goals else ""
            yield f"  {name:<58} {ratio:8.2f}   {goal}".rstrip()


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """The median of the rounds' own ratios: what disturbs a round disturbs both of its sides."""
    return statistics.median(one / other for one, other in zip(slow, fast, strict=True))
