"""Report of a job that has ended, as one page."""

from __future__ import annotations

import base64
import datetime
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clusteradm.cli.job_live import duration
from clusteradm.cli.job_view import how_it_ended
from clusteradm.cli.pages import render
from clusteradm.cli.pages.plot import COLOURS, Mark, Plot, Shape, Tick, axis, points
from clusteradm.cli.pages.tiles import Tile, percent
from clusteradm.cli.show import counted
from clusteradm.jobs import JobReport
from clusteradm.jobs.report import Rank
from clusteradm.jobs.sheet import Failure, Picture
from clusteradm.node.spec.wire.job import Attempt, Status
from clusteradm.node.spec.wire.job_names import COMPLETE, FAILED
from clusteradm.node.spec.wire.timeline import Timeline

SIMULATED = "SIMULATED"  # in the version of a library whose TPUs are
_BINS = 160  # of the plot
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
_STAIRS = 40  # edges: so few values are drawn as what they are, more as a line
_APART = 6.0  # percent of a plot, between two numbers of events
_TINY = 64  # pixels, below which a picture is shown pixel by pixel
_TONES = {COMPLETE: "ok", FAILED: "error"}


@dataclass(frozen=True)
class JobPage:
    """What a page is made of. `no_pictures`: why there are none, where somebody might look for them."""

    cluster: str
    report: JobReport
    status: Status
    timeline: Timeline | None
    failures: Sequence[Failure] = ()
    pictures: Sequence[Picture] = ()
    no_pictures: str = ""


def html(about: JobPage) -> str:
    """The whole page."""
    report, status = about.report, about.status
    return render(
        "job.html.j2",
        cluster=about.cluster,
        job=report.job,
        model=report.model.name,
        number=report.model.version,
        sha256=report.model.sha256,
        state=status.state,
        tone=_TONES.get(status.state, "warning"),
        date=moment(status.started),
        error=status.error,
        simulated=any(SIMULATED in device for device in report.devices),
        devices=report.devices,
        tiles=_tiles(report, status),
        throughput=throughput(about.timeline) if about.timeline else None,
        events=[(f"{event.second:.1f} s:", event.text) for event in about.timeline.events] if about.timeline else [],
        ranks=[_rank(rank) for rank in report.ranks],
        speed_up=_speed_up(report),
        stages=report.stages,
        balance=report.balance.text if report.balance else "",
        failures=about.failures,
        pictures=[_picture(picture) for picture in about.pictures],
        no_pictures=about.no_pictures,
        attempts=[_attempt(attempt, status.state) for attempt in status.attempts],
    )


def moment(seconds: float | None) -> str:
    """A time since 1970 as a person of this machine reads it."""
    try:
        return f"{datetime.datetime.fromtimestamp(seconds or 0).astimezone():%Y-%m-%d %H:%M:%S %z}" if seconds else ""
    except (OverflowError, OSError, ValueError):  # a head may say any number
        return ""


def _tiles(report: JobReport, status: Status) -> list[Tile]:
    # Every stage of a pipeline has had the images that its last one delivers.
    passed = {rank.pipeline: rank.images for rank in report.ranks if rank.pipeline is not None}
    done = sum(rank.images for rank in report.ranks if rank.pipeline is None) + sum(passed.values())
    images = report.images if status.state == COMPLETE else done
    errors = report.errors
    rate = images / report.seconds if report.seconds else 0.0
    found = [
        Tile("images", f"{images:,}", "" if images == status.total else f"of {status.total:,}"),
        Tile("images/s", f"{rate:,.1f}"),
        Tile("seconds of work", f"{report.seconds:,.2f}", f"and {report.startup_seconds:,.2f} of start-up"),
        Tile("speed-up", f"{report.speed_up:.2f}", f"of {_units(report)[1]}"),
        Tile("errors", f"{errors:,}", percent(errors / images) if images and errors else "", "error" if errors else ""),
    ]
    if report.accuracy:
        right = report.accuracy
        share = right.right / right.labelled if right.labelled else 0.0
        found.append(Tile("accuracy", percent(share), f"{right.right:,} of {right.labelled:,}"))
    return found


def _units(report: JobReport) -> tuple[int, str]:
    """What works side by side, by number and in words: pipelines, or ranks with the whole model."""
    pipelines = {rank.pipeline for rank in report.ranks if rank.pipeline is not None}
    if pipelines:
        return len(pipelines), counted(len(pipelines), "pipeline")
    return len(report.ranks), counted(len(report.ranks), "rank")


def _speed_up(report: JobReport) -> str:
    count, units = _units(report)
    if not report.seconds or not count:
        return ""
    return (
        f"Speed-up {report.speed_up:.2f} of {units}: on average, so many were at work at once "
        f"({percent(report.speed_up / count)}). How much faster it is than one TPU, clusteradm bench measures."
    )


