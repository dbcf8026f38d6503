"""Traffic of the endpoint in top: requests and errors a second and times of each model, from two measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clusteradm.cli.growth import Growth
from clusteradm.cli.health_forms.figures import BUCKET
from clusteradm.cli.health_forms.report import HealthReport
from clusteradm.node.spec.wire.serving import REQUEST_SECONDS

_REQUESTS, _SECONDS = "serving_requests_total", "serving_request_seconds" + BUCKET


@dataclass(frozen=True)
class ModelRow:
    """Requests for one model on all boards.

    `requests`, and `errors` of them, a second; `p50`, `p99`: seconds of those with an answer, interpolated as by
    histogram_quantile of Prometheus, no more than the last of REQUEST_SECONDS. None for what is not known.
    """

    model: str
    boards: int
    requests: float | None
    errors: float | None
    p50: float | None
    p99: float | None

    def __str__(self) -> str:
        if self.requests is None:
            rates = "requests/s after the next measurement"
        else:
            rates = f"{self.requests:,.1f} requests/s  {self.errors:,.1f} errors/s"
        times = f"  p50 {_time(self.p50)}  p99 {_time(self.p99)}" if self.p50 is not None else ""
        return f"endpoint  {self.model}  on {self.boards}  {rates}{times}"


def models(now: HealthReport, before: HealthReport | None) -> list[ModelRow]:
    """The models that are served."""
    growth = Growth(now, before)
    boards: dict[str, set[str]] = {}
    outcomes: dict[str, dict[str, float]] = {}
    times: dict[str, dict[str, float]] = {}
    for each in now.figures:
        if each.name not in (_REQUESTS, _SECONDS):
            continue
        model = each.labels["model"]
        boards.setdefault(model, set()).add(each.labels["host"])
        more = growth.of(each.name, each.labels)
        if more is not None:
            of, label = (outcomes, "outcome") if each.name == _REQUESTS else (times, "le")
            counts = of.setdefault(model, {})
            counts[each.labels[label]] = counts.get(each.labels[label], 0.0) + more
    return [
        ModelRow(
            model,
            len(hosts),
            *_rates(outcomes.get(model, {}), growth.seconds),
            *(_quantile(share, list(times.get(model, {}).values())) for share in (0.5, 0.99)),
        )
        for model, hosts in sorted(boards.items())
    ]


def _rates(outcomes: dict[str, float], seconds: float) -> tuple[float | None, float | None]:
    """Requests a second, and those of them that failed."""
    if not outcomes or seconds <= 0:
        return None, None
    whole = sum(outcomes.values())
    return whole / seconds, (whole - outcomes.get("ok", 0.0)) / seconds


def _quantile(share: float, counts: Sequence[float]) -> float | None:
    """The time that this share of the requests does not exceed. `counts`: at most each of REQUEST_SECONDS, and all."""
    if not counts or counts[-1] <= 0:
        return None
    wanted = share * counts[-1]
    low = below = 0.0
    for bound, count in zip(REQUEST_SECONDS, counts, strict=False):
        if count >= wanted:
            return low + (bound - low) * (wanted - below) / (count - below)
        low, below = bound, count
    return low


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"> {seconds:g} s" if seconds >= REQUEST_SECONDS[-1] else f"{1000 * seconds:,.1f} ms"
