"""Report of a complete job: its figures, rank by rank."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from clusteradm.jobs import stages, use
from clusteradm.jobs.stages import Balance, StageReport
from clusteradm.jobs.truth import Accuracy
from clusteradm.jobs.use import Use
from clusteradm.node.spec.wire.job import Attempt, ModelFile, RankProgress, Status
from clusteradm.node.spec.wire.timeline import LONGEST_PAUSE


@dataclass(frozen=True)
class Rank:
    """One worker rank. Seconds: busy in the TPU, decoding (in threads beside), waiting for decoded input; `worked`: all
    of its working time. `use`: of the time in which its attempts gave out chunks."""

    rank: int
    host: str
    tpu: str | None
    pci_address: str | None
    images: int
    share: float
    images_per_second: float  # by its own working time alone
    busy_seconds: float
    decode_seconds: float
    wait_seconds: float
    device: str | None
    error: str | None
    worked_seconds: float = 0.0
    use: Use | None = None
    pipeline: int | None = None
    stage: int | None = None


@dataclass(frozen=True)
class JobReport:
    """One complete job. `stages`: of pipelines, and `balance`: how even these are."""

    job: str
    model: ModelFile
    images: int
    errors: int
    seconds: float  # first dispatch to last result, of every attempt that got one
    startup_seconds: float  # the rest, from the first attempt on; of a pause between two, a minute at most
    attempts: int
    ranks: tuple[Rank, ...]
    accuracy: Accuracy | None = None
    stages: tuple[StageReport, ...] = ()
    balance: Balance | None = None

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds if self.seconds else 0.0

    @property
    def speed_up(self) -> float:
        """How many ranks' working time went by at once, on average: at most their number."""
        return sum(rank.worked_seconds for rank in self.ranks) / self.seconds if self.seconds else 0.0

    @property
    def devices(self) -> tuple[str, ...]:
        """The versions of the ranks' Edge TPU libraries."""
        return tuple(sorted({rank.device for rank in self.ranks if rank.device}))

    def to_json(self) -> dict[str, Any]:
        return {
            "job": self.job,
            "state": "complete",
            "model": {"name": self.model.name, "version": self.model.version, "sha256": self.model.sha256},
            "images": self.images,
            "errors": self.errors,
            "seconds": round(self.seconds, 4),
            "startup_seconds": round(self.startup_seconds, 4),
            "images_per_second": round(self.images_per_second, 2),
            "speed_up": round(self.speed_up, 3),
            "attempts": self.attempts,
            "devices": list(self.devices),
            "ranks": [asdict(rank) for rank in self.ranks],
            "pipeline": stages.to_json(self.stages, self.balance),
            "accuracy": self.accuracy.to_json() if self.accuracy else None,
        }


def build(job: str, status: Status, accuracy: Accuracy | None) -> JobReport:
    """The report of a job that has ended. A TPU that worked in several attempts counts as one rank."""
    if status.model is None or status.started is None:
        raise ValueError(f"job {job} has not begun")
    seconds = startup = 0.0
    begun = status.attempts[0].started if status.attempts else status.started  # not in the queue
    worked: dict[tuple[str, str | None], RankProgress] = {}
    spans: dict[tuple[str, str | None], float] = {}
    for attempt in status.attempts:
        startup += min(max(0.0, attempt.started - begun), LONGEST_PAUSE)
        begun = max(begun, attempt.started)
        if attempt.first_dispatch is not None and attempt.last_result is not None:
            startup += attempt.first_dispatch - begun
            seconds += attempt.last_result - attempt.first_dispatch
            begun = attempt.last_result
        for rank in _with_images(attempt):
            key = (rank.host, rank.pci_address)
            spans[key] = spans.get(key, 0.0) + _span(attempt)
            worked[key] = _sum(worked[key], rank) if key in worked else rank
    done = sum(rank.images for attempt in status.attempts for rank in attempt.ranks)
    ranks = tuple(
        Rank(
            rank=number,
            host=rank.host,
            tpu=rank.tpu,
            pci_address=rank.pci_address,
            images=rank.images,
            share=round(rank.images / done, 4) if done else 0.0,
            images_per_second=round(rank.images / rank.seconds, 2) if rank.seconds else 0.0,
            busy_seconds=round(rank.busy, 4),
            decode_seconds=round(rank.decode, 4),
            wait_seconds=round(rank.wait, 4),
            device=rank.version,
            error=rank.error,
            worked_seconds=round(rank.seconds, 4),
            use=use.of(spans[key], rank),
            pipeline=rank.pipeline,
            stage=None if rank.pipeline is None else rank.stage,
        )
        for number, (key, rank) in enumerate(worked.items(), 1)
    )
    cut = stages.build(status.attempts)
    return JobReport(
        job,
        status.model,
        status.images,
        status.errors,
        seconds,
        startup,
        len(status.attempts),
        ranks,
        accuracy,
        cut,
        stages.balance(cut, status.attempts),
    )


def _span(attempt: Attempt) -> float:
    """Seconds in which an attempt gave out chunks."""
    if attempt.first_dispatch is None or attempt.last_result is None:
        return 0.0
    return max(0.0, attempt.last_result - attempt.first_dispatch)


def _with_images(attempt: Attempt) -> list[RankProgress]:
    """The ranks of an attempt. The images of a pipeline are counted where its last stage delivers them, and all of its
    stages have had them."""
    totals: dict[int, int] = {}
    for rank in attempt.ranks:
        if rank.pipeline is not None:
            totals[rank.pipeline] = totals.get(rank.pipeline, 0) + rank.images
    return [rank if rank.pipeline is None else replace(rank, images=totals[rank.pipeline]) for rank in attempt.ranks]


def _sum(earlier: RankProgress, later: RankProgress) -> RankProgress:
    """The same TPU's rank in two attempts as one."""
    return replace(
        later,
        images=earlier.images + later.images,
        seconds=earlier.seconds + later.seconds,
        busy=earlier.busy + later.busy,
        decode=earlier.decode + later.decode,
        wait=earlier.wait + later.wait,
        read=earlier.read + later.read,
        idle=earlier.idle + later.idle,
        tpu=later.tpu or earlier.tpu,
        version=later.version or earlier.version,
        error=later.error or earlier.error,
    )
