"""What every form tells: the findings of a survey, and the figures behind them."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from clusteradm.cli.health_forms.figures import Figure, figures
from clusteradm.health import Finding, Severity, Survey
from clusteradm.inventory import Cluster
from clusteradm.inventory.ranges import fold

TPU = "tpu"


@dataclass(frozen=True)
class Report:
    """`taken`: when the hosts were asked, in seconds since 1970 (0: unknown); `seconds`: how long they took."""

    cluster: str
    findings: Sequence[Finding]
    figures: Sequence[Figure] = field(default=())
    taken: float = 0.0
    seconds: float = 0.0

    @classmethod
    def of(cls, cluster: Cluster, survey: Survey, findings: Sequence[Finding]) -> Report:
        """The report of a survey, judged."""
        name = str(cluster.setting("cluster_name"))
        return cls(name, tuple(findings), tuple(figures(cluster, survey)), survey.taken, survey.seconds)

    @property
    def hosts(self) -> list[str]:
        return list(dict.fromkeys(finding.host for finding in self.findings))

    @property
    def silent(self) -> list[str]:
        """The hosts of which nothing is known but that they did not answer."""
        return [finding.host for finding in self.findings if finding.check == "ssh" and not finding.ok]

    @property
    def tpus(self) -> list[Finding]:
        """One finding for every TPU on a bus. One that is missing has no address, and is a finding of its host."""
        return [finding for finding in self.findings if finding.check == TPU and tpu_of(finding)]

    @property
    def sick(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.ok]

    @property
    def roots(self) -> list[Finding]:
        """What is to be mended: the others only follow from one of these."""
        return [finding for finding in self.sick if not finding.because]

    @property
    def simulated(self) -> list[str]:
        """The hosts whose TPUs are the lab's: nobody shall take figures of a simulation for those of a board."""
        tpus = (finding for finding in self.findings if finding.check == TPU and "SIMULATED" in finding.detail)
        return list(dict.fromkeys(finding.host for finding in tpus))

    @property
    def worst(self) -> Severity:
        return max((finding.severity for finding in self.findings), default=Severity.OK)

    @property
    def exit_code(self) -> int:
        if any(finding.state == "UNREACHABLE" for finding in self.findings):
            return 4
        return 3 if self.sick else 0

    @property
    def summary(self) -> str:
        """One line: how many, and whether anything is to be done."""
        tpus = [finding for finding in self.findings if finding.check == TPU]
        hosts, roots = len(self.hosts), len(self.roots)
        follow = len(self.sick) - roots
        parts = [
            f"{hosts} host{'s' * (hosts != 1)}",
            f"{sum(finding.ok for finding in tpus)} of {len(tpus)} Edge TPUs OK"
            + " (SIMULATED)" * bool(self.simulated),
            f"{roots} finding{'s' * (roots > 1)} to attend to" if roots else "all is well",
        ]
        return ", ".join([*parts, f"{follow} more that follow{'s' * (follow == 1)} from that"] if follow else parts)

    @property
    def date(self) -> str:
        """When it was, in the admin's time zone; empty if unknown."""
        return datetime.datetime.fromtimestamp(self.taken).astimezone().isoformat(" ", "seconds") if self.taken else ""

    def of_host(self, host: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.host == host]

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        counts = {
            severity.name.lower(): sum(finding.severity is severity for finding in self.findings)
            for severity in Severity
        }
        return {
            "cluster": self.cluster,
            "simulated": self.simulated,
            "taken": self.taken,
            "seconds": round(self.seconds, 3),
            "findings": [{**asdict(each), "severity": each.severity.name.lower()} for each in self.findings],
            "figures": [asdict(each) for each in self.figures],
            "summary": counts,
        }


@dataclass(frozen=True)
class Trouble:
    """Findings that ask for the same: a sick switch is one thing to read, not thirty.

    `subjects`: folded; `causes`: cause -> the subjects that it is of; `follows`: what will be well with it, folded.
    """

    check: str
    state: str
    severity: Severity
    remedy: str
    subjects: str
    causes: dict[str, str]
    follows: str = ""


def troubles(report: Report) -> list[Trouble]:
    """What is ill, the worst first."""
    alike: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in report.roots:
        alike.setdefault((finding.check, finding.state, finding.remedy), []).append(finding)
    found = []
    for (check, state, remedy), findings in alike.items():
        whose: dict[str, list[str]] = {}
        for finding in findings:
            whose.setdefault(finding.cause, []).append(finding.subject)
        names = {finding.name for finding in findings}
        after = [finding for finding in report.sick if finding.because in names]
        severity = max(finding.severity for finding in (*findings, *after))
        causes = {cause: subjects(of) for cause, of in whose.items()}
        whom = subjects([each.subject for each in findings])
        found.append(Trouble(check, state, severity, remedy, whom, causes, _follows(after)))
    return sorted(found, key=lambda trouble: -trouble.severity)


def _follows(findings: Sequence[Finding]) -> str:
    alike: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        alike.setdefault((finding.check, finding.state), []).append(finding.subject)
    return "; ".join(f"{subjects(of)} {check}: {state}" for (check, state), of in alike.items())


def subjects(names: Sequence[str]) -> str:
    """Hosts folded, TPUs one by one: their addresses are no numbers in a row."""
    hosts = fold(name for name in names if " " not in name)
    return ", ".join([",".join(hosts)] * bool(hosts) + [name for name in dict.fromkeys(names) if " " in name])


def tpu_of(finding: Finding) -> str:
    """The PCI address that a finding is about; empty where it is about its host."""
    return finding.subject.partition(" ")[2]