def _rank(rank: Rank) -> dict[str, Any]:
    place = rank.pci_address or rank.tpu or "CPU"
    return {
        "host": rank.host,
        "place": place if rank.pipeline is None else f"{place}, stage {rank.pipeline + 1}.{(rank.stage or 0) + 1}",
        "images": f"{rank.images:,}",
        "share": percent(rank.share),
        "rate": f"{rank.images_per_second:,.1f}",
        "tpu": percent(rank.use.tpu) if rank.use else "-",
        "shares": rank.use.shares() if rank.use else None,
        "error": rank.error,
    }


def _attempt(attempt: Attempt, state: str) -> dict[str, Any]:
    first, last = attempt.first_dispatch, attempt.last_result
    return {
        "number": attempt.attempt,
        "hosts": ", ".join(attempt.hosts),
        "startup": "-" if first is None else f"{first - attempt.started:,.2f} s",
        "work": "-" if first is None or last is None else f"{last - first:,.2f} s",
        "end": how_it_ended(attempt, state),
    }


def _picture(picture: Picture) -> dict[str, str]:
    data = "" if picture.jpeg is None else "data:image/jpeg;base64," + base64.b64encode(picture.jpeg).decode("ascii")
    kind = "tiny" if picture.side < _TINY else ""
    return {"name": picture.name, "caption": picture.caption, "data": data, "why": picture.why, "kind": kind}


def throughput(timeline: Timeline) -> Plot | None:
    """Images/s of each host over the time of the job, on top of each other; None where nothing was recorded."""
    edges, rates = _rates(timeline)
    if not edges:
        return None
    named = _series(rates)
    length = edges[-1]
    end, ticks = axis(max(map(sum, zip(*(values for _, values in named), strict=True)), default=0.0) or 1.0)
    stairs = len(edges) <= _STAIRS
    places = [100 * x / length for x in (_corners(edges) if stairs else _middles(edges))]
    below = [0.0] * len(places)
    areas = []
    for number, (name, rated) in enumerate(named):
        values = [value for value in rated for _ in range(2)] if stairs else rated
        above = [low + 100 * value / end for low, value in zip(below, values, strict=True)]
        outline = [*zip(places, above, strict=True), *reversed(list(zip(places, below, strict=True)))]
        areas.append(Shape(name, points(outline), number))
        below = above
    marks: list[Mark] = []
    labelled = -100.0
    for number, event in enumerate(timeline.events, 1):
        at = min(100.0, 100 * max(0.0, event.second) / length)
        apart = abs(at - labelled) >= _APART
        labelled = at if apart else labelled
        marks.append(Mark(at, str(number) if apart else ""))
    return Plot(
        "images per second of each host over the time of the job",
        _times(length),
        [Tick(100 * value / end, f"{value:,g}") for value in ticks],
        areas=areas,
        marks=marks,
    )


def _rates(timeline: Timeline) -> tuple[list[float], Mapping[str, list[float]]]:
    """Images/s by host, each between two edges in seconds: at most _BINS, and the last not much shorter than others."""
    count = max(map(len, timeline.counts.values()), default=0)
    if not count or timeline.seconds <= 0:
        return [], {}
    factor = math.ceil(count / _BINS)
    width = timeline.step * factor
    bins = math.ceil(count / factor)
    if bins > 1 and timeline.seconds - (bins - 1) * width < width / 2:
        bins -= 1
    edges = [*(number * width for number in range(bins)), max(timeline.seconds, (bins - 1) * width + timeline.step)]
    found = {}
    for host, numbers in timeline.counts.items():
        sums = [0.0] * bins
        for at, number in enumerate(numbers):
            sums[min(at // factor, bins - 1)] += number
        found[host] = [total / (edges[at + 1] - edges[at]) for at, total in enumerate(sums)]
    return edges, found


def _corners(edges: Sequence[float]) -> list[float]:
    """Where a stair of values between the edges goes up and down."""
    return [edges[0], *(edge for edge in edges[1:-1] for _ in range(2)), edges[-1]]


def _middles(edges: Sequence[float]) -> list[float]:
    """Where the values between the edges are drawn: the first and the last at their ends."""
    middles = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
    return [edges[0], *middles[1:-1], edges[-1]]


def _series(rates: Mapping[str, list[float]]) -> list[tuple[str, list[float]]]:
    """The hosts, in their order; where there are more than colours, the busiest, and the others as one."""
    if len(rates) <= COLOURS:
        return sorted(rates.items())
    busiest = sorted(rates, key=lambda host: -sum(rates[host]))
    rest = [rates[host] for host in busiest[COLOURS - 1 :]]
    others = [sum(values) for values in zip(*rest, strict=True)]
    named = sorted((host, rates[host]) for host in busiest[: COLOURS - 1])
    return [*named, (f"{len(rest)} other hosts", others)]


def _times(length: float) -> list[Tick]:
    """Labels of a time axis of so many seconds, about five."""
    step = next((step for step in _STEPS if length / step <= 5), _STEPS[-1] * math.ceil(length / _STEPS[-1] / 5))
    texts = (f"{at * step:g} s" if length < 120 else duration(at * step) for at in range(int(length / step + 1e-9) + 1))
    return [Tick(100 * at * step / length, text) for at, text in enumerate(texts)]
