"""HealthReport: the findings of a survey and its figures, which every output format shows."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from clusteradm.cli.health_forms.figures import Figure, figures
from clusteradm.health import Finding, Severity, Survey, tpu
from clusteradm.inventory import Cluster
from clusteradm.inventory.ranges import fold

TPU = tpu.CHECK


class TpuCount(NamedTuple):
    """Number of TPUs that are ok, of those that there are or should be."""

    good: int
    of: int


@dataclass(frozen=True)
class HealthReport:
    """`cluster`: its name. `taken`: end of the survey, seconds since 1970 (0: unknown); `seconds`: its duration."""

    cluster: str
    findings: Sequence[Finding]
    figures: Sequence[Figure] = field(default=())
    taken: float = 0.0
    seconds: float = 0.0

    @classmethod
    def of(cls, cluster: Cluster, survey: Survey, findings: Sequence[Finding]) -> HealthReport:
        """Report of a survey and its findings."""
        name = str(cluster.setting("cluster_name"))
        return cls(name, tuple(findings), tuple(figures(cluster, survey)), survey.taken, survey.seconds)

    @property
    def hosts(self) -> list[str]:
        return list(dict.fromkeys(finding.host for finding in self.findings))

    @property
    def racks(self) -> dict[str, list[str]]:
        """The hosts by rack, each rack's in the order of their slots; "": those without a rack, at the end."""
        places = {each.labels["host"]: each.labels for each in self.figures if each.name == "host_place"}
        found: dict[str, list[str]] = {}
        for host in self.hosts:
            found.setdefault(places[host]["rack"] if host in places else "", []).append(host)
        for hosts in found.values():
            hosts.sort(key=lambda host: int(self.slot(host) or 1 << 31))
        return dict(sorted(found.items(), key=lambda item: (not item[0], item[0])))

    def slot(self, host: str) -> str:
        """The host's place in its rack; "" where the inventory does not say it."""
        return next(
            (each.labels["slot"] for each in self.figures if each.name == "host_place" and each.labels["host"] == host),
            "",
        )

    @property
    def unanswered(self) -> list[str]:
        """Hosts whose probe returned no document."""
        return [finding.host for finding in self.findings if finding.check == "ssh" and not finding.ok]

    @property
    def tpus(self) -> list[Finding]:
        """Findings of TPUs on a bus, one for each. A missing TPU has no address; its finding is of its host."""
        return [finding for finding in self.findings if finding.check == TPU and tpu_of(finding)]

    def count(self, *hosts: str) -> TpuCount:
        """TPUs of these hosts, or of all: those that are ok, and those that there should be.

        A TPU that the inventory declares (cluster_tpus) counts, whether it is absent from the bus or its host silent.
        """
        declared = {each.labels["host"]: each.value for each in self.figures if each.name == "host_tpus_expected"}
        good = of = 0
        for host in hosts or self.hosts:
            mine = [finding for finding in self.of_host(host) if finding.check == TPU]
            seen = sum(bool(tpu_of(finding)) for finding in mine)
            good += sum(finding.ok for finding in mine)
            # Without a number in the inventory, a finding about the host as a whole is about one TPU at least.
            of += max(seen, int(declared.get(host, 0)), int(len(mine) > seen))
        return TpuCount(good, of)

    @property
    def not_ok(self) -> list[Finding]:
        """Errors and warnings."""
        return [finding for finding in self.findings if not finding.ok]

    @property
    def roots(self) -> list[Finding]:
        """Errors and warnings that no other finding causes."""
        return [finding for finding in self.not_ok if not finding.because]

    @property
    def simulated(self) -> list[str]:
        """Hosts whose TPUs are simulated, so that no figure of the lab is taken for one of hardware."""
        tpus = (finding for finding in self.findings if finding.check == TPU and "SIMULATED" in finding.detail)
        return list(dict.fromkeys(finding.host for finding in tpus))

    @property
    def worst(self) -> Severity:
        return max((finding.severity for finding in self.findings), default=Severity.OK)

    @property
    def exit_code(self) -> int:
        if any(finding.state == "UNREACHABLE" for finding in self.findings):
            return 4
        return 3 if self.not_ok else 0

    @property
    def summary(self) -> str:
        """One line: number of hosts, of TPUs that are ok, and of findings that are not."""
        tpus, hosts, roots = self.count(), len(self.hosts), self.roots
        errors = sum(finding.severity is Severity.ERROR for finding in roots)
        effects = len(self.not_ok) - len(roots)
        parts = [
            _counted(hosts, "host"),
            f"{tpus.good} of {tpus.of} Edge TPUs OK" + " (SIMULATED)" * bool(self.simulated),
            *([_counted(errors, "error")] if errors else []),
            *([_counted(len(roots) - errors, "warning")] if len(roots) > errors else []),
            *([f"{effects} more grouped under {'it' if len(roots) == 1 else 'them'}"] if effects else []),
        ]
        return ", ".join(parts if self.not_ok else [*parts, "ok"])

    @property
    def date(self) -> str:
        """End of the survey in the local time zone; empty if unknown."""
        return datetime.datetime.fromtimestamp(self.taken).astimezone().isoformat(" ", "seconds") if self.taken else ""

    def of_host(self, host: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.host == host]

    def document(self) -> dict[str, Any]:
        """Body of the document of `--json`."""
        counts = {
            severity.name.lower(): sum(finding.severity is severity for finding in self.findings)
            for severity in Severity
        }
        tpus = self.count()
        return {
            "cluster": self.cluster,
            "simulated": self.simulated,
            "taken": self.taken,
            "seconds": round(self.seconds, 3),
            "findings": [{**asdict(each), "severity": each.severity.name.lower()} for each in self.findings],
            "figures": [asdict(each) for each in self.figures],
            "summary": counts,
            "tpus": {
                "ok": tpus.good,
                "of": tpus.of,
                "hosts": {host: dict(zip(("ok", "of"), self.count(host), strict=True)) for host in self.hosts},
            },
        }


