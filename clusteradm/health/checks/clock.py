"""Clocks: the head's compared with the admin's, every other host's with both; and whose time each one follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from clusteradm.health.finding import BOOTSTRAP, Finding, error, ok, warning
from clusteradm.health.reading import Reading
from clusteradm.inventory import Cluster, Host

CHECK = "clock"
# Limit of the difference; above it certificates and file times disagree, and bootstrap sets the clock
# (playbooks/prepare.yml).
MAX_SKEW_SECONDS = 10.0
# A host asks the head at least every 64 seconds (templates/node/etc/chrony/chrony.conf.j2): four answers are missing.
MAX_AGE_SECONDS = 300.0
# The stratum that the head gives to its own time (templates/head/etc/chrony/chrony.conf.j2).
OWN_TIME = 10


def judge(cluster: Cluster, host: Host, documents: Mapping[str, object]) -> Iterator[Finding]:
    """One finding: SKEWED if the host's clock agrees neither with the head's nor with the admin's.

    If all hosts agree with the head and only the admin does not, or the head follows a time server of the world, the
    head has a warning, and the others are ok. NO_CHRONY, NOT_KEPT, NOT_FOLLOWING: the clock is right, but nothing keeps
    it so.
    """
    skews = {name: skew for name, each in documents.items() if (skew := _skew(each))}
    own, head = skews.get(host.name), skews.get(cluster.head.name)
    if own is None:
        return
    keeper = _Keeper.of(documents[host.name])
    of_head = "" if head is None or host.is_head else f", {own[0] - head[0]:+.2f} s to the head"
    detail = f"{own[0]:+.2f} s to the admin{of_head}{keeper.words(cluster, host)}"
    if not _differ(own, (0.0, 0.0)) or (head and not host.is_head and not _differ(own, head)):
        yield _kept(cluster, host, keeper, detail)
        return
    cause = f"the clock is {abs(own[0]):.0f} s {'ahead of' if own[0] > 0 else 'behind'} the admin's"
    remedy = "run clusteradm bootstrap, which sets it"
    others_agree = len(skews) > 1 and not any(_differ(own, each) for each in skews.values())
    if host.is_head and keeper.of_the_world:
        cause += f", and follows the time server {keeper.source}"
        yield warning(host.name, CHECK, "ADMIN_SKEWED", cause, "set the admin's own clock (timedatectl)", detail=detail)
    elif host.is_head and others_agree:
        cause += ", and the other hosts agree with it"
        remedy = f"see whether the admin's own clock is right (date); if it is, {remedy}"
        yield warning(host.name, CHECK, "ADMIN_SKEWED", cause, remedy, detail=detail)
    else:
        yield error(host.name, CHECK, "SKEWED", cause, remedy, detail=detail)


def _kept(cluster: Cluster, host: Host, keeper: _Keeper, detail: str) -> Finding:
    """The finding of a clock that is right."""
    head = cluster.head
    if keeper.runs is False and not keeper.installed:
        cause = "the clock is right, and nothing keeps it so: chrony is not installed"
        return warning(host.name, CHECK, "NO_CHRONY", cause, BOOTSTRAP, detail=detail)
    if keeper.runs is False:
        cause = "the clock is right, and nothing keeps it so: chrony does not run"
        return warning(host.name, CHECK, "NOT_KEPT", cause, BOOTSTRAP, detail=detail)
    if keeper.runs and not host.is_head and not (keeper.follows(head.cluster_ip) or keeper.measures(head.cluster_ip)):
        why = f"{head.name} does not answer its chrony"
        if keeper.source and keeper.source != head.cluster_ip:
            why = f"its chrony follows {keeper.source}"
        cause = f"the clock is right, and does not follow the head's: {why}"
        remedy = f"{BOOTSTRAP}; if that changes nothing, let UDP port 123 of {head.cluster_ip} through to it"
        return warning(host.name, CHECK, "NOT_FOLLOWING", cause, remedy, detail=detail)
    return ok(host.name, CHECK, detail)


@dataclass(frozen=True)
class _Keeper:
    """What a host's chrony says. `runs`: None if it was not asked (older documents); the rest as in the probe."""

    runs: bool | None
    installed: bool
    source: str
    stratum: int
    offset: float
    age: float
    measured: str

    @classmethod
    def of(cls, document: object) -> _Keeper:
        told = Reading(document).part("machine").part("time")
        age = told.number("age")
        return cls(
            told.boolean("runs"),
            told.boolean("installed") is not False,
            told.text("source") or "",
            told.integer("stratum") or 0,
            told.number("offset") or 0.0,
            0.0 if age is None else age,
            told.text("measures") or "",
        )

    @property
    def of_the_world(self) -> bool:
        return 0 < self.stratum < OWN_TIME

    def follows(self, address: str) -> bool:
        return self.stratum > 0 and self.source == address and self.age <= MAX_AGE_SECONDS

    def measures(self, address: str) -> bool:
        """Whether it will follow it in a minute: after a start, or a standstill of the host."""
        return self.stratum == 0 and self.measured == address

    def words(self, cluster: Cluster, host: Host) -> str:
        """Whose time it is, for the detail."""
        if self.runs is None:
            return ""
        if not self.runs:
            return "; nobody's time"
        if not host.is_head and self.follows(cluster.head.cluster_ip):
            world = "" if self.stratum <= OWN_TIME else ", which follows no time server"
            return f"; {self.offset * 1000:+.2f} ms to the head's time{world}"
        if host.is_head and self.of_the_world:
            return f"; {self.offset * 1000:+.2f} ms to the time of {self.source} (stratum {self.stratum})"
        if not host.is_head and self.measures(cluster.head.cluster_ip):
            return "; its own time, until it has measured the head's"
        return "; its own time"


def _skew(document: object) -> tuple[float, float] | None:
    """Seconds ahead of the admin's clock, and the uncertainty in seconds."""
    about = Reading(document).part("clock")
    skew, doubt = about.number("skew"), about.number("doubt")
    return None if skew is None else (skew, doubt or 0.0)


def _differ(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return abs(one[0] - other[0]) - one[1] - other[1] > MAX_SKEW_SECONDS
