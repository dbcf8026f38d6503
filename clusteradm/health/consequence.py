"""Which findings only follow from another: a dead NFS server is one thing to mend, not one per host that waits."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from clusteradm.health.finding import Finding


class Reach(enum.Enum):
    """Whose findings may follow: those of the same host; of every host, if it is the head's; of every host."""

    OWN = enum.auto()
    HEAD = enum.auto()
    ALL = enum.auto()


# Every state of a check.
ANY: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Rule:
    """A finding of `check` in one of `states` explains those of `follow` (check -> states) as far as it reaches."""

    check: str
    states: frozenset[str]
    reach: Reach
    follow: Mapping[str, frozenset[str]]

    def explains(self, one: Finding, other: Finding, head: str) -> bool:
        """Whether `other` follows from `one`."""
        if self.reach is Reach.OWN and one.host != other.host:
            return False
        if self.reach is Reach.HEAD and one.host != head:
            return False
        return (
            one.check == self.check
            and _among(one.state, self.states)
            and other.check in self.follow
            and _among(other.state, self.follow[other.check])
        )


def _among(state: str, states: frozenset[str]) -> bool:
    return not states or state in states


_TWINS = frozenset({"SAME_ADDRESS", "SAME_MAC"})
_OFF = frozenset({"NO_INTERFACE", "NO_ADDRESS", "DOWN"})
_ALL_TRAFFIC = {"link": ANY, "nfs": ANY, "mpi": ANY}
_WITHOUT_SERVER = frozenset({"STALE", "NOT_MOUNTED", "UNUSABLE"})

# What explains more comes first. Of what is explained, the explanation is the first of the chain.
RULES = (
    Rule("link", _TWINS, Reach.OWN, {"ssh": ANY, **_ALL_TRAFFIC}),
    Rule("link", _TWINS, Reach.HEAD, {"ssh": ANY, **_ALL_TRAFFIC}),
    Rule("ssh", ANY, Reach.HEAD, {"link": frozenset({"NO_HEAD"}), "nfs": _WITHOUT_SERVER}),
    Rule("network", _OFF, Reach.OWN, _ALL_TRAFFIC),
    Rule("network", _OFF, Reach.HEAD, _ALL_TRAFFIC),
    Rule("link", frozenset({"NO_HEAD"}), Reach.OWN, {"nfs": ANY, "mpi": ANY}),
    Rule("disk", ANY, Reach.HEAD, {"nfs": frozenset({"UNUSABLE"}), "mpi": frozenset({"FAILED"})}),
    Rule("export", frozenset({"NOT_SERVING", "NOT_EXPORTED"}), Reach.HEAD, {"nfs": _WITHOUT_SERVER}),
    Rule("nfs", ANY, Reach.OWN, {"mpi": frozenset({"OTHER_SHARE", "FAILED"})}),
    Rule("fan", ANY, Reach.OWN, {"heat": ANY}),
    Rule("mpi", frozenset({"NO_START"}), Reach.ALL, {"mpi": frozenset({"HELD_UP"})}),
)


def trace(head: str, findings: Iterable[Finding]) -> list[Finding]:
    """The same findings, those that follow from another with `because` set to it. `head`: the head's name."""
    found = list(findings)
    ill = [number for number, finding in enumerate(found) if not finding.ok]
    because: dict[int, int] = {}

    def root(number: int) -> int:
        while number in because:
            number = because[number]
        return number

    for rule in RULES:
        for one in ill:
            for other in ill:
                if other not in because and root(one) != other and rule.explains(found[one], found[other], head):
                    because[other] = one
    return [
        replace(finding, because=found[root(number)].name) if number in because else finding
        for number, finding in enumerate(found)
    ]
