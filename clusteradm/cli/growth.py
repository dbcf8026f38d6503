"""Growth: what counters have grown by between two measurements, and how often."""

from __future__ import annotations

from collections.abc import Mapping

from clusteradm.cli.health_forms.report import HealthReport


class Growth:
    """From `before` to `now`; nothing is known of it without a measurement before. `seconds`: between the two."""

    def __init__(self, now: HealthReport, before: HealthReport | None) -> None:
        self.seconds = now.taken - before.taken if before is not None else 0.0
        self._past, self._present = (
            {} if report is None else {(each.name, *each.labels.values()): each.value for each in report.figures}
            for report in (before, now)
        )

    def of(self, name: str, labels: Mapping[str, str]) -> float | None:
        """By how much a counter has grown; None for one that is new, or that was begun anew."""
        key = (name, *labels.values())
        if key not in self._past or key not in self._present or self._present[key] < self._past[key]:
            return None
        return self._present[key] - self._past[key]
