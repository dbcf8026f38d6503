"""Pace of a running job: images per second of each rank and host in the last seconds, and the time that is left."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from clusteradm.jobs import use
from clusteradm.node.spec.wire.job import Progress, RankProgress
from clusteradm.node.spec.wire.job_names import STARTING

WINDOW = 5.0  # seconds


@dataclass(frozen=True)
class RankPace:
    """One rank now. `rate`: images per second, None for what is not known yet; of a stage, those of its pipeline.

    `stage`: the pipeline and the stage that it is, each from 1; "" for a rank with the whole model.
    """

    host: str
    pci_address: str | None
    queue: int
    state: str
    error: str | None
    rate: float | None = None
    use: use.Use | None = None
    stage: str = ""


@dataclass(frozen=True)
class Pace:
    """A job now. `rates`: images per second by host; `queued`: inputs that no rank has yet; `left`: seconds.

    None, and no rates, where two looks at the same attempt are not known yet.
    """

    done: int
    total: int
    ranks: tuple[RankPace, ...]
    errors: int = 0
    rates: Mapping[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float | None:
        """Images per second of all."""
        return sum(self.rates.values()) if self.rates else None

    @property
    def queued(self) -> int:
        return max(0, self.total - self.done - sum(rank.queue for rank in self.ranks))

    @property
    def left(self) -> float | None:
        return (self.total - self.done) / self.rate if self.rate else None


class Watcher:
    """Makes paces of the progress of a job, of the last WINDOW seconds."""

    def __init__(self) -> None:
        self._looks: deque[Progress] = deque()

    def update(self, now: Progress) -> Pace:
        """The pace at this progress, which is later than those before."""
        looks = self._looks
        if looks and not _follows(looks[-1], now):
            looks.clear()
        # A job of an earlier attempt counts from 0; before the first dispatch there is nothing to measure.
        if now.phase != STARTING and not (looks and now.now <= looks[-1].now):
            looks.append(now)
        while len(looks) > 2 and looks[1].now <= now.now - WINDOW:
            looks.popleft()
        before = looks[0] if len(looks) > 1 else None
        seconds = now.now - before.now if before else 0.0
        earlier = {rank.rank: rank for rank in before.ranks} if before else {}
        ranks = tuple(_rank(rank, earlier.get(rank.rank), seconds) for rank in now.ranks)
        rates: dict[str, float] = {}
        # Of a pipeline the host of the last stage delivers.
        for each, rank in zip(now.ranks, ranks, strict=True):
            if rank.rate is not None and seconds > 0:
                delivered = (each.images - earlier[each.rank].images) / seconds
                rates[rank.host] = rates.get(rank.host, 0.0) + delivered
        passed: dict[int | None, float] = {}
        for each, rank in zip(now.ranks, ranks, strict=True):
            passed[each.pipeline] = passed.get(each.pipeline, 0.0) + (rank.rate or 0.0)
        ranks = tuple(
            rank if each.pipeline is None or rank.rate is None else replace(rank, rate=passed[each.pipeline])
            for each, rank in zip(now.ranks, ranks, strict=True)
        )
        return Pace(now.done, now.total, ranks, now.errors, rates)


def _follows(before: Progress, now: Progress) -> bool:
    """Whether it is of the same attempt, and nothing was counted back."""
    counted = {rank.rank: rank.images for rank in before.ranks}
    same = before.attempt == now.attempt and counted.keys() == {rank.rank for rank in now.ranks}
    return same and all(rank.images >= counted[rank.rank] for rank in now.ranks)


def _rank(now: RankProgress, before: RankProgress | None, seconds: float) -> RankPace:
    rate = (now.images - before.images) / seconds if before is not None and seconds > 0 else None
    used = use.of(seconds, now, before) if before is not None else None
    stage = "" if now.pipeline is None else f"{now.pipeline + 1}.{now.stage + 1}"
    return RankPace(now.host, now.pci_address, now.queue, now.state, now.error, rate, used, stage)
