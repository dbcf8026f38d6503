"""What top shows: a row for each host and TPU, from the figures of two measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType

from clusteradm.cli import show
from clusteradm.cli.escape import line
from clusteradm.cli.growth import Growth
from clusteradm.cli.health_forms.figures import CPU
from clusteradm.cli.health_forms.report import HealthReport, tpu_of
from clusteradm.cli.health_forms.table import STYLES
from clusteradm.cli.top_traffic import ModelRow
from clusteradm.health import Severity
from clusteradm.health import tpu as tpus


@dataclass(frozen=True)
class TpuRow:
    """One TPU, or a host's CPU where a job runs on that. `use`: share of the time in which it computed; `images`: per
    second; None for what is not known."""

    address: str
    state: str
    severity: Severity
    celsius: float | None = None
    megahertz: float | None = None
    use: float | None = None
    images: float | None = None
    job: str = ""


@dataclass(frozen=True)
class HostRow:
    """One host. `load`: for each processor; `memory`: the share that is used; `celsius`: of its warmest zone."""

    name: str
    rack: str
    slot: str
    state: str
    severity: Severity
    load: float | None
    memory: float | None
    celsius: float | None
    tpus: tuple[TpuRow, ...]

    @property
    def images(self) -> float:
        """Images per second of all its ranks."""
        return sum(tpu.images or 0.0 for tpu in self.tpus)

    @property
    def busy(self) -> bool:
        """Whether a job has a rank there."""
        return any(tpu.job for tpu in self.tpus)


@dataclass(frozen=True)
class JobRow:
    """One running job. `images`: per second."""

    job: str
    model: str
    done: int
    of: int
    images: float


def _least(value: float | None) -> float:
    return -1.0 if value is None else value


# Keys to sort by, with their order: what needs attention first.
SORTS: dict[str, Callable[[HostRow], tuple[object, ...]]] = {
    "place": lambda row: (not row.rack, row.rack, int(row.slot or 1 << 31)),
    "state": lambda row: (-row.severity,),
    "load": lambda row: (-_least(row.load),),
    "memory": lambda row: (-_least(row.memory),),
    "temperature": lambda row: (-max([_least(row.celsius), *(_least(tpu.celsius) for tpu in row.tpus)]),),
    "images": lambda row: (-row.images,),
}
FILTERS: dict[str, Callable[[HostRow], bool]] = {
    "all": lambda row: True,
    "not ok": lambda row: row.severity is not Severity.OK,
    "busy": lambda row: row.busy,
}


def hosts(now: HealthReport, before: HealthReport | None) -> list[HostRow]:
    """The rows, in the inventory's order. Rates are those since `before`."""
    values = _by_labels(now)
    ranks = _ranks(now, before)
    rack_of = {name: rack for rack, names in now.racks.items() for name in names}
    rows = []
    for name in now.hosts:
        findings = now.of_host(name)
        ill = sorted((each for each in findings if not each.ok), key=lambda each: -each.severity)
        worst = max(each.severity for each in findings)
        load, processors = values.get(("host_load", name)), values.get(("host_processors", name))
        total, free = (values.get((f"host_memory_{what}_bytes", name)) for what in ("total", "available"))
        zones = [
            each.value
            for each in now.figures
            if each.name == "host_temperature_celsius" and each.labels["host"] == name
        ]
        rows.append(
            HostRow(
                name,
                rack_of[name],
                now.slot(name),
                ", ".join(dict.fromkeys(each.state for each in ill)) or "ok",
                worst,
                None if load is None or not processors else load / processors,
                None if free is None or not total else 1 - free / total,
                max(zones, default=None),
                tuple(_tpus(now, name, values, ranks)),
            )
        )
    return rows


def _by_labels(report: HealthReport) -> dict[tuple[str, ...], float]:
    """Values by the figure's name and its labels host and tpu; figures with others are left out."""
    return {
        (each.name, *each.labels.values()): each.value for each in report.figures if set(each.labels) <= {"host", "tpu"}
    }


@dataclass(frozen=True)
class _Rank:
    job: str
    use: float | None
    images: float | None


