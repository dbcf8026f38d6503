"""One illness, one thing to mend: what only follows from it says so."""

from __future__ import annotations

from clusteradm.health import consequence
from clusteradm.health.finding import Finding, Severity, ill, well


def traced(*findings: tuple[str, str, str]) -> dict[tuple[str, str], str]:
    made = [ill(subject, check, state, "c", "r") for subject, check, state in findings]
    return {(one.subject, one.check): one.because for one in consequence.trace("head", made)}


def test_a_server_that_is_gone_explains_every_mount() -> None:
    found = traced(("head", "export", "NOT_SERVING"), ("w1", "nfs", "STALE"), ("w2", "nfs", "STALE"))
    assert found == {
        ("head", "export"): "",
        ("w1", "nfs"): "head export: NOT_SERVING",
        ("w2", "nfs"): "head export: NOT_SERVING",
    }
    # Another host's is nobody's server, and a foreign mount is not the server's fault.
    assert not any(traced(("w1", "export", "NOT_SERVING"), ("w2", "nfs", "STALE")).values())
    assert not any(traced(("head", "export", "NOT_SERVING"), ("w2", "nfs", "FOREIGN")).values())


def test_the_first_cause_is_named_not_the_one_between() -> None:
    found = traced(
        ("w1", "network", "DOWN"), ("w1", "link", "NO_HEAD"), ("w1", "nfs", "STALE"), ("w1", "mpi", "NO_LOGIN")
    )
    assert set(found.values()) == {"", "w1 network: DOWN"} and found["w1", "network"] == ""
    found = traced(("w1", "mpi", "OTHER_SHARE"), ("w1", "nfs", "NOT_MOUNTED"))
    assert found == {("w1", "mpi"): "w1 nfs: NOT_MOUNTED", ("w1", "nfs"): ""}


def test_two_with_the_heads_address() -> None:
    found = traced(
        ("head", "link", "SAME_ADDRESS"),
        ("w1", "nfs", "STALE"),
        ("w1", "mpi", "NO_LOGIN"),
        ("w2", "ssh", "UNREACHABLE"),
    )
    assert list(found.values()) == ["", *["head link: SAME_ADDRESS"] * 3]
    assert traced(("w1", "link", "SAME_ADDRESS"), ("w1", "link", "NO_HEAD"), ("w2", "nfs", "STALE")) == {
        ("w1", "link"): "w1 link: SAME_ADDRESS",
        ("w2", "nfs"): "",
    }


def test_a_silent_head_explains_who_waits_for_it() -> None:
    found = traced(
        ("head", "ssh", "UNREACHABLE"), ("w1", "link", "NO_HEAD"), ("w1", "nfs", "STALE"), ("w1", "disk", "FULL")
    )
    assert [bool(because) for because in found.values()] == [False, True, True, False]


def test_who_holds_up_the_others() -> None:
    found = traced(("w2", "mpi", "NO_START"), ("head", "mpi", "HELD_UP"), ("w1", "mpi", "HELD_UP"))
    assert list(found.values()) == ["", *["w2 mpi: NO_START"] * 2]


def test_nothing_explains_itself_and_what_is_well_needs_no_explanation() -> None:
    findings = [well("w1", "nfs"), ill("head", "export", "NOT_SERVING", "c", "r"), well("w1", "mpi")]
    assert consequence.trace("head", findings) == findings
    every = [
        Finding(host, rule.check, state, Severity.ERROR)
        for host in ("head", "w1")
        for rule in consequence.RULES
        for state in (rule.states or {"ANY"})
    ]
    roots = {one.name for one in consequence.trace("head", every) if not one.because}
    for one in consequence.trace("head", every):
        assert not one.because or one.because in roots, "every explanation is itself something to mend"
