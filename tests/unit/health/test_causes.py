"""Findings caused by another name it, and no other finding does."""

from __future__ import annotations

import itertools

import pytest

from clusteradm.health import causes
from clusteradm.health.finding import Finding, Severity, error, ok


def traced(*findings: str, behind: tuple[str, ...] = ()) -> dict[str, str]:
    """Findings as "HOST CHECK: STATE", or "HOST CHECK: OK"; each with its cause."""
    made = []
    for name in findings:
        subject, check, state = name.rsplit(" ", 2)
        check = check.rstrip(":")
        made.append(ok(subject, check) if state == "OK" else error(subject, check, state, "c", "r"))
    return {one.name: one.because for one in causes.trace("head", made, behind)}


# The cause; the findings that it causes; other findings, which it does not.
CASES: list[tuple[str, list[str], list[str]]] = [
    # The head's server died.
    ("head export: NOT_SERVING", ["w1 nfs: STALE", "w2 nfs: STALE"], ["w3 nfs: FOREIGN", "w4 nfs: ROOT"]),
    ("w1 export: NOT_SERVING", [], ["w2 nfs: STALE"]),
    # The head's own folder cannot be used: its server is not to blame.
    (
        "head nfs: UNUSABLE",
        ["head export: NOT_EXPORTED", "w1 nfs: STALE", "head mpi: FAILED"],
        ["head network: NAMES"],
    ),
    ("head disk: FULL", ["head nfs: UNUSABLE", "w1 nfs: UNUSABLE", "head mpi: FAILED"], ["w1 nfs: ROOT"]),
    ("w1 disk: FULL", ["w1 mpi: NO_START"], ["w2 mpi: NO_START", "w1 units: FAILED"]),
    # Two with one address.
    (
        "head link: SAME_ADDRESS",
        ["w1 nfs: STALE", "w1 mpi: NO_LOGIN", "w2 link: NO_HEAD"],
        ["w5 ssh: UNREACHABLE", "w4 link: HALF_DUPLEX", "w6 nfs: FOREIGN", "head nfs: EXPOSED"],
    ),
    ("w1 link: SAME_ADDRESS", ["w1 link: NO_HEAD", "w1 mpi: NO_LOGIN", "w1 ssh: UNREACHABLE"], ["w2 nfs: STALE"]),
    # A cable.
    ("w1 network: DOWN", ["w1 link: NO_HEAD", "w1 nfs: STALE", "w1 mpi: NO_LOGIN"], ["w2 nfs: STALE"]),
    ("head network: DOWN", ["head export: NOT_SERVING", "w1 link: NO_HEAD", "w1 nfs: STALE"], ["w1 disk: FULL"]),
    ("w1 link: SLOWER", ["w1 mpi: SLOW_LINK"], ["w2 mpi: SLOW_LINK"]),
    # The head is silent.
    ("head ssh: UNREACHABLE", ["w1 link: NO_HEAD", "w1 nfs: STALE"], ["w1 disk: FULL", "w2 ssh: UNREACHABLE"]),
    ("head ssh: FAILED", [], ["w1 nfs: NOT_MOUNTED"]),
    ("w1 nfs: NOT_MOUNTED", ["w1 mpi: OTHER_SHARE"], ["w2 mpi: OTHER_SHARE"]),
    ("w2 mpi: NO_START", ["head mpi: HELD_UP", "w1 mpi: HELD_UP"], []),
    ("w1 runtime: MISMATCH", ["w1 0000:01:00.0 tpu: RUNTIME", "w1 0000:02:00.0 tpu: RUNTIME"], ["w2 x tpu: RUNTIME"]),
    ("w1 fan: STILL", ["w1 heat: HOT"], ["w1 x tpu: HOT"]),
]


@pytest.mark.parametrize(("root", "follow", "others"), CASES, ids=[case[0] for case in CASES])
def test_which_findings_are_grouped_under_which(root: str, follow: list[str], others: list[str]) -> None:
    for order in ([root, *follow, *others], [*others, *reversed(follow), root]):
        found = traced(*order)
        assert {name: because for name, because in found.items() if because} == dict.fromkeys(follow, root)


def test_a_head_whose_sshd_alone_is_dead_explains_no_cable() -> None:
    failing = ("head ssh: UNREACHABLE", "w1 link: NO_HEAD", "w1 nfs: STALE")
    found = traced(*failing, "w2 link: OK", "w2 nfs: OK")
    assert found["w1 link: NO_HEAD"] == "" and found["w1 nfs: STALE"] == "w1 link: NO_HEAD"


def test_a_head_that_stands_still_answers_echoes_and_nothing_else() -> None:
    found = traced("head ssh: UNREACHABLE", "w1 nfs: STALE", "w1 link: OK")
    assert found["w1 nfs: STALE"] == "head ssh: UNREACHABLE"


def test_who_is_only_reached_through_the_head() -> None:
    silent = [f"{host} ssh: UNREACHABLE" for host in ("head", "w1", "w2")]
    assert [bool(because) for because in traced(*silent, behind=("w1", "w2")).values()] == [False, True, True]
    assert not any(traced(*silent).values()) and not any(traced(*silent[1:], behind=("w1", "w2")).values())


def test_nothing_causes_itself_and_every_cause_is_to_be_repaired() -> None:
    findings = [ok("w1", "nfs"), error("head", "export", "NOT_SERVING", "c", "r"), ok("w1", "mpi")]
    assert causes.trace("head", findings) == findings
    every = [
        Finding(host, rule.check, state, Severity.ERROR)
        for host, rule in itertools.product(("head", "w1", "w2"), causes.RULES)
        for state in (rule.states or {"ANY"})
    ]
    traces = causes.trace("head", every, ("w1", "w2"))
    roots = {one.name for one in traces if not one.because}
    assert roots and all(not one.because or one.because in roots for one in traces)
