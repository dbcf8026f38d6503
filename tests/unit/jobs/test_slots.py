"""Slots of a job, and the reasons why it does without a host, or without a TPU."""

from __future__ import annotations

import pytest

from clusteradm.errors import HostFailed
from clusteradm.fleet.drains import Drain
from clusteradm.health import Tpu
from clusteradm.health.finding import error, ok, warning
from clusteradm.jobs.slots import choose, left_out, taken
from clusteradm.node.spec.wire.job import Slot

A, B = "0000:01:00.0", "0000:02:00.0"
FINDINGS = [
    ok("head", "ssh", "ok"),
    error("w1", "ssh", "UNREACHABLE", "no answer within 5 s", "r"),
    error("w2", "nfs", "STALE", "/srv/cluster does not answer", "r"),
    error("w2 x", "tpu", "WEDGED", "it hangs", "r"),
    error("w3", "nfs", "ROOT", "root is root there", "r"),
    ok(f"w3 {A}", "tpu", "/dev/apex_0, in use by job J1"),
    warning(f"w3 {B}", "tpu", "LINK", "slow", "r"),
    error("w3", "tpu", "ABSENT", "1 of 3 Edge TPUs (cluster_tpus) are not on the PCI bus", "r"),
]


def test_what_is_said() -> None:
    able = {"head": (), "w3": (Tpu(B, "/dev/apex_1"),)}
    assert list(left_out(FINDINGS, able, cpu=False)) == [
        "w1 is left out: UNREACHABLE: no answer within 5 s",
        "w2 is left out: STALE: /srv/cluster does not answer",
        "w3 lacks an Edge TPU: ABSENT: 1 of 3 Edge TPUs (cluster_tpus) are not on the PCI bus",
    ]
    assert list(taken(FINDINGS, able)) == [f"w3 {A} is left out: /dev/apex_0, in use by job J1"]
    assert list(taken(FINDINGS, {"w3": (Tpu(A, "/dev/apex_0"), Tpu(B, "/dev/apex_1"))})) == [], "it is waited for"


def test_a_job_on_the_cpus_minds_no_tpu() -> None:
    assert [text.split()[0] for text in left_out(FINDINGS, {"head": (), "w3": ()}, cpu=True)] == ["w1", "w2"]


def test_slots_are_in_the_order_of_the_hosts_without_what_is_drained() -> None:
    able = {"w3": (Tpu(A, "/dev/apex_0"), Tpu(B, "/dev/apex_1")), "head": (), "w4": (Tpu(A, "/dev/apex_0"),)}
    drains = [Drain("w3", A, "hot", "ann", 1), Drain("w4", None, "", "ann", 1), Drain("w9", None, "", "ann", 1)]
    hosts = ["head", "w3", "w4"]
    found = choose(hosts, drains, [], able)
    assert found.usable == (Slot("w3", (B,)),)
    assert (found.count, [drain.subject for drain in found.drained]) == (1, [f"w3:{A}", "w4"])
    on_cpus = choose(hosts, drains, [], able, cpu=True)
    assert on_cpus.usable == (Slot("head", (None,)), Slot("w3", (None,)))
    found.check()
    with pytest.raises(HostFailed, match="no host has an Edge TPU that is healthy, free and in service"):
        choose(["head"], [], [], able).check()
