"""Which findings bootstrap's own tasks mend without asking anyone: the tags of these tasks, per state."""

from __future__ import annotations

from collections.abc import Iterable

from clusteradm.health.finding import Finding

# (check, state) -> tags of playbooks/bootstrap.yml. The rest is for a person: it costs a reboot, a job or a walk.
FIXES: dict[tuple[str, str], frozenset[str]] = {
    ("clock", "SKEWED"): frozenset({"clock"}),
    ("nfs", "NOT_MOUNTED"): frozenset({"mount"}),
    ("nfs", "STALE"): frozenset({"mount"}),
    ("tpu", "NO_DRIVER"): frozenset({"tpu"}),
    ("tpu", "NO_PERMISSION"): frozenset({"tpu", "user"}),
}


def fixes(findings: Iterable[Finding]) -> dict[str, frozenset[str]]:
    """Host -> the tags of the tasks that may mend what it has; only hosts for which there are any.

    What only follows from something else is mended with that, and cannot be before.
    """
    found: dict[str, frozenset[str]] = {}
    for finding in findings:
        tags = FIXES.get((finding.check, finding.state))
        if tags and not finding.because:
            found[finding.host] = found.get(finding.host, frozenset()) | tags
    return found
