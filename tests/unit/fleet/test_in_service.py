"""What is out of service has no slots."""

from __future__ import annotations

from clusteradm.fleet.drains import Drain, in_service
from clusteradm.health import Tpu

A, B = Tpu("0001:01:00.0", "/dev/apex_1"), Tpu("0002:01:00.0", "/dev/apex_0")


def test_a_host_and_a_single_tpu() -> None:
    slots = {"w1": (A, B), "w2": (A, B), "w3": (A,)}
    drains = [
        Drain("w1", None, "", "ann", 0),
        Drain("w2", "0001:01:00.0", "", "ann", 0),
        Drain("gone", None, "", "", 0),
    ]
    assert in_service(slots, drains) == {"w1": (), "w2": (B,), "w3": (A,)}
    assert in_service(slots, []) == slots
    assert drains[1].subject == "w2:0001:01:00.0"
