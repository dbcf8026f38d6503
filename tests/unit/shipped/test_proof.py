"""When bootstrap proves the cluster (playbooks/proof.yml), and what it says it could not prove."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from clusteradm import shipped
from clusteradm.inventory import load
from clusteradm.playbook import Templates
from clusteradm.playbook import load as load_playbook
from clusteradm.playbook.model import Step
from clusteradm.playbook.run.planner import Planned, Planner
from clusteradm.playbook.state import BEGINNING, RunState

INVENTORY = """\
all:
  vars: {cluster_subnet: 10.0.0.0/24, cluster_interface: eth0}
  children:
    head: {hosts: {head: {cluster_ip: 10.0.0.1}}}
    compute: {hosts: {w1: {cluster_ip: 10.0.0.2}, w2: {cluster_ip: 10.0.0.3}}}
"""
ALL = ("head", "w1", "w2")
RESULTS = {"host_key": {"content": "a2V5"}, "known": {"changed": False}}


class World:
    """A run whose plays before the proof are done. `hosts`: of the run; `failed`: those that did not come that far."""

    def __init__(self, tmp_path: Path, *, hosts: tuple[str, ...] = ALL, failed: tuple[str, ...] = ()) -> None:
        (tmp_path / "inventory.yml").write_text(INVENTORY)
        cluster = load(tmp_path / "inventory.yml")
        playbook = load_playbook(shipped.PLAYBOOKS / "proof.yml", cluster)
        self.plays = playbook.plays
        self.play = playbook.plays[0]
        self.state = RunState(cluster.hosts.values())
        for name in hosts:
            self.state.hosts[name].results.update(RESULTS)
        for name in failed:
            self.state.leave(self.state.hosts[name], BEGINNING, fatal=False)
        self.state.begin_play(self.play, [name for name in hosts if name not in failed], hosts)
        limit = None if hosts == ALL else ",".join(hosts)
        self.planner = Planner(playbook, self.state, Templates(), check=False, diff=False, limit=limit)

    def plan(self, host: str, step: Step) -> Planned:
        return self.planner.plan(self.state.hosts[host], self.play, step)

    def proofs(self) -> list[tuple[str, dict[str, Any]]]:
        """(host, arguments) of each command that would prove something."""
        *steps, _ = self.play.steps
        plans = [(name, self.plan(name, step)) for name in self.state.hosts_left() for step in steps]
        return [(name, planned.request["args"]) for name, planned in plans if planned.request is not None]

    def unproven(self, host: str) -> str:
        last = self.play.steps[-1]
        self.state.advance(self.state.hosts[host], last.index)
        result = self.plan(host, last).result
        return str(result["msg"]) if result is not None and result.get("failed") else ""


def test_a_proof_is_not_repeated_as_long_as_nothing_changes(tmp_path: Path) -> None:
    ((host, args),) = World(tmp_path).proofs()
    assert host == "head" and "head:1 w1:1 w2:1" in args["cmd"]
    assert args["creates"] in args["cmd"].split() and "limited" not in args["creates"]
    assert World(tmp_path).proofs() == [(host, args)] and World(tmp_path).unproven("head") == ""


def test_what_a_run_changes_has_to_be_proven_again(tmp_path: Path) -> None:
    """The key that health missed is there again: the proof of last week says nothing about that."""
    world = World(tmp_path)
    world.state.hosts["w2"].results["authorised"] = {"changed": True}
    ((_, args),) = world.proofs()
    assert args["creates"] not in args["cmd"].split()


def test_what_a_run_changed_that_ended_before_its_proof_is_proven_by_the_next(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.state.hosts["w2"].results["look"] = {"stdout_lines": ["unproven"]}
    ((_, args),) = world.proofs()
    assert args["creates"] not in args["cmd"].split()


@pytest.mark.parametrize(
    ("hosts", "there", "noted"),
    [
        (ALL, {}, True),
        (("w1", "w2"), {"rc": 0}, True),
        (("w1", "w2"), {"rc": 1}, False),
        (("w1", "w2"), {"skipped": True}, False),
    ],
)
def test_nothing_is_left_to_prove_after_a_proof_alone(
    tmp_path: Path, hosts: tuple[str, ...], there: dict[str, Any], noted: bool
) -> None:
    world = World(tmp_path, hosts=hosts)
    world.state.hosts[hosts[0]].results["proof_there"] = there
    world.play = world.plays[1]
    world.state.begin_play(world.play, hosts, hosts)
    plans = [world.plan(host, world.play.steps[0]) for host in hosts]
    assert [plan.request is not None for plan in plans] == [noted] * len(hosts)
    if noted:
        assert all((plan.request or {})["args"]["path"] == "/var/lib/clusteradm/unproven" for plan in plans)


def test_a_limited_run_proves_too(tmp_path: Path) -> None:
    """With the head, where it has changed something, or where no proof is there: a failed one leaves none."""
    world = World(tmp_path, hosts=("head", "w2"))
    ((host, args),) = world.proofs()
    assert host == "head" and "head:1 w2:1" in args["cmd"] and args["creates"] == "/srv/cluster/jobs/.proof/[!r]*"
    world.state.hosts["w2"].results["mounted"] = {"changed": True}
    ((host, args),) = world.proofs()
    assert host == "head" and "/limited-" in args["creates"] and args["creates"].endswith("-again")


def test_a_limited_run_without_the_head_proves_each_time(tmp_path: Path) -> None:
    """It cannot put the head's key back, and a proof from before does not know that it is gone."""
    ((host, args),) = World(tmp_path, hosts=("w1", "w2")).proofs()
    assert host == "w1" and "w1:1 w2:1" in args["cmd"] and "creates" not in args


