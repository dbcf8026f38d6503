"""SIMULATION of 4 to 10,000 boards around one admin machine and one head: where each single point of the design ends.

    python benchmarks/scale.py [--json FILE]      (a minute; the measured costs are those of results/scale.json)
    unshare -n sh -c 'ip link set lo up; python benchmarks/scale.py --measure --json FILE'        (root)

No board is simulated in detail: a design (scale/designs.py) is processes that wait in turn for servers, each step at a
cost. `--measure` measures those of this repository's own code and of HAProxy anew (scale/costs.py); the others are
figures of other results, published ones, or assumptions: `costs` says which. The same costs give the same table:
the only chance is a board's pace, by a seeded generator.

A design holds as long as it is done within a minute, or has 90 % of what its TPUs could do.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE / "scale")]

from designs import INPUTS, Costs, Outcome, endpoint, job, model, start, survey  # noqa: E402
from record import Record  # noqa: E402

import clusteradm  # noqa: E402
from clusteradm.node.job.schedule import CHUNK_SECONDS  # noqa: E402

RESULTS = HERE / "results"
BOARDS = (4, 16, 100, 1000, 10000)
MOST = 40000  # boards that an end is looked for up to


class Cost(NamedTuple):
    """What a step costs. `kind`: measured, published, assumed, or set: a constant of this repository."""

    value: float
    unit: str
    kind: str
    source: str


def _growth(kept: Mapping[str, Any]) -> float:
    """Processor seconds of a host more, by both sides, on the two cores of that machine."""
    time = {n: statistics.median(kept["figures"][f"growth: clusteradm, {n} hosts"]) for n in (16, 32)}
    return float(2 * (time[32] - time[16]) / 16)


def costs(measured: Mapping[str, float]) -> dict[str, Cost]:
    """All costs. `measured`: those of scale/costs.py."""
    bootstrap, health = (json.loads((RESULTS / f"{name}.json").read_text()) for name in ("bootstrap", "health"))
    start = statistics.median(bootstrap["figures"]["growth: clusteradm, 1 host"])
    probe = statistics.median(health["figures"]["longest probe, 8 nodes"])
    found = {
        "start of a command": Cost(start, "s", "measured", "results/bootstrap.json, 1 host, unchanged"),
        "a host, both sides": Cost(_growth(bootstrap), "s", "measured", "results/bootstrap.json, 16 to 32 hosts"),
        "admin's share of that": Cost(0.5, "", "assumed", "boards and admin shared the same two cores"),
        "cores of the admin machine": Cost(2, "", "assumed", "as the machine of the measurements"),
        "a board is slower by": Cost(6, "x", "assumed", "a Cortex-A53 beside a core of that machine"),
        "a host's probes": Cost(probe, "s", "measured", "results/health.json, the longest of 8 hosts"),
        "files a connection": Cost(5, "", "set", "clusteradm/errors.py: one to five"),
        "open files": Cost(1024, "", "published", "Debian's soft limit of a process"),
        "a link": Cost(118e6, "bytes/s", "published", "1 Gbit/s Ethernet, without its headers"),
        "a model": Cost(4e6, "bytes", "assumed", "as MobileNet v2, compiled"),
        "an inference": Cost(0.0026, "s", "published", "MobileNet v2 on a Dev Board, by coral.ai"),
        "a chunk": Cost(CHUNK_SECONDS, "s", "set", "clusteradm/node/job/schedule.py"),
        "a board's pace varies by": Cost(0.05, "", "assumed", "seeded"),
        "mpirun on 4 hosts": Cost(2.8, "s", "measured", "virtual hosts, by SSH: 2.6 to 3.0 s"),
        "an MPI message": Cost(
            25, "us", "measured", "44 to 58 us for a chunk and its answer, without work, on one machine"
        ),
        "journal's fsync": Cost(0.02, "s", "assumed", "once a second, on eMMC"),
        "connections in HAProxy": Cost(8192, "", "set", "templates/head/etc/haproxy/haproxy.cfg.j2"),
        "checks of a board": Cost(2, "/s", "set", "the same: every 500 ms"),
    }
    for name, value in measured.items():
        found[name] = Cost(value, "bytes" if name.startswith("bytes") else "us", "measured", "scale.py --measure")
    return found


class Design(NamedTuple):
    """A single point. `run`: what becomes of so many boards; `unit`: of its value, "s" or "a second"."""

    unit: str
    run: Callable[[Costs, int], Outcome]


_SLOWER = "a board is slower by"
_MARK = "†"


def _slower(cost: Costs) -> float:
    return cost[_SLOWER]


class _Read(dict[str, float]):
    """Costs that know which of them were asked for."""

    def __init__(self, cost: Costs) -> None:
        super().__init__(cost)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> float:
        self.asked.add(name)
        return super().__getitem__(name)


def assumes(design: Design, figures: Mapping[str, list[float]]) -> bool:
    """Whether the design's figures rest on how much slower a board is."""
    read = _Read({key.partition(": ")[2]: value[0] for key, value in figures.items() if key.startswith("cost: ")})
    design.run(read, BOARDS[0])
    return _SLOWER in read.asked


