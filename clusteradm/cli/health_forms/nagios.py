"""Health as a monitoring plugin says it: one line with performance data, and an exit status of its own."""

from __future__ import annotations

import re

from clusteradm.cli.health_forms.report import TPU, Report, troubles
from clusteradm.cli.show import line
from clusteradm.health import Severity

# What the plugin guidelines name the exit statuses 0 to 3.
STATUS = {Severity.OK: (0, "OK"), Severity.WARNING: (1, "WARNING"), Severity.ERROR: (2, "CRITICAL")}
UNKNOWN = 3
# A pager shows no more, and some servers cut long output in the middle of the performance data.
_MOST_TROUBLES = 5


def nagios(report: Report) -> tuple[int, str]:
    """Exit status and line. Performance data: counts, and the temperature of every TPU against its trip points."""
    code, word = STATUS[report.worst]
    found = troubles(report)
    told = [f"{trouble.subjects} {trouble.state} ({trouble.check})" for trouble in found[:_MOST_TROUBLES]]
    if len(found) > len(told):
        told.append(f"and {len(found) - len(told)} more")
    hosts, tpus = len(report.hosts), [each for each in report.findings if each.check == TPU]
    data = [
        f"hosts={hosts - len(report.silent)};;;0;{hosts}",
        f"tpus={sum(each.ok for each in tpus)};;;0;{len(tpus)}",
        *(
            f"{severity.name.lower()}s={sum(finding.severity is severity for finding in report.findings)};;;0"
            for severity in (Severity.WARNING, Severity.ERROR)
        ),
        *_temperatures(report),
    ]
    if report.seconds:
        data.append(f"time={report.seconds:.3f}s;;;0")
    return code, f"CLUSTERADM {word} - {_line('; '.join([report.summary, *told]))} | {' '.join(data)}"


def unknown(reason: str) -> tuple[int, str]:
    """Where there is nothing to judge: the inventory is bad, or a file cannot be read."""
    return UNKNOWN, f"CLUSTERADM UNKNOWN - {_line(reason)}"


def _temperatures(report: Report) -> list[str]:
    trips = {
        (figure.labels["host"], figure.labels["tpu"], figure.labels["point"]): figure.value
        for figure in report.figures
        if figure.name == "tpu_trip_point_celsius"
    }
    told = []
    for figure in report.figures:
        if figure.name != "tpu_temperature_celsius":
            continue
        host, tpu = figure.labels["host"], figure.labels["tpu"]
        limits = [trips.get((host, tpu, point)) for point in ("0", "1")]
        told.append(
            f"'{_label(host)} {_label(tpu)}'={figure.value:g};"
            + ";".join("" if limit is None else f"{limit:g}" for limit in limits)
        )
    return told


def _label(text: str) -> str:
    """A label holds no quote and no equals sign."""
    return re.sub(r"['=|\s]", "_", text)


def _line(text: str) -> str:
    """One line without what begins the performance data."""
    return line(text).replace("|", "/")
