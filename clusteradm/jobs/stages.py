"""Stages of a job's pipelines: what each took, and which one holds the others up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from clusteradm.node.spec.wire.job import Attempt

# A pipeline whose stages are in step within this is as good as a split can make it.
_BALANCED = 0.85


@dataclass(frozen=True)
class StageReport:
    """One stage, over all pipelines and attempts. `ranks`: of the last attempt; `utilisation`: of the time from the
    first dispatch to the last result, of ranks that did not fail; `milliseconds`: in the model, by input."""

    stage: int
    ranks: int
    images: int
    busy_seconds: float
    wait_seconds: float
    utilisation: float
    milliseconds: float
    bottleneck: bool = False


@dataclass(frozen=True)
class Balance:
    """How even the stages are. `share`: what a pipeline gives of what it would if all took the same time."""

    bottleneck: int
    milliseconds: float
    share: float
    host: str  # one that ran the bottleneck

    @property
    def is_even(self) -> bool:
        return self.share >= _BALANCED

    @property
    def text(self) -> str:
        """The finding in words."""
        rate = 1000 / self.milliseconds if self.milliseconds else 0.0
        what = f"stage {self.bottleneck} is the bottleneck"
        most = f"{what}: {self.milliseconds:.2f} ms an input, so a pipeline gives at most"
        if self.is_even:
            return f"{most} {rate:,.0f} images/s; the others take about as long"
        return f"{most} {rate:,.0f} images/s, and evenly split {rate / self.share:,.0f}"


def build(attempts: Sequence[Attempt]) -> tuple[StageReport, ...]:
    """The stages of a job; none where each rank had the whole model."""
    worked = [one for one in attempts if one.first_dispatch is not None and one.last_result is not None]
    count = max((rank.stage + 1 for one in worked for rank in one.ranks if rank.pipeline is not None), default=0)
    found = []
    for number in range(count):
        busy = wait = there = spent = 0.0
        images = ranks = 0
        for one in worked:
            mine = [rank for rank in one.ranks if rank.stage == number]
            ranks = len(mine)
            busy += sum(rank.busy for rank in mine)
            wait += sum(rank.wait for rank in mine)
            # When one has failed, nobody has noted.
            whole = [rank for rank in mine if rank.state != "failed"]
            spent += sum(rank.busy for rank in whole)
            there += len(whole) * ((one.last_result or 0.0) - (one.first_dispatch or 0.0))
            # All stages of a pipeline have had what its last one has delivered.
            images += sum(rank.images for rank in one.ranks if rank.stage == count - 1)
        found.append(
            StageReport(
                number,
                ranks,
                images,
                round(busy, 4),
                round(wait, 4),
                round(min(1.0, spent / there), 4) if there else 0.0,
                round(1000 * busy / images, 4) if images else 0.0,
            )
        )
    slowest = max(found, key=lambda stage: stage.milliseconds, default=None)
    return tuple(StageReport(**{**asdict(one), "bottleneck": one is slowest and one.milliseconds > 0}) for one in found)


def balance(stages: Sequence[StageReport], attempts: Sequence[Attempt]) -> Balance | None:
    """How even the stages are; None where nothing was measured."""
    slowest = next((one for one in stages if one.bottleneck), None)
    if slowest is None or not slowest.milliseconds:
        return None
    mean = sum(one.milliseconds for one in stages) / len(stages)
    hosts = [rank.host for one in attempts for rank in one.ranks if rank.stage == slowest.stage]
    return Balance(slowest.stage, slowest.milliseconds, mean / slowest.milliseconds, hosts[-1] if hosts else "")


def to_json(stages: Sequence[StageReport], found: Balance | None) -> dict[str, Any] | None:
    """The pipelines as JSON values; None where there were none."""
    if not stages:
        return None
    return {
        "stages": [asdict(one) for one in stages],
        "bottleneck": found.bottleneck if found else None,
        "share": round(found.share, 4) if found else None,
    }
