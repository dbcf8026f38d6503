"""Every fault that the lab can do: its state, cause and remedy, in time; and the next job goes round it.

Several boards have faults at once, which health has to tell apart, and which costs one survey instead of three.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Cluster

from clusteradm.lab.digits import data
from clusteradm.lab.topology import boards

pytestmark = pytest.mark.lab

SECONDS = 10.0
ADDRESS = {board.name: board.tpus[0].address for board in boards(4, 1)}
NODES = tuple(ADDRESS)
# What bootstrap wrote, and what a faulty TPU does not change.
MANAGED = "/etc/clusteradm/hostfile /etc/openmpi/openmpi-mca-params.conf /etc/fstab"


@dataclass(frozen=True)
class Case:
    """A fault of a board, and what is to be said of it: `cause` and `remedy` are regular expressions.

    `of`: whose finding it is, where it is not the board's or its TPU's; `follows`: (host, check, state) of what is
    said to follow from it.
    """

    node: str
    fault: str
    check: str
    state: str
    cause: str
    remedy: str
    of: str = ""
    follows: frozenset[tuple[str, str, str]] = field(default=frozenset())

    @property
    def subject(self) -> str:
        on_bus = self.check == "tpu" and self.state != "ABSENT"
        return self.of or (f"{self.node} {ADDRESS[self.node]}" if on_bus else self.node)


SILENT = r"check its power and its cable"
STALE = frozenset((node, "nfs", "STALE") for node in ("w1", "w2", "w3"))
# Each with the hosts that the next job has ranks on.
GROUPS: list[tuple[list[Case], list[str]]] = [
    (
        [
            Case("w1", "hot", "tpu", "THROTTLED", r"91.* °C is above its trip point 1 .* 125 of 500 MHz", "air"),
            Case("w2", "wedged", "tpu", "WEDGED", r"-89\.7 °C", rf"clusteradm tpu reset w2:{ADDRESS['w2']}"),
            Case("w3", "lamed", "tpu", "LAMED", r"MSI-X", r"13 MSI-X vectors"),
        ],
        ["head"],
    ),
    (
        [
            Case("head", "hot", "tpu", "HOT", r"does not throttle \(temp_poll_interval 0\)", "air"),
            Case("w1", "absent", "tpu", "ABSENT", r"1 of 1 Edge TPUs .*empty: bridge ", r"reseat the module"),
            Case("w2", "permission", "tpu", "NO_PERMISSION", r"apex_0 is root:root 0600", r"clusteradm bootstrap"),
        ],
        ["w3"],
    ),
    (
        [
            Case("w1", "busy", "tpu", "BUSY", r"process \d+ of root: .*hold_tpu\.py", r"wait for it, or end it"),
            Case("w2", "disk", "disk", "FULL", r"/var has 0 of 4 MB free", r"apt-get clean"),
            Case("w3", "sshd", "ssh", "UNREACHABLE", r"closed the connection", r"on its console: systemctl status ssh"),
        ],
        ["head", "w2"],
    ),
    (
        [
            Case("w1", "freeze", "ssh", "UNREACHABLE", r"no answer within 5 s", SILENT),
            Case("w2", "power", "ssh", "UNREACHABLE", r".", SILENT),
            Case("w3", "cut", "ssh", "UNREACHABLE", r".", SILENT),
        ],
        ["head"],
    ),
    (
        [
            Case(
                "head", "nfs", "export", "NOT_SERVING", r"takes connections, but does not answer",
                r"systemctl restart nfs-ganesha", follows=STALE,
            ),
        ],
        ["head"],
    ),
    (
        [
            Case(
                "w1", "address", "link", "SAME_ADDRESS", r"w1 has its address 10\.78\.0\.1, too",
                r"on w1: ip address del 10\.78\.0\.1/24 dev enp2s0", of="head",
                follows=frozenset({("w1", "nfs", "STALE"), ("w1", "mpi", "NO_LOGIN")}),
            ),
        ],
        ["head", "w2", "w3"],
    ),
]  # fmt: skip
NAMES = ["-".join(case.fault for case in cases) for cases, _ in GROUPS]


@pytest.fixture
def array(tmp_path: Path) -> Path:
    """A few digits."""
    np.save(tmp_path / "few.npy", data.load().held_out.images[:40])
    return tmp_path / "few.npy"


@pytest.fixture
def restored(cluster: Cluster) -> Iterator[None]:
    """Each test finds the boards well, which a clock or a server is some time after a fault."""
    cluster.well()
    yield
    cluster.restore()


def managed(cluster: Cluster, nodes: list[str]) -> dict[str, str]:
    return {node: cluster.on(node, "sh", "-c", f"sha256sum {MANAGED} 2>/dev/null; true") for node in nodes}


def ranks(cluster: Cluster, array: Path) -> tuple[dict[str, int], str]:
    """Ranks per host of a job of now, by the hostfile that mpirun was given on the head; and what the command said."""
    output = array.with_suffix(".jsonl")
    _, messages = cluster.run("infer", "--model", "digits", array, "--output", output)
    assert len(output.read_text().splitlines()) == 40
    (job,) = re.findall(r"^job (\S+):", messages, re.M)
    lines = cluster.on("head", "cat", f"/var/lib/clusteradm/jobs/{job}/run/hostfile").splitlines()
    slots = {line.split()[0]: int(line.partition("slots=")[2]) for line in lines}
    slots["head"] -= 1  # the dispatcher's
    return {host: count for host, count in slots.items() if count}, messages


@pytest.mark.alone
@pytest.mark.parametrize(("cases", "fit"), GROUPS, ids=NAMES)
def test_a_fault_is_found_in_time_and_the_next_job_goes_round_it(
    cluster: Cluster, digits_model: Path, array: Path, restored: None, cases: list[Case], fit: list[str]
) -> None:
    before = managed(cluster, fit)
    for case in cases:
        cluster.lab.fault(case.node, case.fault)
    silent = [case.node for case in cases if case.check == "ssh"]
    document = cluster.health(expect=4 if silent else 3)
    roots = {each["subject"]: each for each in document["not_ok"] if not each["because"]}
    assert set(roots) == {case.subject for case in cases}
    for case in cases:
        finding = roots[case.subject]
        assert (finding["check"], finding["state"]) == (case.check, case.state)
        assert re.search(case.cause, finding["cause"]), finding["cause"]
        assert re.search(case.remedy, finding["remedy"]), finding["remedy"]
        name = f"{case.subject} {case.check}: {case.state}"
        follow = [each for each in document["not_ok"] if each["because"] == name]
        assert {(each["subject"], each["check"], each["state"]) for each in follow} == case.follows
    assert document["seconds"] < SECONDS
    found, messages = ranks(cluster, array)
    assert found == dict.fromkeys(fit, 1)
    for node in set(NODES) - set(fit):
        assert re.search(rf"^warning: {node}\b.*( is left out| lacks an Edge TPU): ", messages, re.M), messages
    assert managed(cluster, fit) == before


@pytest.mark.alone
def test_what_is_well_again_is_used_again(cluster: Cluster, digits_model: Path, array: Path) -> None:
    cluster.well()
    assert ranks(cluster, array)[0] == dict.fromkeys(NODES, 1)


def test_the_faults_of_the_lab_are_all_here() -> None:
    from clusteradm.lab.fault_kinds import FAULTS

    assert {case.fault for cases, _ in GROUPS for case in cases} == set(FAULTS)


@pytest.mark.alone
def test_the_whole_cluster_without_its_head(cluster: Cluster, restored: None) -> None:
    """What everybody waits for is one thing to look at, and nobody waits for long."""
    cluster.lab.fault("head", "freeze")
    document: dict[str, Any] = cluster.health(expect=4)
    assert [each["subject"] for each in document["not_ok"] if not each["because"]] == ["head"]
    follow = {(each["subject"], each["check"], each["state"]) for each in document["not_ok"] if each["because"]}
    assert follow >= STALE
    assert document["seconds"] < SECONDS
