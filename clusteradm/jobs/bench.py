"""Benchmark of a cluster: the same inputs on one TPU, on two, on all of them; and each TPU alone on its host. Or on one
pipeline of TPUs, on two, on all of them; and on one TPU with the whole model.

Every run is a job as `infer` starts it. What a job takes to start is not part of its speed, and told apart.
"""

from __future__ import annotations

import contextlib
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from clusteradm.errors import HostFailed, UsageError
from clusteradm.jobs.inputs import HeadInputs, LocalInputs
from clusteradm.jobs.job import Jobs
from clusteradm.jobs.passing import Follow, Sent, passing
from clusteradm.jobs.plan import Plan
from clusteradm.jobs.report import JobReport, build
from clusteradm.jobs.use import Use
from clusteradm.models import zoo
from clusteradm.models.zoo import Latency
from clusteradm.node.spec.wire.job import ModelFile, Slot

TOO_SLOW = 1.5  # times what is published, or what the other TPUs take
UNSTEADY = 0.1  # of the median, between the slowest and the fastest run

Place = tuple[str, str]  # host and PCI address


@dataclass(frozen=True)
class Step:
    """The runs with so many TPUs, in pipelines of so many `stages`, or each by itself. `base`: images per second of one
    of these, the median of its runs; `whole`: of one TPU with the whole model, None where that is not measured."""

    tpus: int
    runs: tuple[JobReport, ...]
    base: float
    stages: int = 1
    whole: float | None = None

    @property
    def count(self) -> int:
        """The pipelines, or TPUs where each is by itself."""
        return self.tpus // self.stages

    @property
    def unit(self) -> str:
        """What there are 1, 2, ... of."""
        return unit(self.stages)

    @property
    def rate(self) -> float:
        """Images per second: the median."""
        return _rate(self.runs)

    @property
    def seconds(self) -> float:
        return statistics.median(run.seconds for run in self.runs)

    @property
    def startup(self) -> float:
        return statistics.median(run.startup_seconds for run in self.runs)

    @property
    def speed_up(self) -> float:
        """How many times the images per second of one of these."""
        return self.rate / self.base if self.base else 0.0

    @property
    def efficiency(self) -> float:
        return self.speed_up / self.count

    @property
    def by_whole(self) -> float | None:
        """How many times the images per second of one TPU with the whole model."""
        return self.rate / self.whole if self.whole else None

    @property
    def spread(self) -> float:
        """From the slowest to the fastest run, as a share of the median."""
        rates = [run.images_per_second for run in self.runs]
        return (max(rates) - min(rates)) / self.rate if self.rate else 0.0

    @property
    def use(self) -> Use | None:
        """What the ranks did with their time, on average; None where it is not known."""
        uses = [rank.use for run in self.runs for rank in run.ranks if rank.use is not None]
        if not uses:
            return None
        return Use(
            statistics.fmean(use.tpu for use in uses),
            statistics.fmean(use.input for use in uses),
            statistics.fmean(use.network for use in uses),
        )


@dataclass(frozen=True)
class Alone:
    """One TPU, while no other one of its host was at work.

    `milliseconds`: of an inference with its input set and its outputs copied, the median of the runs; `published`: of
    the model, on such a machine; `others`: the median of all TPUs.
    """

    place: Place
    milliseconds: float
    published: float | None
    others: float

    @property
    def ratio(self) -> float | None:
        """How many times as long as published."""
        return self.milliseconds / self.published if self.published else None

    @property
    def slow(self) -> str:
        """In words, why it is too slow; empty where it is not."""
        if self.ratio is not None and self.ratio > TOO_SLOW:
            return f"{self.ratio:.2f} times the published {self.published:g} ms"
        if self.others and self.milliseconds > TOO_SLOW * self.others:
            return f"{self.milliseconds / self.others:.2f} times the median of all, {self.others:.2f} ms"
        return ""


@dataclass
class Measured:
    """What there is so far. `stages`: of a pipeline; `whole`: the runs of one TPU with the whole model; `devices`: the
    libraries' versions."""

    stages: int = 1
    whole: list[JobReport] = field(default_factory=list)
    steps: dict[int, list[JobReport]] = field(default_factory=dict)
    alone: dict[Place, list[float]] = field(default_factory=dict)
    devices: set[str] = field(default_factory=set)

    def scaling(self) -> list[Step]:
        """A step for each number of TPUs; none before one TPU, or one pipeline, was measured."""
        first = self.steps.get(self.stages)
        if not first:
            return []
        base, whole = _rate(first), _rate(self.whole) if self.whole else None
        return [Step(tpus, tuple(runs), base, self.stages, whole) for tpus, runs in sorted(self.steps.items()) if runs]

    def tpus(self, published: Mapping[str, float | None]) -> list[Alone]:
        """Each TPU. `published`: milliseconds, by host."""
        medians = {place: statistics.median(times) for place, times in self.alone.items()}
        others = statistics.median(medians.values()) if medians else 0.0
        return [Alone(place, found, published.get(place[0]), others) for place, found in sorted(medians.items())]