DESIGNS = {
    "bootstrap that changes nothing, 32 at a time": Design("s", lambda c, n: survey(c, n, 32, probes=False)),
    "health's probes, 32 at a time": Design("s", lambda c, n: survey(c, n, 32, probes=True)),
    "health's probes, 200 at a time": Design("s", lambda c, n: survey(c, n, 200, probes=True)),
    "a model read by all": Design("s", model),
    "start of a job by SSH": Design("s", lambda c, n: start(c, n, 1)),
    "job, tensors": Design("a second", lambda c, n: job(c, n, 1, INPUTS["a tensor"])),
    "job, pictures": Design("a second", lambda c, n: job(c, n, 1, INPUTS["a picture"])),
    "job, inputs on the boards": Design("a second", lambda c, n: job(c, n, 1, 0)),
    "job, inputs on the boards, the head a board": Design("a second", lambda c, n: job(c, n, _slower(c), 0)),
    "endpoint, tensors": Design("a second", lambda c, n: endpoint(c, n, 1, "a tensor")),
    "endpoint, pictures": Design("a second", lambda c, n: endpoint(c, n, 1, "a picture")),
    "endpoint, pictures, the head a board": Design("a second", lambda c, n: endpoint(c, n, _slower(c), "a picture")),
}


def end(cost: Costs, design: Design) -> tuple[int, str]:
    """The most boards with which it holds, and what is busiest with one more; MOST and "" where that is no end."""
    low, high = 1, 2
    while design.run(cost, high).holds:
        low, high = high, high * 2
        if high > MOST:
            return MOST, ""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if design.run(cost, middle).holds else (low, middle)
    return low, design.run(cost, high).busiest


def simulate(given: Mapping[str, Cost], boards: Iterable[int] = BOARDS) -> dict[str, list[float]]:
    """Figures of all designs, and the costs that they are of."""
    cost = {name: each.value for name, each in given.items()}
    found = {f"cost: {name}": [value] for name, value in cost.items()}
    for name, design in DESIGNS.items():
        for number in boards:
            outcome = design.run(cost, number)
            found[f"{name}; {number} boards; {design.unit}"] = [outcome.value]
            found |= {f"{name}; {number} boards; used of {one}": [used] for one, used in outcome.shares.items()}
        most, what = end(cost, design)
        found[f"{name}; ends; {what}"] = [most]
    return found


def table(figures: Mapping[str, list[float]]) -> list[tuple[str, ...]]:
    """Head and rows of what became of the designs: text for a person, on the screen or on the page."""
    numbers = sorted({int(found[1]) for found in (re.search(r"; (\d+) boards; ", key) for key in figures) if found})
    lines: list[tuple[str, ...]] = [("design", *(f"{number:,}" for number in numbers), "holds up to", "ended by")]
    for name, design in DESIGNS.items():
        cells = [_cell(figures, f"{name}; {number} boards; ", design.unit) for number in numbers]
        last = next(key for key in figures if key.startswith(f"{name}; ends; "))
        most, what = figures[last][0], last.split("; ")[2]
        shown = f"{name} {_MARK}" if assumes(design, figures) else name
        lines.append((shown, *cells, f"{most:,.0f}" if what else f"more than {most:,.0f}", what))
    return lines


def legend(figures: Mapping[str, list[float]]) -> str:
    """What the mark at the name of a design means."""
    slower = figures[f"cost: {_SLOWER}"][0]
    return (
        f"{_MARK} all figures of the row assume that a board's processor is {slower:g} times slower than a core there."
    )


def _cell(figures: Mapping[str, list[float]], at: str, unit: str) -> str:
    """The value, and the share of the resource that is used most."""
    value = figures[at + unit][0]
    used = max(share[0] for key, share in figures.items() if key.startswith(f"{at}used of "))
    return f"{value:,.{0 if value >= 10 else 1}f}{' s' if unit == 's' else '/s'}, {used:.0%}"


def cost_table(figures: Mapping[str, list[float]]) -> list[tuple[str, ...]]:
    """Head and rows of the costs that the figures are of."""
    lines: list[tuple[str, ...]] = [("cost", "value", "is", "from")]
    for name, each in costs(_measured(figures)).items():
        value = figures[f"cost: {name}"][0]
        lines.append(
            (
                name,
                f"{value:,.4g} {each.unit}".strip() if value < 1e4 else f"{value:,.0f} {each.unit}",
                each.kind,
                each.source,
            )
        )
    return lines


def _measured(figures: Mapping[str, list[float]]) -> dict[str, float]:
    """The costs among the figures that `--measure` measures."""
    found = {key.partition(": ")[2]: value[0] for key, value in figures.items() if key.startswith("cost: ")}
    return {name: value for name, value in found.items() if name not in costs({})}


def main() -> None:
    """Simulate, show, and keep the result."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="measure anew what the head's programs cost, here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the result in FILE")
    arguments = parser.parse_args()
    record = Record("scale", {"clusteradm": clusteradm.__version__, "python": platform.python_version()})
    if arguments.measure:
        from costs import measure

        measured = measure(INPUTS)
    else:
        kept = json.loads((RESULTS / "scale.json").read_text(encoding="utf-8"))
        measured, record.machine, record.date = _measured(kept["figures"]), kept["machine"], kept["date"]
    record.figures = simulate(costs(measured))
    if arguments.json:
        record.write(arguments.json)
    lines = table(record.figures)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print(legend(record.figures))
    print("SIMULATED, no boards: see docs/scale.md")


if __name__ == "__main__":
    main()