@dataclass(frozen=True)
class FindingGroup:
    """Findings of one check, state and remedy, and the findings that they cause.

    `subjects`: folded names; `causes`: cause -> the subjects that have it; `effects`: the findings caused by these, in
    one line. `severity`: the worst of all of them.
    """

    check: str
    state: str
    severity: Severity
    remedy: str
    subjects: str
    causes: dict[str, str]
    effects: str = ""


def groups(report: HealthReport) -> list[FindingGroup]:
    """Errors and warnings in groups, the worst group first."""
    alike: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in report.roots:
        alike.setdefault((finding.check, finding.state, finding.remedy), []).append(finding)
    found = []
    for (check, state, remedy), findings in alike.items():
        by_cause: dict[str, list[str]] = {}
        for finding in findings:
            by_cause.setdefault(finding.cause, []).append(finding.subject)
        names = {finding.name for finding in findings}
        effects = [finding for finding in report.not_ok if finding.because in names]
        severity = max(finding.severity for finding in (*findings, *effects))
        causes = {cause: subjects(of) for cause, of in by_cause.items()}
        of_all = subjects([each.subject for each in findings])
        found.append(FindingGroup(check, state, severity, remedy, of_all, causes, _effects(effects)))
    return sorted(found, key=lambda group: -group.severity)


def _effects(findings: Sequence[Finding]) -> str:
    alike: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        alike.setdefault((finding.check, finding.state), []).append(finding.subject)
    return "; ".join(f"{subjects(of)} {check}: {state}" for (check, state), of in alike.items())


def subjects(names: Sequence[str]) -> str:
    """Names in one line: hosts folded into ranges, TPUs one by one."""
    hosts = fold(name for name in names if " " not in name)
    return ", ".join([",".join(hosts)] * bool(hosts) + [name for name in dict.fromkeys(names) if " " in name])


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def tpu_of(finding: Finding) -> str:
    """PCI address of the finding's TPU; empty if its subject is a host."""
    return finding.subject.partition(" ")[2]
