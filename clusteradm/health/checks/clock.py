"""Clocks: the head's compared with the admin's, every other host's with both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from clusteradm.health.finding import Finding, error, ok, warning
from clusteradm.health.reading import Reading
from clusteradm.inventory import Cluster, Host

CHECK = "clock"
# Limit of the difference; above it certificates and file times disagree, and bootstrap sets the clock
# (playbooks/prepare.yml).
MAX_SKEW_SECONDS = 10.0


def judge(cluster: Cluster, host: Host, documents: Mapping[str, object]) -> Iterator[Finding]:
    """One finding: SKEWED if the host's clock agrees neither with the head's nor with the admin's.

    If all hosts agree with the head and only the admin does not, the head has a warning, and the others are ok.
    """
    skews = {name: skew for name, each in documents.items() if (skew := _skew(each))}
    own, head = skews.get(host.name), skews.get(cluster.head.name)
    if own is None:
        return
    of_head = "" if head is None or host.is_head else f", {own[0] - head[0]:+.2f} s to the head"
    detail = f"{own[0]:+.2f} s to the admin{of_head}"
    if not _differ(own, (0.0, 0.0)) or (head and not host.is_head and not _differ(own, head)):
        yield ok(host.name, CHECK, detail)
        return
    cause = f"the clock is {abs(own[0]):.0f} s {'ahead of' if own[0] > 0 else 'behind'} the admin's"
    remedy = "run clusteradm bootstrap, which sets it"
    if host.is_head and len(skews) > 1 and not any(_differ(own, each) for each in skews.values()):
        cause += ", and the other hosts agree with it"
        remedy = f"see whether the admin's own clock is right (date); if it is, {remedy}"
        yield warning(host.name, CHECK, "ADMIN_SKEWED", cause, remedy, detail=detail)
    else:
        yield error(host.name, CHECK, "SKEWED", cause, remedy, detail=detail)


def _skew(document: object) -> tuple[float, float] | None:
    """Seconds ahead of the admin's clock, and the uncertainty in seconds."""
    about = Reading(document).part("clock")
    skew, doubt = about.number("skew"), about.number("doubt")
    return None if skew is None else (skew, doubt or 0.0)


def _differ(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return abs(one[0] - other[0]) - one[1] - other[1] > MAX_SKEW_SECONDS
