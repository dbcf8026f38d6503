"""Health as text for a terminal: a table of the hosts, then errors and warnings with cause, remedy and effects."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType

from clusteradm.cli import show
from clusteradm.cli.escape import line, sentence
from clusteradm.cli.health_forms.report import TPU, HealthReport, groups
from clusteradm.cli.show import text
from clusteradm.health import Finding, Severity
from clusteradm.inventory.ranges import fold

STYLES = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.ERROR: "red"}


def table(report: HealthReport, *, verbose: bool = False) -> RenderableType:
    """Hosts in the same state in one row (`verbose`: a row for every host and TPU), groups of findings, summary."""
    parts: list[RenderableType] = [_every_row(report) if verbose else _folded(report)]
    for group in groups(report):
        style = STYLES[group.severity]
        lines = [text((f"\n{line(f'{group.subjects}  {group.check}: {group.state}')}", style))]
        for cause, subjects in group.causes.items():
            lines.append(text(f"  cause:  {sentence(cause)}" + (f" ({subjects})" if len(group.causes) > 1 else "")))
        parts += [*lines, text(f"  remedy: {sentence(group.remedy)}")]
        if group.effects:
            parts.append(text(f"  effect: {sentence(group.effects)}"))
    return Group(*parts, text("\n" + report.summary))


def _columns(*names: str) -> show.Table:
    rows = show.Table()
    for name in names:
        rows.add_column(name, overflow="fold", no_wrap=name != names[-1])
    return rows


def _folded(report: HealthReport) -> show.Table:
    alike: dict[tuple[str, str, Severity, bool], list[str]] = {}
    simulated_hosts = report.simulated
    racks = report.racks
    for rack, host in ((rack, host) for rack, hosts in racks.items() for host in hosts):
        findings = report.of_host(host)
        states = dict.fromkeys(each.state for each in sorted(findings, key=lambda each: -each.severity) if not each.ok)
        worst = max(each.severity for each in findings)
        alike.setdefault((rack, ", ".join(states) or "ok", worst, host in simulated_hosts), []).append(host)
    in_racks = any(racks)
    rows = _columns(*["RACK"] * in_racks, "HOSTS", "STATE", "EDGE TPUS")
    for (rack, state, worst, simulated), hosts in alike.items():
        tpus = report.count(*hosts)
        count = f"{tpus.good} ok" if tpus.good == tpus.of else f"{tpus.good} of {tpus.of} ok"
        count = (count if tpus.of else "" if state == "UNREACHABLE" else "none") + (", SIMULATED" if simulated else "")
        rows.add_row(*[rack or "-"] * in_racks, ",".join(fold(hosts)), text((line(state), STYLES[worst])), count)
    return rows


def _every_row(report: HealthReport) -> show.Table:
    rows = _columns("SUBJECT", "STATE", "SEEN")
    for subject in dict.fromkeys(finding.subject for finding in report.findings):
        mine = [finding for finding in report.findings if finding.subject == subject]
        # The finding of a missing TPU has the host as its subject, but a row of its own.
        for each in ([one for one in mine if one.check != TPU], *[[one] for one in mine if one.check == TPU]):
            if each:
                worst = max(each, key=lambda one: one.severity)
                rows.add_row(subject, text((line(worst.state), STYLES[worst.severity])), _seen(each))
    return rows


def _seen(findings: Iterable[Finding]) -> str:
    parts = []
    for finding in findings:
        if finding.check == TPU:
            parts.append(finding.detail or finding.cause)
        else:
            parts.append(f"{finding.check} {finding.detail if finding.ok else finding.state}")
    return sentence("; ".join(parts))
