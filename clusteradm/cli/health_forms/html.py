"""Health as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from clusteradm.cli.health_forms.figures import Figure
from clusteradm.cli.health_forms.report import TPU, HealthReport, groups, tpu_of
from clusteradm.cli.pages import render
from clusteradm.health import Finding, Severity

_LETTERS = {Severity.OK: "o", Severity.WARNING: "W", Severity.ERROR: "E"}


def html(report: HealthReport) -> str:
    """The whole page."""
    hosts = {name: _host(report, name, number) for number, name in enumerate(report.hosts)}
    checks = list(dict.fromkeys(each.check for each in report.findings))
    by_tpu: dict[tuple[str | None, str | None], list[Figure]] = {}
    for figure in report.figures:
        by_tpu.setdefault((figure.labels.get("host"), figure.labels.get("tpu")), []).append(figure)
    return render(
        "report.html.j2",
        report=report,
        worst=report.worst.name.lower(),
        hosts=hosts,
        racks=[(rack, [hosts[name] for name in names]) for rack, names in report.racks.items()],
        checks=checks,
        matrix=[(host, [_cell(host["findings"], check) for check in checks]) for host in hosts.values()],
        tpus=[_tpu(each, by_tpu) for each in report.findings if each.check == TPU],
        groups=groups(report),
    )


def _host(report: HealthReport, name: str, number: int) -> dict[str, Any]:
    findings = report.of_host(name)
    mine = report.count(name)
    states = list(dict.fromkeys(each.state for each in findings if not each.ok))
    worst = max(each.severity for each in findings)
    return {
        "name": name,
        "number": number,
        "slot": report.slot(name),
        "worst": worst.name.lower(),
        "letter": _LETTERS[worst],
        "states": ", ".join(states) or "ok",
        "tpus": f"{mine.good} of {mine.of}" if mine.of else "",
        "findings": findings,
        "checks": [each for each in findings if each.check != TPU],
    }


def _cell(findings: Sequence[Finding], check: str) -> tuple[str, str, str]:
    """Letter, severity and states of a host by a check; of several TPUs, the worst and all states."""
    mine = [each for each in findings if each.check == check]
    if not mine:
        return "", "", f"{check}: not checked"
    worst = max(each.severity for each in mine)
    return _LETTERS[worst], worst.name.lower(), f"{check}: {', '.join(dict.fromkeys(each.state for each in mine))}"


def _tpu(finding: Finding, by_tpu: Mapping[tuple[str | None, str | None], Sequence[Figure]]) -> dict[str, Any]:
    address = tpu_of(finding)
    mine = by_tpu.get((finding.host, address), ())
    temperature = next((each.value for each in mine if each.name == "tpu_temperature_celsius"), None)
    trips = sorted(each.value for each in mine if each.name == "tpu_trip_point_celsius")
    return {"finding": finding, "address": address, "temperature": temperature, "scale": _scale(temperature, trips)}


class Scale(NamedTuple):
    """Places on a scale of temperatures, in percent of its width: the TPU's, and those of its trip points."""

    here: float
    trips: list[tuple[float, float]]
    severity: str


def _scale(temperature: float | None, trips: Sequence[float]) -> Scale | None:
    """None for what no TPU has: the driver reports less than -50 °C where the chip does not answer."""
    low, high = _SCALE
    if temperature is None or temperature < -50:
        return None

    def place(celsius: float) -> float:
        return 100 * (min(max(celsius, low), high) - low) / (high - low)

    over = sum(temperature >= trip for trip in trips)
    severity = "ok" if not over else "warning" if over < len(trips) else "error"
    return Scale(place(temperature), [(trip, place(trip)) for trip in trips], severity)


# Ends of the scale, in °C: a chip at rest in a cool room, and one that is switched off by its board.
_SCALE = (20.0, 110.0)
