"""The check of a host's public key file against the key that was accepted at first contact (playbooks/base.yml)."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusteradm import shipped
from clusteradm.inventory import Host, load
from clusteradm.playbook import PlaybookRun, Templates
from clusteradm.playbook import load as load_playbook
from clusteradm.playbook.render.undefined import strict
from clusteradm.playbook.run.planner import Planner
from clusteradm.playbook.state import RunState
from clusteradm.testing import FakeHosts

ONE, OTHER = ("AAAAC3NzaC1lZDI1NTE5AAAAI" + letter * 43 for letter in "AB")
INVENTORY = """\
all:
  vars: {cluster_subnet: 10.0.0.0/24, cluster_interface: eth0}
  children:
    head: {hosts: {head: {cluster_ip: 10.0.0.1, ansible_host: 192.0.2.1, ansible_port: 2222}}}
    compute: {hosts: {w1: {cluster_ip: 10.0.0.2}}}
"""


@pytest.fixture(params=["site.yml", "site/hosts.yml"])
def inventory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The inventory: a file, or a folder. Its keys are beside it."""
    file = tmp_path / str(request.param)
    file.parent.mkdir(exist_ok=True)
    file.write_text(INVENTORY)
    (tmp_path / "known_hosts").write_text(f"[192.0.2.1]:2222 ssh-ed25519 {ONE}\nw1 ssh-rsa {OTHER}\n")
    return tmp_path / Path(str(request.param)).parts[0]


def accepted(planner: Planner, state: RunState, host: Host) -> list[str]:
    playbook = load_playbook(shipped.PLAYBOOKS / "base.yml", load(Path(planner._inventory)))
    play = playbook.plays[0]
    state.begin_play(play, list(state.hosts))
    variables = planner.variables(host, play, play.steps[0].task, 0)
    found = strict(variables.render("{{ accepted }}"))
    assert isinstance(found, list)
    return found


def test_the_file_beside_the_inventory_where_nobody_says_the_key(inventory: Path) -> None:
    """As with ansible-playbook."""
    cluster = load(inventory)
    state = RunState(cluster.hosts.values())
    playbook = load_playbook(shipped.PLAYBOOKS / "base.yml", cluster)
    planner = Planner(playbook, state, Templates(), check=False, diff=False, limit=None)
    assert accepted(planner, state, cluster.hosts["head"]) == [ONE]
    assert accepted(planner, state, cluster.hosts["w1"]) == []


@pytest.mark.parametrize("named", [False, True])
def test_clusteradm_says_which_key_it_accepted(inventory: Path, named: bool, tmp_path: Path) -> None:
    cluster = load(inventory)
    path = tmp_path / "mine" if named else cluster.known_hosts
    if named:
        path.write_text(f"[192.0.2.1]:2222 ssh-ed25519 {OTHER}\n")
    playbook = load_playbook(shipped.PLAYBOOKS / "base.yml", cluster)
    run = PlaybookRun(playbook, FakeHosts().connections(cluster, path))
    planner, state = run._shared.planner, run._run_state
    assert accepted(planner, state, cluster.hosts["head"]) == [OTHER if named else ONE]
    assert accepted(planner, state, cluster.hosts["w1"]) == []
