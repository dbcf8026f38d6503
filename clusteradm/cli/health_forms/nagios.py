"""Health as output of a monitoring plugin: one line with performance data, and a plugin's exit status."""

from __future__ import annotations

import re

from clusteradm.cli.escape import sentence
from clusteradm.cli.health_forms.report import HealthReport, groups
from clusteradm.health import Severity

# Exit statuses 0 to 3 and their names in the plugin guidelines.
STATUS = {Severity.OK: (0, "OK"), Severity.WARNING: (1, "WARNING"), Severity.ERROR: (2, "CRITICAL")}
UNKNOWN = 3
# Limit of groups shown: some servers cut long output in the middle of the performance data.
_MAX_GROUPS = 5


def nagios(report: HealthReport) -> tuple[int, str]:
    """Exit status and line. Performance data: counts, and every TPU's temperature with its first two trip points."""
    code, word = STATUS[report.worst]
    found = groups(report)
    shown = [f"{group.subjects} {group.state} ({group.check})" for group in found[:_MAX_GROUPS]]
    if len(found) > len(shown):
        shown.append(f"and {len(found) - len(shown)} more")
    hosts, tpus = len(report.hosts), report.count()
    data = [
        f"hosts={hosts - len(report.unanswered)};;;0;{hosts}",
        f"tpus={tpus.good};;;0;{tpus.of}",
        *(
            f"{severity.name.lower()}s={sum(finding.severity is severity for finding in report.findings)};;;0"
            for severity in (Severity.WARNING, Severity.ERROR)
        ),
        *_temperatures(report),
    ]
    if report.seconds:
        data.append(f"time={report.seconds:.3f}s;;;0")
    return code, f"CLUSTERADM {word} - {_line('; '.join([report.summary, *shown]))} | {' '.join(data)}"


def unknown(reason: str) -> tuple[int, str]:
    """Exit status and line if there is no survey: the inventory is bad, or a file cannot be read."""
    return UNKNOWN, f"CLUSTERADM UNKNOWN - {_line(reason)}"


def _temperatures(report: HealthReport) -> list[str]:
    trips = {
        (figure.labels["host"], figure.labels["tpu"], figure.labels["point"]): figure.value
        for figure in report.figures
        if figure.name == "tpu_trip_point_celsius"
    }
    data = []
    for figure in report.figures:
        if figure.name != "tpu_temperature_celsius":
            continue
        host, tpu = figure.labels["host"], figure.labels["tpu"]
        limits = [trips.get((host, tpu, point)) for point in ("0", "1")]
        data.append(
            f"'{_label(host)} {_label(tpu)}'={figure.value:g};"
            + ";".join("" if limit is None else f"{limit:g}" for limit in limits)
        )
    return data


def _label(text: str) -> str:
    """Text as a label, which may hold no quote, equals sign, pipe or space."""
    return re.sub(r"['=|\s]", "_", text)


def _line(text: str) -> str:
    """One line without the pipe that starts the performance data."""
    return sentence(text).replace("|", "/")