def _ranks(now: HealthReport, before: HealthReport | None) -> dict[tuple[str, str], _Rank]:
    """What each rank has done since, by host and TPU. A new attempt of its job counts from 0: no rate is known then."""
    growth = Growth(now, before)
    found = {}
    for each in now.figures:
        if each.name != "rank_images_total":
            continue
        images, busy, worked = (
            growth.of(f"rank_{what}_total", each.labels) for what in ("images", "busy_seconds", "seconds")
        )
        use = min(busy / worked, 1.0) if busy is not None and worked else None
        rate = images / growth.seconds if images is not None and growth.seconds > 0 else None
        found[each.labels["host"], each.labels["tpu"]] = _Rank(each.labels["job"], use, rate)
    return found


def _tpus(
    report: HealthReport, host: str, values: Mapping[tuple[str, ...], float], ranks: Mapping[tuple[str, str], _Rank]
) -> list[TpuRow]:
    found = []
    idle = _Rank("", None, None)
    for finding in report.of_host(host):
        if finding.check != tpus.CHECK:
            continue
        address = tpu_of(finding)
        rank = ranks.get((host, address), idle)
        hertz = values.get(("tpu_clock_hertz", host, address))
        found.append(
            TpuRow(
                address,
                finding.state,
                finding.severity,
                values.get(("tpu_temperature_celsius", host, address)),
                None if hertz is None else hertz / 1e6,
                rank.use,
                rank.images,
                rank.job,
            )
        )
    if (host, CPU) in ranks:
        rank = ranks[host, CPU]
        found.append(TpuRow(CPU, "", Severity.OK, None, None, rank.use, rank.images, rank.job))
    return found


def jobs(now: HealthReport, rows: Sequence[HostRow]) -> list[JobRow]:
    """The running jobs."""
    done = {each.labels["job"]: each.value for each in now.figures if each.name == "job_inputs_done"}
    return [
        JobRow(
            each.labels["job"],
            each.labels["model"],
            int(done.get(each.labels["job"], 0)),
            int(each.value),
            sum(tpu.images or 0.0 for row in rows for tpu in row.tpus if tpu.job == each.labels["job"]),
        )
        for each in now.figures
        if each.name == "job_inputs"
    ]


def render(
    report: HealthReport, rows: Sequence[HostRow], models: Sequence[ModelRow], *, sort: str, only: str, note: str
) -> RenderableType:
    """The whole screen. `models`: the endpoint's; `note`: a line at its end."""
    shown = sorted((row for row in rows if FILTERS[only](row)), key=SORTS[sort])
    head = f"{report.cluster}  {report.date}  {report.summary}  {sum(row.images for row in rows):,.1f} images/s"
    lines = [
        f"job {each.job}  {each.model}  {each.done:,} of {each.of:,} inputs  {each.images:,.1f} images/s"
        for each in jobs(report, rows)
    ]
    lines += map(str, models)
    hidden = len(rows) - len(shown)
    foot = f"by {sort}, {only}{f' ({hidden} hidden)' if hidden else ''}{note}"
    parts: list[RenderableType] = [show.text((line(head), "bold")), *(show.text(line(text)) for text in lines)]
    return Group(*parts, _table(shown), show.text((line(foot), "dim")))


def _table(rows: Sequence[HostRow]) -> show.Table:
    in_racks = any(row.rack for row in rows)
    table = show.Table(collapse_padding=True)
    for name in (*["RACK"] * in_racks, "HOST", "STATE"):
        table.add_column(name, no_wrap=True)
    for name in ("LOAD", "MEM", "°C"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("TPU", "STATE"):
        table.add_column(name, no_wrap=True)
    for name in ("°C", "MHz", "USE", "IMG/S"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("JOB", no_wrap=True)
    for row in rows:
        place = [f"{row.rack or '-'}{f' {row.slot}' if row.slot else ''}"] * in_racks
        about: list[RenderableType] = [
            *place,
            row.name,
            show.text((line(row.state), STYLES[row.severity])),
            _number(row.load, 2),
            _percent(row.memory),
            _number(row.celsius, 0),
        ]
        for tpu in row.tpus or (None,):
            table.add_row(*about, *([""] * 7 if tpu is None else _cells(tpu)))
            about = [""] * len(about)
    return table


def _cells(tpu: TpuRow) -> list[RenderableType]:
    return [
        tpu.address or "-",
        show.text((line(tpu.state), STYLES[tpu.severity])),
        _number(tpu.celsius, 1),
        _number(tpu.megahertz, 0),
        _percent(tpu.use),
        _number(tpu.images, 1),
        tpu.job,
    ]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f}%"
