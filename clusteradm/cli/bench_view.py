"""What `bench` shows: a table and a plot of the speed-up, the TPUs one by one, and what the figures may suffer from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import RenderableType

from clusteradm.cli import show
from clusteradm.cli.conditions import Conditions
from clusteradm.cli.escape import line
from clusteradm.cli.show import counted
from clusteradm.inventory.ranges import fold
from clusteradm.jobs import JobReport, stages
from clusteradm.jobs.bench import TOO_SLOW, UNSTEADY, Alone, Step
from clusteradm.jobs.use import TPU
from clusteradm.models.zoo import Latency
from clusteradm.node.spec.wire.job import ModelFile

SIMULATED = "SIMULATED"
WHOLE = "by whole: against one TPU with the whole model"
NOT_HARDWARE = "The Edge TPUs are simulated: no figure here is one of hardware."
_WELL = 0.9  # efficiency below which it is said what the TPUs wait for
_SHORT = 1.0  # seconds
_BAR = 40  # columns
_EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True)
class Outcome:
    """All that a benchmark has found. `images`: inputs of a run, `bytes` of them; `made`: whether they were made up;
    `cpu_operations`, `streamed_bytes`: of the model."""

    cluster: str
    model: ModelFile
    images: int
    made: bool
    bytes: int | None
    runs: int
    steps: Sequence[Step]
    tpus: Sequence[Alone]
    latency: Latency | None
    devices: tuple[str, ...]
    before: Conditions
    after: Conditions
    cpu_operations: int = 0
    streamed_bytes: int = 0

    @property
    def one(self) -> JobReport:
        """The first run with one TPU, or one pipeline."""
        return self.steps[0].runs[0]

    @property
    def unit(self) -> str:
        """What there are 1, 2, ... of."""
        return self.steps[0].unit

    @property
    def whole(self) -> float | None:
        """Images per second of one TPU with the whole model; None where these are no pipelines, or it has none."""
        return self.steps[0].whole

    @property
    def simulated(self) -> bool:
        return any(SIMULATED in device for device in self.devices)

    @property
    def inputs(self) -> str:
        """The inputs, in words."""
        size = f", {self.bytes / (1 << 20):,.1f} MiB" if self.bytes else ""
        return f"{counted(self.images, 'input')}{size}" + (", made for the model" if self.made else "")


def notes(outcome: Outcome) -> Iterator[str]:
    """What the figures may suffer from, and what to look at."""
    loaded = dict(outcome.before.loaded)
    if loaded:
        were = "was" if len(loaded) == 1 else "were"
        most = f"{'' if len(loaded) == 1 else 'up to '}{max(loaded.values()):.1f} processes for each processor"
        yield f"{', '.join(fold(loaded))} {were} loaded before the first run ({most}): see clusteradm top"
    measured = {alone.place for alone in outcome.tpus}
    for place, finding in outcome.after.ill:
        if place in measured:
            yield f"{' '.join(place)} is {finding.state} after the runs: {finding.cause}; {finding.remedy}"
    for step in outcome.steps:
        if step.spread > UNSTEADY:
            what = f"the runs with {counted(step.count, outcome.unit)} differ by {100 * step.spread:.0f} %"
            yield f"{what}: something else uses the hosts or the network, or TPUs became hot"
        if step.seconds < _SHORT:
            what = f"a run with {counted(step.count, outcome.unit)} took {step.seconds:.2f} s"
            yield f"{what}, in which the begin and the end of a job count: give more inputs"
    for alone in outcome.tpus:
        if alone.slow:
            yield f"{' '.join(alone.place)} takes {alone.milliseconds:.2f} ms, {alone.slow}: {_look_at(outcome, alone)}"
    last = outcome.steps[-1]
    if last.count > 1 and last.efficiency < _WELL and last.use is not None and last.use.waits_for != TPU:
        name = last.use.waits_for
        share = f"{100 * last.use.shares()[name]:.0f} %"
        many = counted(last.count, outcome.unit)
        yield f"with {many} they waited for the {name} {share} of the time: {_REMEDIES[name]}"


_REMEDIES = {
    "input": "the hosts' processors decode too slowly; scale pictures down to the model's input, or use arrays",
    "network": "the shared file system or the head's line is too slow; smaller inputs, or a faster switch",
}


def _look_at(outcome: Outcome, alone: Alone) -> str:
    """What may make a TPU slow, the likeliest first."""
    found = []
    host, _ = alone.place
    finding = outcome.after.findings.get(alone.place)
    if finding is not None and not finding.ok:
        found.append(f"it is {finding.state}: {finding.cause}")
    load = outcome.before.loads.get(host, 0.0)
    if any(host == name for name, _ in outcome.before.loaded):
        found.append(f"its host's load ({load:.1f} for each processor)")
    if outcome.cpu_operations:
        found.append(f"{counted(outcome.cpu_operations, 'operation')} of the model run on the processor")
    if outcome.streamed_bytes:
        found.append(f"{outcome.streamed_bytes / (1 << 20):.1f} MiB of the model are sent for every inference")
    return "; ".join([*found, f"its heat, its clock and its link: clusteradm health --limit {host} -v"])


def print_outcome(outcome: Outcome) -> None:
    """Everything, on standard output."""
    show.stdout.print(f"{line(outcome.model.name)} version {outcome.model.version}, {outcome.inputs}")
    show.stdout.print()
    show.stdout.print(table(outcome.steps))
    if outcome.whole is not None:
        show.stdout.print(f"{WHOLE}: {outcome.whole:,.1f} images/s")
    show.stdout.print()
    for row in plot(outcome.steps):
        show.stdout.print(row)
    show.stdout.print()
    if outcome.tpus:
        show.stdout.print(tpus(outcome))
    if outcome.latency is not None:
        show.stdout.print(f"published: {line(outcome.latency.model)}, {outcome.latency.source}; of the model alone")
    if outcome.simulated:
        show.stdout.print(show.text((NOT_HARDWARE, "bold")))
    for device in outcome.devices:
        show.stdout.print(f"device: {line(device)}")
    for note in notes(outcome):
        show.message(f"warning: {line(note)}")


def table(steps: Sequence[Step]) -> show.Table:
    """A row for each number of TPUs, or pipelines."""
    found = show.Table()
    cut, whole = steps[0].stages > 1, steps[0].whole is not None
    first = ("pipelines", "TPUs") if cut else ("TPUs",)
    by_whole = ("by whole",) if whole else ()
    for name in (*first, "images/s", "speed-up", "efficiency", *by_whole, "seconds", "start-up", "TPUs at work"):
        found.add_column(name, justify="right", no_wrap=True)
    for step in steps:
        found.add_row(
            *([f"{step.count:,}"] if cut else []),
            f"{step.tpus:,}",
            f"{step.rate:,.1f}",
            f"{step.speed_up:.2f}",
            f"{100 * step.efficiency:.0f} %",
            *([_number(step.by_whole, ".2f")] if whole else []),
            f"{step.seconds:.2f}",
            f"{step.startup:.2f}",
            f"{100 * step.use.tpu:.0f} %" if step.use else "-",
        )
    return found


def plot(steps: Sequence[Step]) -> Iterator[RenderableType]:
    """Bars of the speed-up, each with a mark where as many times the speed would be as TPUs, or pipelines."""
    yield show.text(("speed-up", "bold"), (f"{'':{_BAR - 6}}┊ as many times as {steps[0].unit}s", "dim"))
    most = max(max(step.count, step.speed_up) for step in steps)
    width = max(len(f"{step.count:,}") for step in steps)
    for step in steps:
        bar = _bar(_BAR * step.speed_up / most)
        ideal = round(_BAR * step.count / most)
        rest = "".join("┊" if at == ideal else " " for at in range(len(bar), _BAR + 1))
        yield show.text(f"{step.count:{width},}  ", (bar, "green"), (rest, "dim"), f" {step.speed_up:.2f}")


def _bar(length: float) -> str:
    """A bar of so many columns, to an eighth of one."""
    eighths = round(8 * length)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def tpus(outcome: Outcome) -> show.Table:
    """A row for each TPU, alone on its host."""
    found = show.Table()
    for name in ("host", "TPU"):
        found.add_column(name, no_wrap=True)
    for name in ("ms", *(["published", "ratio"] if outcome.latency else []), "°C before", "after"):
        found.add_column(name, justify="right", no_wrap=True)
    for alone in outcome.tpus:
        host, address = alone.place
        style = "yellow" if alone.slow else ""
        known = [_number(alone.published, "g"), _number(alone.ratio, ".2f")] if outcome.latency else []
        warm = [_number(each.celsius.get(alone.place), ".0f") for each in (outcome.before, outcome.after)]
        found.add_row(host, address, show.text((f"{alone.milliseconds:.2f}", style)), *known, *warm)
    return found


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def document(outcome: Outcome) -> dict[str, Any]:
    """All of it as JSON."""
    return {
        "cluster": outcome.cluster,
        "model": {key: getattr(outcome.model, key) for key in ("name", "version", "sha256")},
        "inputs": {"images": outcome.images, "bytes": outcome.bytes, "made": outcome.made},
        "simulated": outcome.simulated,
        "devices": list(outcome.devices),
        "published": asdict(outcome.latency) if outcome.latency else None,
        "flagged_above": TOO_SLOW,
        "whole_images_per_second": None if outcome.whole is None else round(outcome.whole, 2),
        "pipeline": stages.to_json(outcome.one.stages, outcome.one.balance),
        "steps": [
            {
                "tpus": step.tpus,
                "pipelines": None if step.stages == 1 else step.count,
                "images_per_second": round(step.rate, 2),
                "speed_up": round(step.speed_up, 4),
                "efficiency": round(step.efficiency, 4),
                "by_whole": None if step.by_whole is None else round(step.by_whole, 4),
                "seconds": round(step.seconds, 4),
                "startup_seconds": round(step.startup, 4),
                "use": {name.lower(): round(share, 4) for name, share in step.use.shares().items()}
                if step.use
                else None,
                "runs": [
                    {
                        "images_per_second": round(run.images_per_second, 2),
                        "seconds": round(run.seconds, 4),
                        "startup_seconds": round(run.startup_seconds, 4),
                        "errors": run.errors,
                        "ranks": [[rank.host, rank.pci_address] for rank in run.ranks],
                    }
                    for run in step.runs
                ],
            }
            for step in outcome.steps
        ],
        "tpus": [
            {
                "host": alone.place[0],
                "pci_address": alone.place[1],
                "milliseconds": round(alone.milliseconds, 4),
                "published": alone.published,
                "ratio": None if alone.ratio is None else round(alone.ratio, 4),
                "slow": alone.slow or None,
                "celsius": [each.celsius.get(alone.place) for each in (outcome.before, outcome.after)],
            }
            for alone in outcome.tpus
        ],
        "notes": list(notes(outcome)),
    }
