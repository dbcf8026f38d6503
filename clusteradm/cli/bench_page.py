"""Benchmark of a cluster as one page."""

from __future__ import annotations

import datetime
from typing import Any

from clusteradm.cli import bench_view
from clusteradm.cli.bench_view import Outcome
from clusteradm.cli.pages import render
from clusteradm.cli.pages.plot import Mark, Plot, Shape, Tick, axis, points
from clusteradm.cli.pages.tiles import Tile, percent
from clusteradm.cli.show import counted
from clusteradm.jobs.bench import TOO_SLOW, Alone, Step

_MEASURED, _RUN, _IDEAL = 0, 7, 7  # colours
_WELL = 0.9


def html(outcome: Outcome) -> str:
    """The whole page."""
    notes = list(bench_view.notes(outcome))
    scale = _scale(outcome)
    return render(
        "bench.html.j2",
        cluster=outcome.cluster,
        model=outcome.model.name,
        number=outcome.model.version,
        sha256=outcome.model.sha256,
        date=f"{datetime.datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}",
        inputs=outcome.inputs,
        runs=outcome.runs,
        simulated=outcome.simulated,
        not_hardware=bench_view.NOT_HARDWARE,
        notes=notes,
        tiles=_tiles(outcome),
        plot=speed_up(outcome),
        unit=outcome.unit,
        whole=None if outcome.whole is None else f"{bench_view.WHOLE}: {outcome.whole:,.1f} images/s",
        stages=outcome.one.stages,
        balance=outcome.one.balance.text if outcome.one.balance else "",
        legend=[
            Shape("measured, the median", "", _MEASURED),
            Shape(f"each run; as many times as {outcome.unit}s", "", _IDEAL),
        ],
        steps=[_step(step) for step in outcome.steps],
        tpus=[_tpu(alone, outcome, scale) for alone in outcome.tpus],
        latency=outcome.latency,
        too_slow=TOO_SLOW,
        devices=outcome.devices,
    )


def _tiles(outcome: Outcome) -> list[Tile]:
    last = outcome.steps[-1]
    first = outcome.steps[0]
    slow = sum(bool(alone.slow) for alone in outcome.tpus)
    fastest = min((alone.milliseconds for alone in outcome.tpus), default=0.0)
    return [
        Tile("speed-up", f"{last.speed_up:.2f}", f"with {counted(last.count, outcome.unit)}"),
        Tile("efficiency", percent(last.efficiency), "", "" if last.efficiency >= _WELL else "warning"),
        Tile("images/s", f"{last.rate:,.0f}", f"one {outcome.unit}: {first.rate:,.1f}"),
        Tile("start-up", f"{last.startup:.2f} s", "not part of the speed"),
        _whole_tile(outcome)
        if last.stages > 1
        else Tile(
            "TPUs",
            f"{len(outcome.tpus)}",
            f"{slow} of them slow" if slow else f"the fastest {fastest:.2f} ms",
            "warning" if slow else "",
        ),
    ]


def _whole_tile(outcome: Outcome) -> Tile:
    """What pipelines have instead of TPUs that are alone: how they compare with the whole model."""
    last = outcome.steps[-1]
    if outcome.whole is None or last.by_whole is None:
        return Tile("TPUs", f"{last.tpus}", f"{last.stages} in a pipeline")
    return Tile("by whole", f"{last.by_whole:.2f}", f"{last.tpus} TPUs; one with the whole model: {outcome.whole:,.1f}")


def _step(step: Step) -> dict[str, Any]:
    rates = [run.images_per_second for run in step.runs]
    return {
        "count": f"{step.count:,}",
        "tpus": f"{step.tpus:,}",
        "by_whole": None if step.by_whole is None else f"{step.by_whole:.2f}",
        "rate": f"{step.rate:,.1f}",
        "spread": f"{min(rates):,.0f} to {max(rates):,.0f}",
        "speed_up": f"{step.speed_up:.2f}",
        "efficiency": percent(step.efficiency),
        "seconds": f"{step.seconds:.2f}",
        "startup": f"{step.startup:.2f}",
        "shares": step.use.shares() if step.use else None,
    }


def _scale(outcome: Outcome) -> float:
    """Milliseconds at the end of the bars."""
    times = [alone.milliseconds for alone in outcome.tpus]
    times += [TOO_SLOW * alone.published for alone in outcome.tpus if alone.published]
    return axis(max(times, default=1.0))[0]


def _tpu(alone: Alone, outcome: Outcome, scale: float) -> dict[str, Any]:
    host, address = alone.place
    celsius = [each.celsius.get(alone.place) for each in (outcome.before, outcome.after)]
    return {
        "host": host,
        "address": address,
        "milliseconds": f"{alone.milliseconds:.2f}",
        "ratio": "" if alone.ratio is None else f"{alone.ratio:.2f}",
        "width": 100 * alone.milliseconds / scale,
        "published": None if alone.published is None else 100 * alone.published / scale,
        "limit": None if alone.published is None else min(100.0, 100 * TOO_SLOW * alone.published / scale),
        "celsius": " to ".join("-" if value is None else f"{value:.0f}" for value in celsius),
        "slow": alone.slow,
    }


def speed_up(outcome: Outcome) -> Plot:
    """Speed-up over the number of TPUs, or pipelines, every run a dot, beside the line of as many times the speed."""
    steps = outcome.steps
    most = steps[-1].count
    best = max(run.images_per_second / step.base for step in steps for run in step.runs)
    end, ticks = axis(max(most, best), 4 if most < 5 else 8 if most <= 8 else 5)
    if most < 5:  # whole numbers
        end, ticks = float(max(most, int(best + 0.999))), [float(n) for n in range(max(most, int(best + 0.999)) + 1)]

    def across(count: float) -> float:
        return 100 * count / most

    measured = [(across(step.count), 100 * step.speed_up / end) for step in steps]
    dots = [
        Mark(
            across(step.count),
            f"{run.images_per_second:,.1f} images/s",
            100 * run.images_per_second / step.base / end,
            _RUN,
        )
        for step in steps
        for run in step.runs
    ]
    dots += [
        Mark(
            across(step.count),
            f"{step.speed_up:.2f} with {counted(step.count, outcome.unit)}",
            100 * step.speed_up / end,
            _MEASURED,
        )
        for step in steps
    ]
    return Plot(
        f"speed-up over the number of {outcome.unit}s",
        [Tick(across(step.count), f"{step.count}") for step in _apart(steps)],
        [Tick(100 * value / end, f"{value:g}") for value in ticks],
        lines=[
            Shape("", points([(0.0, 0.0), (100.0, 100 * most / end)]), _IDEAL),
            Shape("", points(measured), _MEASURED),
        ],
        dots=dots,
    )


def _apart(steps: Any) -> list[Step]:
    """The steps that have a label: no two closer than a twelfth of the axis, the last always."""
    most = steps[-1].count
    found: list[Step] = [steps[-1]]
    for step in reversed(steps[:-1]):
        if found[-1].count - step.count >= most / 12:
            found.append(step)
    return found[::-1]