class Bench:
    """Runs the jobs of a benchmark; each is removed at its end, whatever that is."""

    def __init__(
        self, jobs: Jobs, plan: Plan, follow: Follow, sent: Callable[[], contextlib.AbstractContextManager[Sent]]
    ) -> None:
        """`sent`: shows how much of the inputs has been sent."""
        self._jobs, self._plan, self._follow, self._sent = jobs, plan, follow, sent
        self.measured = Measured(plan.stages)

    @property
    def rounds(self) -> list[tuple[Slot, ...]]:
        """The TPUs, in rounds of one for each host."""
        most = max((len(slot.tpus) for slot in self._plan.slots.usable), default=0)
        return [
            tuple(Slot(slot.host, (slot.tpus[number],)) for slot in self._plan.slots.usable if len(slot.tpus) > number)
            for number in range(most)
        ]

    def pace(self, inputs: LocalInputs | HeadInputs) -> float:
        """Images per second of one TPU, or one pipeline, roughly: by few inputs on the first round."""
        if self._plan.stages > 1:
            return self._run(inputs, self._plan.slots.usable, self._plan.stages).images_per_second
        report = self._run(inputs, self.rounds[0], None)
        return statistics.median(rank.images_per_second for rank in report.ranks if rank.images) or 1.0

    def round(self, inputs: LocalInputs | HeadInputs, slots: tuple[Slot, ...]) -> JobReport:
        """Measure TPUs that are alone on their hosts."""
        report = self._run(inputs, slots, None)
        for rank in report.ranks:
            if rank.images and rank.pci_address is not None:
                times = self.measured.alone.setdefault((rank.host, rank.pci_address), [])
                times.append(1000 * rank.busy_seconds / rank.images)
        return report

    def step(self, inputs: LocalInputs | HeadInputs, tpus: int) -> JobReport:
        """Measure so many TPUs together."""
        report = self._run(inputs, self._plan.slots.usable, tpus)
        self.measured.steps.setdefault(tpus, []).append(report)
        return report

    @property
    def has_whole(self) -> bool:
        """Whether one TPU can have the whole model, of which the pipelines have the segments."""
        pipeline = self._plan.model.pipeline
        return pipeline is not None and pipeline.compiled

    def whole(self, inputs: LocalInputs | HeadInputs) -> JobReport:
        """Measure one TPU with the whole model."""
        report = self._run(inputs, self._plan.slots.usable, 1, replace(self._plan.model, pipeline=None))
        self.measured.whole.append(report)
        return report

    def _run(
        self,
        inputs: LocalInputs | HeadInputs,
        slots: tuple[Slot, ...],
        most: int | None,
        model: ModelFile | None = None,
    ) -> JobReport:
        usable = replace(self._plan.slots, usable=slots)
        plan = replace(self._plan, slots=usable, most=most, model=model or self._plan.model)
        with passing(self._jobs, inputs, plan, self._follow, self._sent) as (job, status):
            report = build(job, status, None)
        self.measured.devices.update(report.devices)
        if not report.seconds or report.errors == report.images:
            raise HostFailed(
                "no input of the benchmark has a result",
                next_step=f"try them with: clusteradm infer --model {plan.model.name}:{plan.model.version} INPUTS",
            )
        return report


def unit(stages: int) -> str:
    """What a benchmark measures 1, 2, ... of."""
    return "TPU" if stages == 1 else "pipeline"


def _rate(runs: Sequence[JobReport]) -> float:
    """Images per second: the median."""
    return statistics.median(run.images_per_second for run in runs)


def counts(wanted: Sequence[int], there: int, stages: int = 1) -> list[int]:
    """The numbers of TPUs to measure, in order: 1 always, 2, 4, 8, ... and all where none are `wanted`; or as many
    pipelines of so many `stages`.

    Raises UsageError for more than there are, and for what is no multiple of the stages.
    """
    odd = [number for number in wanted if number % stages]
    if odd:
        raise UsageError(f"--tpus {odd[0]}: pipelines of {stages} TPUs take a multiple of {stages}")
    if wanted and max(wanted) > there:
        raise UsageError(
            f"--tpus {max(wanted)}: only {there} are healthy and free", next_step="clusteradm health says why"
        )
    if wanted:
        return sorted({stages, *wanted})
    most = there // stages
    powers = [1 << power for power in range(most.bit_length()) if 1 << power <= most]
    return sorted(stages * count for count in {*powers, most})


def published(model: ModelFile) -> Latency | None:
    """What is published of a model: by its file where the catalogue has its sum, else by the name it is deployed as."""
    for known in zoo.models():
        if model.sha256 in (known.compiled.sha256, known.cpu.sha256):
            return zoo.latency(known.name, model.input.shape)
    # A deployed model's name has no dot; without the width of its layers it is the usual one.
    dotted = re.sub(r"_(\d)_(\d+)(?=_|$)", r"_\1.\2", model.name.replace("-", "_"))
    names = (model.name, dotted, re.sub(r"^(mobilenet_v[12])$", r"\1_1.0", dotted))
    return next(filter(None, (zoo.latency(name, model.input.shape) for name in names)), None)
