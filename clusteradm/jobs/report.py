"""What a job measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from clusteradm.jobs.truth import Accuracy

# What adds up over the attempts of a rank.
_SUMS = ("images", "seconds", "busy", "decode", "wait")


@dataclass(frozen=True)
class Rank:
    """One worker rank. Seconds: busy in the TPU, decoding (in threads beside), waiting for decoded input."""

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


@dataclass(frozen=True)
class Report:
    """One complete job."""

    job: str
    model: Mapping[str, Any]  # name, version, sha256
    images: int
    errors: int
    seconds: float  # first dispatch to last result, of every attempt that got one
    startup_seconds: float  # all the rest of the job's time on the head
    attempts: int
    ranks: tuple[Rank, ...]
    accuracy: Accuracy | None = None

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds if self.seconds else 0.0

    @property
    def devices(self) -> tuple[str, ...]:
        """What the ranks' libraries call themselves."""
        return tuple(sorted({rank.device for rank in self.ranks if rank.device}))

    def to_json(self) -> dict[str, Any]:
        return {
            "job": self.job,
            "state": "complete",
            "model": dict(self.model),
            "images": self.images,
            "errors": self.errors,
            "seconds": round(self.seconds, 4),
            "startup_seconds": round(self.startup_seconds, 4),
            "images_per_second": round(self.images_per_second, 2),
            "attempts": self.attempts,
            "devices": list(self.devices),
            "ranks": [asdict(rank) for rank in self.ranks],
            "accuracy": self.accuracy.to_json() if self.accuracy else None,
        }


def build(job: str, status: Mapping[str, Any], accuracy: Accuracy | None) -> Report:
    """The report of a complete job, from its status.json. A TPU that worked in several attempts counts as one rank."""
    attempts: Sequence[Mapping[str, Any]] = status["attempts"]
    seconds = startup = 0.0
    begun = status["started"]
    worked: dict[tuple[str, str | None], dict[str, Any]] = {}
    for attempt in attempts:
        if attempt["first_dispatch"] is not None and attempt["last_result"] is not None:
            startup += attempt["first_dispatch"] - begun
            seconds += attempt["last_result"] - attempt["first_dispatch"]
            begun = attempt["last_result"]
        for rank in attempt["ranks"]:
            key = (rank["host"], rank["pci_address"])
            total = worked.setdefault(key, dict.fromkeys(_SUMS, 0))
            total.update({name: total[name] + rank.get(name, 0) for name in _SUMS})
            total.update({name: rank[name] for name in ("tpu", "version", "error") if rank.get(name) is not None})
    done = sum(rank["images"] for rank in worked.values())
    ranks = tuple(
        Rank(
            rank=number,
            host=host,
            tpu=rank.get("tpu"),
            pci_address=address,
            images=rank["images"],
            share=round(rank["images"] / done, 4) if done else 0.0,
            images_per_second=round(rank["images"] / rank["seconds"], 2) if rank["seconds"] else 0.0,
            busy_seconds=round(rank["busy"], 4),
            decode_seconds=round(rank["decode"], 4),
            wait_seconds=round(rank["wait"], 4),
            device=rank.get("version"),
            error=rank.get("error"),
        )
        for number, ((host, address), rank) in enumerate(worked.items(), 1)
    )
    model = {name: status["model"][name] for name in ("name", "version", "sha256")}
    return Report(job, model, status["images"], status["errors"], seconds, startup, len(attempts), ranks, accuracy)