def test_what_could_not_be_proven_is_said(tmp_path: Path) -> None:
    world = World(tmp_path, failed=("w1",))
    assert [host for host, _ in world.proofs()] == ["head"]
    assert world.unproven("head").startswith("Not proven: w1: not reached, or failed before. Run bootstrap again")
    world = World(tmp_path, failed=("head",))
    assert world.proofs() == [], "nobody waits for a head that is gone"
    assert "Not proven: anything: the head, head, did not come that far." in world.unproven("w1")
    assert world.unproven("w2") == "", "one says it for all"


def test_why_the_head_could_not_start_ranks_on_the_hosts_of_a_limited_run(tmp_path: Path) -> None:
    world = World(tmp_path, hosts=("w2",))
    world.state.hosts["w2"].results["proof_there"] = {"rc": 1, "stderr": "Host key verification failed."}
    assert "Not proven: that the head starts ranks there: Host key verification failed." in world.unproven("w2")
    assert world.unproven("w2").endswith("on the head as well.")
    world.state.hosts["w2"].results["proof_there"] = {"rc": 0, "stderr": "", "changed": True}
    assert world.unproven("w2") == ""


def test_whatever_a_board_puts_among_the_proofs_is_removed(tmp_path: Path) -> None:
    """A folder, a link to one, a link to nothing: the share is every board's."""
    scope = runpy.run_path(str(shipped.TEMPLATES / "node/opt/clusteradm/bin/prove-cluster.j2"))
    proofs, outside = tmp_path / "proofs", tmp_path / "outside"
    (proofs / "folder" / "in").mkdir(parents=True)
    (proofs / "run-1").mkdir()
    outside.mkdir()
    (outside / "kept").write_text("")
    (proofs / "link").symlink_to(outside)
    (proofs / "dangling").symlink_to(tmp_path / "nothing")
    (proofs / "file").write_text("")
    scope["remove"](str(proofs), lambda old: True)
    assert [path.name for path in proofs.iterdir()] == ["run-1"] and (outside / "kept").exists()
