"""Which value wins, and what a template sees of other hosts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from clusteradm.inventory import Cluster
from clusteradm.playbook import Playbook, Templates
from clusteradm.playbook.render.undefined import strict
from clusteradm.playbook.render.variables import Variables
from clusteradm.playbook.run.planner import Planner
from clusteradm.playbook.state import BEGINNING, Pending, RunState

PLAYBOOK = """
    - hosts: all
      become: true
      vars:
        colour: play
        size: play
        shape: play
        lazy: "{{ inventory_hostname }} {{ later }}"
        circle: "{{ round }}"
        round: "{{ circle }}"
        mixed: {good: "{{ size }}", bad: "{{ nothing }}"}
        broken: "{{ 'x' | from_json }}"
      vars_files: [more.yml]
      tasks:
        - name: First
          command: echo
          register: first
        - name: Second
          command: echo
          vars: {shape: task, later: now}
"""


class World:
    def __init__(self, playbook: Playbook, cluster: Cluster) -> None:
        self.templates = Templates()
        self.play = playbook.plays[0]
        self.run_state = RunState(cluster.hosts.values())
        self.run_state.begin_play(self.play, cluster.hosts)
        self.planner = Planner(playbook, self.run_state, self.templates, check=False, diff=False, limit=None)
        self.cluster = cluster

    def at(self, position: int, host: str = "w1") -> Variables:
        step = self.play.steps[position]
        return self.planner.variables(self.cluster.hosts[host], self.play, step.task, position)

    def value(self, text: str, position: int = 1) -> Any:
        return strict(self.at(position).render(text))


@pytest.fixture
def world(book: Callable[[str], Playbook], cluster: Cluster, tmp_path: Any) -> World:
    (tmp_path / "more.yml").write_text("size: file\nshape: file\n")
    made = World(book(PLAYBOOK), cluster)
    for state in made.run_state.hosts.values():
        made.run_state.advance(state, 1)
        state.facts = {"kernel": "6.1", "date_time": {"epoch": "7"}}
    return made


def test_the_stronger_value_wins(world: World) -> None:
    assert world.value("{{ [colour, size, shape, greeting] }}") == ["play", "file", "task", "hello w1"]
    world.run_state.hosts["w1"].results["shape"] = "registered"
    assert world.value("{{ shape }}") == "registered"
    assert world.at(1).with_local({"shape": "item"})["shape"] == "item"


def test_variables_are_rendered_where_they_are_used(world: World) -> None:
    assert world.value("{{ lazy }}", 1) == "w1 now"
    with pytest.raises(Exception, match=r"'later' is undefined \(in the variable 'lazy'\)"):
        world.value("{{ lazy }}", 0)
    assert world.value("{{ lazy is defined }}", 0) is False
    assert world.value("{{ mixed.good }}") == "file"
    assert world.value("{{ mixed.bad is defined }}") is False
    with pytest.raises(Exception, match="'nothing' is undefined"):
        world.value("{{ mixed }}")


def test_a_variable_that_fails_is_an_error_only_where_it_is_used(world: World) -> None:
    assert world.value("{{ 1 if true else broken }}") == 1
    with pytest.raises(Exception, match=r"\(in the variable 'broken'\)"):
        world.value("{{ broken }}")
    with pytest.raises(Exception, match="circle -> round -> circle"):
        world.value("{{ circle }}")


def test_other_hosts_are_seen_without_the_plays_variables(world: World) -> None:
    assert world.value("{{ hostvars.w2.cluster_ip }}") == "10.78.0.3"
    assert world.value("{{ hostvars['head'].greeting }}") == "hello head"
    assert world.value("{{ hostvars.w2.colour }}") == "blue"
    assert world.value("{{ hostvars.w2.size is defined }}") is False
    assert world.value("{{ hostvars.nobody is defined }}") is False
    with pytest.raises(Exception, match="'size' is undefined for the host w2"):
        world.value("{{ hostvars.w2.size }}")


def test_ansibles_own_names(world: World) -> None:
    assert world.value("{{ groups }}") == {
        "all": ["head", "w1", "w2"],
        "ungrouped": [],
        "head": ["head"],
        "compute": ["w1", "w2"],
    }
    assert world.value("{{ group_names }} {{ inventory_hostname_short }} {{ ansible_check_mode }}") == (
        "['compute'] w1 False"
    )
    world.run_state.hosts["w2"].alive = False
    assert world.value("{{ ansible_play_hosts }}") == ["head", "w1"]
    assert world.value("{{ ansible_play_hosts_all }}") == ["head", "w1", "w2"]
    assert world.value("{{ now().year > 2000 }}") is True


def test_facts_have_both_names(world: World) -> None:
    assert world.value("{{ ansible_kernel }} {{ ansible_facts.kernel }} {{ ansible_facts['date_time'].epoch }}") == (
        "6.1 6.1 7"
    )


def test_what_a_host_reported_is_no_template(world: World) -> None:
    world.run_state.hosts["w1"].results["first"] = {"stdout": "{{ colour }}"}
    assert world.value("{{ first.stdout }}") == "{{ colour }}"


def test_a_result_that_is_still_to_come_is_pending(world: World) -> None:
    for state in world.run_state.hosts.values():
        state.position = BEGINNING + 1
    for text in ("{{ first.rc }}", "{{ first is defined }}", "{{ first | default(1) }}", "{{ hostvars.w2.first }}"):
        with pytest.raises(Pending):
            world.value(text)
    # A task's own result, and those of later ones, are not waited for: they cannot come before it has run.
    assert world.value("{{ first is defined }}", 0) is False
    # What is not used is not waited for either.
    assert world.value("{{ 1 if true else first.rc }}") == 1
    world.run_state.leave(world.run_state.hosts["w2"], 0, fatal=False)
    assert world.value("{{ hostvars.w2.first is defined }}") is False
    world.run_state.advance(world.run_state.hosts["w1"], 1)
    world.run_state.hosts["w1"].results["first"] = {"rc": 0}
    assert world.value("{{ first.rc }}") == 0


def test_files_of_a_folder_are_listed(world: World, tmp_path: Any) -> None:
    for name in ("b.py", "a.py", "c.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "d.py").mkdir()
    listed = "lookup('ansible.builtin.fileglob', %r, wantlist=True) | sort | map('basename') | list"
    assert world.value("{{ " + listed % str(tmp_path / "*.py") + " }}") == ["a.py", "b.py"]
    assert world.value("{{ " + listed % "*.txt" + " }}") == ["c.txt"]
    assert world.value("{{ " + listed % "/nonexistent/*" + " }}") == []
    for words in ("'fileglob', '*'", "'fileglob', '*', wantlist=False", "'fileglob', '*', other=True"):
        with pytest.raises(Exception, match="not in the subset"):
            world.value("{{ lookup(" + words + ") }}")
