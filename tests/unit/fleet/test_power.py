"""Reboot and power-off: turns, their order, what stops them, and what they leave drained."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from clusteradm import inventory
from clusteradm.errors import ClusteradmError, HostFailed, HostUnreachable, UsageError
from clusteradm.fleet import power
from clusteradm.fleet.power import Waits
from clusteradm.inventory import Host
from clusteradm.node.spec.wire.power import POWEROFF, REBOOT
from clusteradm.testing import FakeConnections, FakeHosts

INVENTORY = """\
all:
  vars: {cluster_subnet: 10.0.0.0/24, cluster_interface: eth0}
  children:
    head: {hosts: {head: {cluster_ip: 10.0.0.1}}}
    compute: {hosts: {w1: {cluster_ip: 10.0.0.2}, w2: {cluster_ip: 10.0.0.3}, w3: {cluster_ip: 10.0.0.4}}}
"""


class Fleet:
    """Hosts with a boot each, which a reboot changes; `stuck`: those that do not come back; `ill`: errors after it."""

    def __init__(self, folder: Path) -> None:
        (folder / "inventory.yml").write_text(INVENTORY)
        self.hosts = FakeHosts()
        self.cluster = inventory.load(folder / "inventory.yml")
        self.connections = FakeConnections(self.hosts, self.cluster, folder / "k")
        self.boots = dict.fromkeys(self.cluster.hosts, 0)
        self.drained: dict[str, dict[str, Any]] = {}
        self.stuck: set[str] = set()
        self.ill: set[str] = set()
        self.log: list[str] = []
        self.jobs: list[dict[str, list[str]]] = []
        self.asking = threading.Lock()
        for name in self.cluster.hosts:
            self.hosts[name].answer_always("hello", lambda fields, name=name: self.hello(name))
            self.hosts[name].answer_always("change-power", lambda fields, name=name: self.change(name, fields))
            self.hosts[name].answer_always("probe", lambda fields, name=name: {"document": {}})
        self.hosts["head"].answer_always("drains", self.drains)

    def hello(self, name: str) -> dict[str, Any]:
        if name in self.stuck and self.boots[name]:
            raise HostUnreachable("no route to it", where=name)
        return {"protocol": 1, "python": "3.7", "time": 0.0, "boot": f"boot{self.boots[name]}"}

    def change(self, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        self.log.append(f"{fields['action']} {name}")
        self.boots[name] += 1
        return {"boot": f"boot{self.boots[name] - 1}"}

    def drains(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        assert self.asking.acquire(blocking=False), "two threads ask the head at once"
        for name, about in fields["drain"].items():
            self.log.append(f"drain {name}")
            self.drained[name] = {**about, "since": 1}
        for name in fields["undrain"]:
            self.log.append(f"undrain {name}")
            del self.drained[name]
        self.asking.release()
        return {"drains": dict(self.drained)}

    def busy(self) -> dict[str, list[str]]:
        return self.jobs.pop(0) if self.jobs else {}

    def turns(self, number: int = 1, names: str = "all", waits: Waits = Waits(5.0, 5.0, 5.0)) -> power.Turns:  # noqa: B008
        hosts = self.cluster.select(names)
        turns = power.Turns()
        power.in_turns(self.connections, hosts, number, waits, self.busy, "ann", lambda *text: None, turns)
        return turns


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    one = Fleet(tmp_path)
    clock = [0.0]
    monkeypatch.setattr(power.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    monkeypatch.setattr(power.time, "monotonic", lambda: clock[0])

    def errors(connections: object, host: Host) -> set[tuple[str, str]]:
        old = {("tpu", "HUNG")} if host.name == "w2" else set()
        return old | ({("nfs", "STALE")} if host.name in one.ill and one.boots[host.name] else set())

    monkeypatch.setattr(power, "_errors", errors)
    return one


def test_one_after_the_other_and_the_head_last(fleet: Fleet) -> None:
    turns = fleet.turns()
    assert turns == power.Turns(["w1", "w2", "w3", "head"])
    assert fleet.log == [
        f"{what} {name}" for name in ("w1", "w2", "w3", "head") for what in ("drain", "reboot", "undrain")
    ]
    assert not fleet.drained


def test_several_at_a_time_but_the_head_by_itself(fleet: Fleet) -> None:
    assert sorted(fleet.turns(9).done) == ["head", "w1", "w2", "w3"]
    assert fleet.log[-3:] == ["drain head", "reboot head", "undrain head"]


def test_a_host_that_does_not_come_back_is_the_last(fleet: Fleet) -> None:
    fleet.stuck = {"w2"}
    turns = fleet.turns()
    assert (turns.done, turns.drained, turns.left) == (["w1"], ["w2"], ["w3", "head"])
    assert isinstance(turns.errors["w2"], HostUnreachable) and "did not come back within 5 s" in str(turns.errors["w2"])
    assert list(fleet.drained) == ["w2"] and "reboot w3" not in fleet.log


def test_nor_is_one_begun_after_a_host_that_is_ill(fleet: Fleet) -> None:
    """What was wrong before is no reason: w2 has a TPU that hangs."""
    fleet.ill = {"w3"}
    turns = fleet.turns()
    assert (turns.done, turns.drained, turns.left) == (["w1", "w2"], ["w3"], ["head"])
    assert "not healthy after 5 s: nfs: STALE" in str(turns.errors["w3"])


def test_what_was_drained_before_stays_so(fleet: Fleet) -> None:
    fleet.drained["w1"] = {"reason": "fan", "by": "bob", "since": 1}
    assert fleet.turns(names="w1").done == ["w1"]
    assert fleet.drained["w1"]["reason"] == "fan" and fleet.log == ["reboot w1"]


def test_the_end_of_its_jobs_is_waited_for(fleet: Fleet) -> None:
    fleet.jobs = [{"w1": ["J"], "w2": ["K"]}, {"w1": ["J"]}, {"w2": ["K"]}]
    assert fleet.turns(names="w1").done == ["w1"] and fleet.jobs == []
    fleet.jobs = [{"w1": ["J"]}] * 9
    turns = fleet.turns(names="w1,w2")
    assert turns.left == ["w2"] and "job J still uses it after 5 s; it was not rebooted" in str(turns.errors["w1"])
    assert not fleet.drained and not turns.drained and fleet.log.count("reboot w1") == 1
    fleet.jobs = [{"w1": ["J"]}] * 9
    assert fleet.turns(names="w1", waits=Waits(5.0, 5.0, None)).done == ["w1"]
    fleet.jobs = [{"w1": ["J"]}, {}]
    assert fleet.turns(names="head").done == ["head"] and fleet.jobs == []


def test_all_at_once_costs_no_other(fleet: Fleet) -> None:
    fleet.stuck = {"w1"}
    hosts = fleet.cluster.select("all")
    done = power.at_once(fleet.connections, hosts, REBOOT, Waits(5.0), lambda *text: None)
    assert sorted(done.ok) == ["head", "w2", "w3"] and list(done.failed) == ["w1"]
    assert fleet.log[-1] == "reboot head"


def test_off_is_off_when_it_does_not_answer(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.stuck = {"w1"}

    def change(action: str, names: str) -> dict[str, ClusteradmError]:
        hosts = fleet.cluster.select(names)
        return power.at_once(fleet.connections, hosts, action, Waits(5.0), lambda *text: None).failed

    assert change(POWEROFF, "w1") == {}
    assert "started again instead" in str(change(POWEROFF, "w2")["w2"])
    monkeypatch.setattr(fleet, "hello", lambda name: {"protocol": 1, "python": "3", "time": 0.0, "boot": "boot0"})
    assert isinstance(failed := change(POWEROFF, "w3")["w3"], HostFailed) and "still answers" in str(failed)


def test_this_machine_is_not_rebooted() -> None:
    here = Host("pc", ("head",), {"ansible_connection": "local"}, {})
    with pytest.raises(UsageError, match="this machine"):
        power.head_last([here])


@pytest.mark.parametrize(("error", "left"), [(HostUnreachable, ["w1"]), (HostFailed, [])])
def test_a_drain_without_an_answer_is_said(
    fleet: Fleet, error: type[ClusteradmError], left: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be in effect, unless the head has refused it."""

    def fail(*about: object, **more: object) -> None:
        raise error("no answer", where="head")

    monkeypatch.setattr(power.Drains, "drain", fail)
    turns = fleet.turns(names="w1")
    assert (turns.drained, turns.done, list(turns.errors)) == (left, [], ["w1"]) and not fleet.log
