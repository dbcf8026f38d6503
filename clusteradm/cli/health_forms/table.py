"""Health for a person's eyes: what is alike in one line, then what is ill, why, and what to do."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clusteradm.cli.health_forms.report import TPU, Report, troubles
from clusteradm.cli.show import line
from clusteradm.health import Finding, Severity
from clusteradm.inventory.ranges import fold

STYLES = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.ERROR: "red"}


def table(report: Report, *, verbose: bool = False) -> RenderableType:
    """Hosts that are alike in one row (`verbose`: a row for every host and every TPU), troubles, the summary."""
    parts: list[RenderableType] = [_every_row(report) if verbose else _folded(report)]
    for trouble in troubles(report):
        style = STYLES[trouble.severity]
        lines = [Text(f"\n{trouble.subjects}  {trouble.check}: {trouble.state}", style=style)]
        for cause, whose in trouble.causes.items():
            lines.append(Text(f"  cause:  {line(cause)}" + (f" ({whose})" if len(trouble.causes) > 1 else "")))
        parts += [*lines, Text(f"  remedy: {line(trouble.remedy)}")]
        if trouble.follows:
            parts.append(Text(f"  then:   {line(trouble.follows)} will be well, too"))
    return Group(*parts, Text("\n" + report.summary))


def _columns(*names: str) -> Table:
    rows = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        rows.add_column(name, overflow="fold", no_wrap=name != names[-1])
    return rows


def _folded(report: Report) -> Table:
    alike: dict[tuple[str, Severity, bool], list[str]] = {}
    simulated_hosts = report.simulated
    for host in report.hosts:
        findings = report.of_host(host)
        states = dict.fromkeys(each.state for each in sorted(findings, key=lambda each: -each.severity) if not each.ok)
        worst = max(each.severity for each in findings)
        alike.setdefault((", ".join(states) or "ok", worst, host in simulated_hosts), []).append(host)
    rows = _columns("HOSTS", "STATE", "EDGE TPUS")
    for (state, worst, simulated), hosts in alike.items():
        tpus = [each for host in hosts for each in report.of_host(host) if each.check == TPU]
        well = sum(each.ok for each in tpus)
        seen = f"{well} ok" if well == len(tpus) else f"{well} of {len(tpus)} ok"
        seen = (seen if tpus else "none") + (", SIMULATED" if simulated else "")
        rows.add_row(",".join(fold(hosts)), Text(state, style=STYLES[worst]), "" if state == "UNREACHABLE" else seen)
    return rows


def _every_row(report: Report) -> Table:
    rows = _columns("SUBJECT", "STATE", "SEEN")
    for subject in dict.fromkeys(finding.subject for finding in report.findings):
        mine = [finding for finding in report.findings if finding.subject == subject]
        # A host's missing TPU has the host as its subject, and a row of its own.
        for each in ([one for one in mine if one.check != TPU], *[[one] for one in mine if one.check == TPU]):
            if each:
                worst = max(each, key=lambda one: one.severity)
                rows.add_row(subject, Text(worst.state, style=STYLES[worst.severity]), _seen(each))
    return rows


def _seen(findings: Iterable[Finding]) -> str:
    parts = []
    for finding in findings:
        if finding.check == TPU:
            parts.append(finding.detail or finding.cause)
        else:
            parts.append(f"{finding.check} {finding.detail if finding.ok else finding.state}")
    return line("; ".join(parts))
