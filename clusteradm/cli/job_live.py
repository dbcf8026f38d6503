"""Live view of a running job: images per second in all and of each host, what is queued, the time that is left, and of
each rank its TPU's temperature and what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from clusteradm.cli import show
from clusteradm.cli.escape import line
from clusteradm.cli.health_forms.table import STYLES
from clusteradm.cli.temperatures import Warmth
from clusteradm.jobs.pace import Pace, RankPace
from clusteradm.jobs.use import INPUT, NETWORK, TPU, Use

# Of a share of a rank's time: its letter where there are no colours, and its colour.
_MARKS = {TPU: ("█", "green"), INPUT: ("▒", "yellow"), NETWORK: ("░", "magenta"), "other": ("·", "dim")}
_BAR = 16  # columns
_LINES = 7  # of a terminal, for what is not in the table
_SLOW = 0.5  # of its host's fastest rank

Warmths = Callable[[str, str | None], Warmth | None]


class Live:
    """What is shown of a job now."""

    def __init__(self, warmths: Warmths = lambda host, pci_address: None) -> None:
        phase = TextColumn("{task.description}", markup=False)
        self._bar = Progress(phase, BarColumn(), MofNCompleteColumn(), console=show.stderr, disable=True)
        self._task = self._bar.add_task("starting", total=None)
        self._pace: Pace | None = None
        self._warmths = warmths

    def update(self, phase: str, pace: Pace) -> None:
        """Take in how far the job is."""
        self._pace = pace
        self._bar.update(self._task, description=show.line(phase), completed=pace.done, total=pace.total)

    def render(self) -> RenderableType:
        """All of it, no higher than the terminal."""
        pace = self._pace
        if pace is None or not pace.rates:
            return self._bar
        return Group(self._bar, show.text(summary(pace)), table(pace, self._warmths, show.stderr.size.height - _LINES))


def summary(pace: Pace) -> str:
    """The line about the whole job."""
    parts = [f"{pace.rate or 0.0:,.1f} images/s"]
    if pace.left is not None:
        parts.append(f"{duration(pace.left)} left")
    parts.append(f"{pace.queued:,} queued")
    if pace.errors:
        parts.append(f"{pace.errors:,} failed")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as a person says them: 0:07, 12:30, 3:00:00."""
    whole = round(min(seconds, 359_999.0))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def table(pace: Pace, warmths: Warmths, most: int) -> RenderableType:
    """A row for each rank; for each host where there is no room for that, and the slowest where even these are many."""
    by_host: dict[str, list[RankPace]] = {}
    for rank in pace.ranks:
        by_host.setdefault(rank.host, []).append(rank)
    staged = any(rank.stage for rank in pace.ranks)
    several = staged or any(len(ranks) > 1 for ranks in by_host.values())
    found = show.Table(header_style="")
    found.add_column("host", no_wrap=True)
    found.add_column("images/s", justify="right", no_wrap=True)
    if len(pace.ranks) > max(1, most):
        _add_hosts(found, pace, by_host, warmths, max(1, most))
        return found
    found.add_column("TPU", no_wrap=True)
    if staged:
        found.add_column("stage", no_wrap=True)
    if several:
        found.add_column("images/s", justify="right", no_wrap=True)
    _add_shares(found)
    for host, ranks in by_host.items():
        cells: list[RenderableType] = [line(host), _number(pace.rates.get(host), 1)]
        fastest = max((rank.rate or 0.0 for rank in ranks), default=0.0)
        for rank in ranks:
            slow = rank.rate is not None and rank.rate < _SLOW * fastest
            own: list[RenderableType] = [show.text((_number(rank.rate, 1), "yellow" if slow else ""))] * several
            stage = [rank.stage] * staged
            found.add_row(*cells, line(rank.pci_address or "CPU"), *stage, *own, *_cells([rank], warmths))
            cells = ["", ""]
    return found


def _add_shares(found: show.Table) -> None:
    found.add_column("°C", justify="right", no_wrap=True)
    legend = [(f"{mark}{name} ", colour) for name, (mark, colour) in _MARKS.items() if name != "other"]
    found.add_column(show.text(*legend), no_wrap=True)
    found.add_column("waits for", no_wrap=True)
    found.add_column("queue", justify="right", no_wrap=True)


def _add_hosts(found: show.Table, pace: Pace, by_host: dict[str, list[RankPace]], warmths: Warmths, most: int) -> None:
    found.add_column("ranks", justify="right", no_wrap=True)
    _add_shares(found)
    shown = list(by_host)
    if len(shown) > most:
        shown = sorted(shown, key=lambda host: pace.rates.get(host, 0.0))[: max(1, most - 1)]
    for host in by_host:
        if host in shown:
            ranks = by_host[host]
            found.add_row(line(host), _number(pace.rates.get(host), 1), f"{len(ranks)}", *_cells(ranks, warmths))
    if len(shown) < len(by_host):
        found.add_row(f"and {len(by_host) - len(shown):,} faster", "", "", "", "", "", "")


def _cells(ranks: Sequence[RankPace], warmths: Warmths) -> list[RenderableType]:
    """Temperature of the warmest, use and what is waited for, the queue, of some ranks together."""
    warm = [each for rank in ranks if (each := warmths(rank.host, rank.pci_address)) is not None]
    worst = max((each.severity for each in warm), default=None)
    celsius = max((each.celsius for each in warm if each.celsius is not None), default=None)
    style = "" if not worst else STYLES[worst]
    uses = [rank.use for rank in ranks if rank.use is not None]
    use = mean(uses) if uses else None
    return [
        show.text((_number(celsius, 0), style)),
        bar(use) if use else "",
        _waits(ranks, use, next((each.state for each in warm if each.state), "")),
        f"{sum(rank.queue for rank in ranks):,}",
    ]


def mean(uses: Sequence[Use]) -> Use:
    """The mean of some."""
    count = len(uses)
    return Use(
        sum(use.tpu for use in uses) / count,
        sum(use.input for use in uses) / count,
        sum(use.network for use in uses) / count,
    )


def _waits(ranks: Sequence[RankPace], use: Use | None, state: str) -> RenderableType:
    """What is waited for, and its share; of one that does not work, why."""
    if len(ranks) == 1 and ranks[0].state == "failed":
        return show.text(("left out", "red"))
    if use is None:
        return show.text("no input left" if ranks[0].rate is not None and not any(r.queue for r in ranks) else "")
    name = use.waits_for
    text = f"{name} {100 * use.shares()[name]:.0f} %"
    return show.text((text, "" if name == TPU else _MARKS[name][1]), (f" {line(state)}" if state else "", "red"))


def bar(use: Use) -> RenderableType:
    """The shares of a rank's time, side by side."""
    parts: list[tuple[str, str]] = []
    at, whole = 0, 0.0
    for name, share in use.shares().items():
        whole += share
        end = min(_BAR, round(_BAR * whole))
        parts.append((_MARKS[name][0] * (end - at), _MARKS[name][1]))
        at = end
    return show.text(*parts)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
