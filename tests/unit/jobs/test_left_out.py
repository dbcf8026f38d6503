"""Why a job does without a host, or without a TPU, in one line for each."""

from __future__ import annotations

from clusteradm.cli.infer import _left_out
from clusteradm.health import Tpu
from clusteradm.health.finding import error, ok, warning

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
    assert list(_left_out(FINDINGS, able, cpu=False)) == [
        "w1 is left out: UNREACHABLE: no answer within 5 s",
        "w2 is left out: STALE: /srv/cluster does not answer",
        f"w3 {A} is left out: /dev/apex_0, in use by job J1",
        "w3 lacks an Edge TPU: ABSENT: 1 of 3 Edge TPUs (cluster_tpus) are not on the PCI bus",
    ]


def test_a_job_on_the_cpus_minds_no_tpu() -> None:
    assert [text.split()[0] for text in _left_out(FINDINGS, {"head": (), "w3": ()}, cpu=True)] == ["w1", "w2"]
