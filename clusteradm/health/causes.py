"""Rules by which findings are grouped under the one that causes them: a dead NFS server is one thing to repair, not one
per host that waits for it.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from clusteradm.health.finding import Finding


class Reach(enum.Enum):
    """Hosts whose findings a rule covers.

    OWN: the same host. HEAD: every host, if the cause is on the head. BEHIND: the hosts that are reached only through
    the head, if the cause is on the head. ALL: every host.
    """

    OWN = enum.auto()
    HEAD = enum.auto()
    BEHIND = enum.auto()
    ALL = enum.auto()


# Every state of a check.
ANY: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Rule:
    """A finding of `check` in one of `states` causes those of `follow` (check -> states) on the hosts of `reach`.

    `unless`: a check whose finding is ok on any host disproves the rule.
    """

    check: str
    states: frozenset[str]
    reach: Reach
    follow: Mapping[str, frozenset[str]]
    unless: str = ""


def _states(*names: str) -> frozenset[str]:
    return frozenset(names)


_TWINS = _states("SAME_ADDRESS", "SAME_MAC")
_OFF = _states("NO_INTERFACE", "NO_ADDRESS", "DOWN")
_NO_USE = _states("STALE", "NOT_MOUNTED", "UNUSABLE")
# Findings that any fault between a host and the head can cause.
_TRAFFIC = {"link": _states("NO_HEAD", "LOSSY", "LATE"), "nfs": _NO_USE, "mpi": ANY}
_SILENT = _states("UNREACHABLE")

# The rule that covers more comes first. In a chain of causes, a finding is grouped under the first one.
RULES = (
    Rule("link", _TWINS, Reach.OWN, {"ssh": _SILENT, **_TRAFFIC}),
    Rule("link", _TWINS, Reach.HEAD, _TRAFFIC),
    Rule("ssh", _SILENT, Reach.BEHIND, {"ssh": _SILENT}),
    Rule("ssh", _SILENT, Reach.HEAD, {"link": _states("NO_HEAD")}, unless="link"),
    Rule("ssh", _SILENT, Reach.HEAD, {"nfs": _NO_USE}, unless="nfs"),
    Rule("network", _OFF, Reach.OWN, {**_TRAFFIC, "export": _states("NOT_SERVING")}),
    Rule("network", _OFF, Reach.HEAD, _TRAFFIC),
    Rule("network", _states("OVERLAP"), Reach.OWN, {**_TRAFFIC, "export": _states("NOT_SERVING")}),
    Rule("network", _states("OVERLAP"), Reach.HEAD, _TRAFFIC),
    Rule("network", _states("NAMES"), Reach.HEAD, {"mpi": _states("NO_LOGIN", "NO_START")}),
    Rule("link", _states("NO_HEAD"), Reach.OWN, {"nfs": _NO_USE, "mpi": ANY}),
    Rule("link", _states("MTU"), Reach.OWN, {"nfs": _states("STALE"), "mpi": ANY}),
    Rule("link", _states("SLOWER", "HALF_DUPLEX", "LOSSY", "LATE"), Reach.OWN, {"mpi": _states("SLOW_LINK")}),
    Rule("disk", ANY, Reach.HEAD, {"nfs": _states("UNUSABLE"), "mpi": _states("FAILED", "NO_START")}),
    Rule("disk", ANY, Reach.OWN, {"mpi": _states("NO_START")}),
    # Open MPI has its session folders there, and a rank that ends for want of one ends all of them.
    Rule("disk", _states("TMP"), Reach.ALL, {"mpi": _states("NO_START", "NO_MESSAGES", "HELD_UP", "FAILED")}),
    Rule(
        "nfs",
        _states("STALE", "UNUSABLE"),
        Reach.HEAD,
        {"export": _states("NOT_SERVING", "NOT_EXPORTED"), "nfs": _NO_USE, "mpi": _states("FAILED")},
    ),
    Rule("clock", _states("NO_CHRONY", "NOT_KEPT"), Reach.HEAD, {"clock": _states("NOT_FOLLOWING")}),
    Rule("network", _OFF, Reach.OWN, {"clock": _states("NOT_FOLLOWING")}),
    Rule("link", _states("NO_HEAD"), Reach.OWN, {"clock": _states("NOT_FOLLOWING")}),
    Rule("export", _states("NOT_SERVING", "NOT_EXPORTED", "NO_HANDLES"), Reach.HEAD, {"nfs": _NO_USE}),
    Rule("nfs", _NO_USE | {"FOREIGN"}, Reach.OWN, {"mpi": _states("OTHER_SHARE", "FAILED")}),
    Rule("runtime", ANY, Reach.OWN, {"tpu": _states("RUNTIME")}),
    Rule("runtime", _states("NO_MPI4PY", "BROKEN"), Reach.ALL, {"mpi": _states("NO_MESSAGES")}),
    Rule("bus", _states("UNFIT"), Reach.OWN, {"tpu": ANY}),
    Rule("bus", _states("PAGE_SIZE"), Reach.OWN, {"tpu": _states("RUNTIME")}),
    Rule("fan", ANY, Reach.OWN, {"heat": ANY}),
    Rule("reboot", ANY, Reach.OWN, {"drift": _states("KERNEL")}),
    Rule("drift", _states("MPI_GENERATION"), Reach.ALL, {"mpi": ANY}),
    Rule("mpi", _states("NO_START"), Reach.ALL, {"mpi": _states("HELD_UP")}),
)


def trace(head: str, findings: Iterable[Finding], behind: Collection[str] = ()) -> list[Finding]:
    """The same findings in the same order; `because` of those caused by another names that one.

    `head`: the head's name; `behind`: names of the hosts that are reached only through it.
    """
    found = list(findings)
    ok = {finding.check for finding in found if finding.ok}
    failing: dict[str, list[int]] = {}
    for number, finding in enumerate(found):
        if not finding.ok:
            failing.setdefault(finding.check, []).append(number)
    because: dict[int, int] = {}

    def root(number: int) -> int:
        while number in because:
            number = because[number]
        return number

    def reaches(rule: Rule, one: Finding, other: Finding) -> bool:
        if rule.reach is Reach.OWN:
            return one.host == other.host
        return rule.reach is Reach.ALL or (one.host == head and (rule.reach is Reach.HEAD or other.host in behind))

    for rule in RULES:
        if rule.unless in ok:
            continue
        ones = [number for number in failing.get(rule.check, ()) if _among(found[number].state, rule.states)]
        others = [
            number
            for check, states in rule.follow.items()
            for number in failing.get(check, ())
            if _among(found[number].state, states)
        ]
        for one in ones:
            for other in others:
                if other not in because and root(one) != other and reaches(rule, found[one], found[other]):
                    because[other] = one
    return [
        replace(finding, because=found[root(number)].name) if number in because else finding
        for number, finding in enumerate(found)
    ]


def _among(state: str, states: frozenset[str]) -> bool:
    return not states or state in states
