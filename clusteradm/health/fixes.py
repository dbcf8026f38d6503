"""Findings that tasks of bootstrap repair without a person: the tags of these tasks, by check and state."""

from __future__ import annotations

from collections.abc import Iterable

from clusteradm.health.finding import Finding

# (check, state) -> tags of playbooks/bootstrap.yml. All others need a person: they cost a reboot, a job, or a visit.
FIXES: dict[tuple[str, str], frozenset[str]] = {
    ("clock", "SKEWED"): frozenset({"clock"}),
    ("clock", "NOT_KEPT"): frozenset({"clock"}),
    ("clock", "NOT_FOLLOWING"): frozenset({"clock"}),
    ("nfs", "NOT_MOUNTED"): frozenset({"mount"}),
    ("nfs", "STALE"): frozenset({"mount"}),
    ("tpu", "NO_DRIVER"): frozenset({"tpu"}),
    ("tpu", "NO_PERMISSION"): frozenset({"tpu", "user"}),
}


def fixes(findings: Iterable[Finding]) -> dict[str, frozenset[str]]:
    """Host -> tags of the tasks that may repair its findings; only hosts that have such findings.

    A finding caused by another is left out: it is repaired together with its cause, and cannot be before.
    """
    found: dict[str, frozenset[str]] = {}
    for finding in findings:
        tags = FIXES.get((finding.check, finding.state))
        if tags and not finding.because:
            found[finding.host] = found.get(finding.host, frozenset()) | tags
    return found
