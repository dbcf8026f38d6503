"""A head whose jobs end at once, at the speed that a test says: what a benchmark is measured on in tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from clusteradm.errors import UsageError
from clusteradm.jobs import LocalInputs, Plan, Update
from clusteradm.jobs.slots import Slots
from clusteradm.node.job.plan import place
from clusteradm.node.spec import pipelines
from clusteradm.node.spec.wire.job import Attempt, InputForm, ModelFile, RankProgress, Slot, Status
from clusteradm.node.spec.wire.pipeline import Pipeline, SegmentFile

MODEL = ModelFile("mobilenet_v2", 3, "/m", "ab" * 32, InputForm("uint8", (1, 224, 224, 3)), task="classifier")
# The same in two segments, of which the second takes twice as long in these tests.
CUT = replace(MODEL, pipeline=Pipeline((SegmentFile("/s0", "c", (), ()), SegmentFile("/s1", "d", (), ())), (), True))
A, B = "0000:01:00.0", "0000:02:00.0"
# Three hosts, of which one has two TPUs.
SLOTS = (Slot("head", (A,)), Slot("w1", (A, B)), Slot("w2", (A,)))


def plan(slots: tuple[Slot, ...] = SLOTS, model: ModelFile = MODEL) -> Plan:
    return Plan(model, Slots(slots, (), ()), None)


def status(ranks: list[RankProgress], images: int, seconds: float, errors: int = 0) -> Status:
    """The last status of a complete job that took so long, after 2 s of start-up."""
    attempt = Attempt(1, 1000.0, ("head",), 1002.0, 1002.0 + seconds, tuple(ranks), 0)
    return Status("complete", MODEL, 5, images, 1000.0, (attempt,), images, errors)


class FakeJobs:
    """Jobs. `busy`: seconds of an inference by host and TPU; `efficiency` of so many ranks; `interrupt`: at its job."""

    def __init__(self, efficiency: Callable[[int], float] = lambda ranks: 1.0) -> None:
        self.busy: dict[tuple[str, str], float] = {}
        self.efficiency = efficiency
        self.interrupt = 0
        self.running = 0  # times that a removal is refused
        self.submitted: list[Plan] = []
        self.inputs: list[int] = []
        self.calls: list[str] = []

    def submit(self, inputs: LocalInputs, plan: Plan, **_: Any) -> tuple[str, int]:
        self.submitted.append(plan)
        self.inputs.append(len(inputs.files))
        return f"J{len(self.submitted)}", len(inputs.files)

    def follow(self, job: str) -> Iterator[Update]:
        if len(self.submitted) == self.interrupt:
            raise KeyboardInterrupt
        plan, images = self.submitted[-1], self.inputs[-1]
        if plan.model.pipeline is not None:
            yield self._in_pipelines(plan, images)
            return
        places = place(plan.slots.usable, plan.most)
        paces = [self.busy.get((one.host, str(one.pci_address)), 0.0026) for one in places]
        rate = sum(1 / pace for pace in paces) * self.efficiency(len(places))
        seconds = images / rate
        ranks = []
        for one, pace in zip(places, paces, strict=True):
            done = max(1, round(images / pace / sum(1 / each for each in paces)))
            busy = done * pace
            ranks.append(
                RankProgress(
                    one.rank, one.host, one.pci_address, done, busy, busy, 0.1, idle=max(0.0, seconds - busy),
                    state="ready", version="v16 SIMULATED",
                )
            )  # fmt: skip
        yield Update(status(ranks, images, seconds))

    def _in_pipelines(self, plan: Plan, images: int) -> Update:
        """Each stage takes the time of its TPU, of which the last ones take twice that."""
        places = pipelines.place(plan.slots.usable, plan.stages, plan.most)
        count = len(places) // plan.stages
        each, slowest = images // count, 0.0052
        seconds = each * slowest / self.efficiency(count)
        ranks = []
        for one in places:
            last = one.stage == plan.stages - 1
            busy = each * (slowest if last else slowest / 2)
            done = each if last else 0
            ranks.append(
                RankProgress(
                    one.rank, one.host, one.pci_address, done, seconds, busy, 0.1, seconds - busy, idle=0.0,
                    state="ready", version="v16 SIMULATED", pipeline=one.pipeline, stage=one.stage,
                )
            )  # fmt: skip
        return Update(status(ranks, images, seconds))

    def check(self, job: str, status: Status) -> None:
        self.calls.append(f"check {job}")

    def cancel(self, job: str) -> None:
        self.calls.append(f"cancel {job}")

    def remove(self, job: str) -> None:
        if self.running:
            self.running -= 1
            raise UsageError(f"job {job} is running")
        self.calls.append(f"remove {job}")
