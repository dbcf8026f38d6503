"""Facts that a playbook uses: those that are gathered, listed and documented; any other is an error before it runs."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from clusteradm import inventory, shipped
from clusteradm.errors import InputErrors
from clusteradm.inventory import Cluster
from clusteradm.node import facts as gathered
from clusteradm.node.spec.facts import DATE_TIME, FACTS
from clusteradm.playbook import load


def test_the_list_is_what_is_gathered() -> None:
    found = gathered.gather()
    assert set(found) == set(FACTS) and set(found["date_time"]) == set(DATE_TIME)


def problems(cluster: Cluster, folder: Path, task: str, template: str = "") -> list[str]:
    """The defects of a playbook of one task (line 6), without its path."""
    (folder / "text.j2").write_text(template)
    path = folder / "site.yml"
    head = "- hosts: all\n  vars: {mine: 1, ansible_own: 2}\n  tasks:\n    - set_fact: {ansible_set: 1}\n"
    path.write_text(head + textwrap.indent("- command: id\n  register: ansible_registered\n" + task, "    "))
    try:
        load(path, cluster)
    except InputErrors as error:
        return [f"{Path(each.file).name}:{each.line}: {each.message}" for each in error.problems]
    return []


@pytest.mark.parametrize(
    ("task", "fact"),
    [
        ("- debug: {msg: '{{ ansible_facts.default_ipv4.address }}'}", "ansible_facts.default_ipv4"),
        ("- debug: {msg: \"{{ ansible_facts['mounts'] | length }}\"}", "ansible_facts.mounts"),
        ("- {debug: , when: ansible_facts.virtualization_type is defined}", "ansible_facts.virtualization_type"),
        ("- {debug: , when: ansible_virtualization_type is defined}", "ansible_virtualization_type"),
        ("- debug: {msg: '{{ ansible_eth0.ipv4 | default(0) }}'}", "ansible_eth0"),
        ("- debug: {msg: \"{{ hostvars['w1'].ansible_facts.fqdn }}\"}", "ansible_facts.fqdn"),
        ("- debug: {msg: \"{{ hostvars['w1']['ansible_facts']['fqdn'] }}\"}", "ansible_facts.fqdn"),
        ("- debug: {var: ansible_facts.fqdn}", "ansible_facts.fqdn"),
        ("- assert: {that: [ansible_processor_vcpus > 1]}", "ansible_processor_vcpus"),
        ("- {debug: , loop: '{{ ansible_interfaces }}'}", "ansible_interfaces"),
        ("- {debug: , vars: {x: '{{ ansible_nonsense }}'}}", "ansible_nonsense"),
        ("- {command: x, changed_when: ansible_lsb.id == 'x'}", "ansible_lsb"),
    ],
)
def test_what_is_not_gathered_is_an_error_before_anything_runs(
    cluster: Cluster, tmp_path: Path, task: str, fact: str
) -> None:
    found = problems(cluster, tmp_path, task)
    assert len(found) == 1 and found[0].startswith(f"site.yml:7: {fact} is no fact that clusteradm gathers"), found


def test_the_nearest_is_named(cluster: Cluster, tmp_path: Path) -> None:
    (found,) = problems(cluster, tmp_path, "- debug: {msg: '{{ ansible_facts.distribution_relase }}'}")
    assert found.endswith('did you mean "distribution_release"?')
    (found,) = problems(cluster, tmp_path, "- debug: {msg: '{{ ansible_facts.date_time.epok }}'}")
    assert found == 'site.yml:7: the fact date_time has no epok; did you mean "epoch"?'


@pytest.mark.parametrize(
    "text",
    [
        "{{ ansible_facts.distribution }} {{ ansible_distribution }} {{ ansible_facts['date_time'].epoch }}",
        "{{ ansible_facts.get('kernel') }} {{ ansible_facts[mine] }} {{ ansible_facts | length }}",
        "{{ ansible_port | default(22) }} {{ ansible_host }} {{ ansible_user }} {{ ansible_become_method }}",
        "{{ ansible_own }} {{ ansible_set }} {{ ansible_registered.rc }} {{ ansible_check_mode }}",
        "{{ ansible_mine is defined }} {{ ansible_other | default(1) }}",
        "{{ mine.ansible_facts_of }} {{ 'ansible_mounts' }} {# ansible_mounts #} ansible_mounts",
    ],
)
def test_what_there_is_passes(cluster: Cluster, tmp_path: Path, text: str) -> None:
    task = "- template: {src: text.j2, dest: /x}"
    assert problems(cluster, tmp_path, task, text) == []


def test_the_line_of_a_template_file_and_of_an_inventory(cluster: Cluster, tmp_path: Path) -> None:
    task = "- template: {src: text.j2, dest: /x}"
    assert problems(cluster, tmp_path, task, "a\n\n{{ ansible_mounts }}\n")[0].startswith("text.j2:3: ansible_mounts")
    path = tmp_path / "other.yml"
    path.write_text(
        cluster.path.read_text() + "other: {vars: {mine: '{{ ansible_all_ipv4_addresses }}'}, hosts: {w1: }}\n"
    )
    (found,) = problems(inventory.load(path), tmp_path, "- debug: ")
    assert found.startswith("other.yml:") and "ansible_all_ipv4_addresses is no fact" in found


def test_the_shipped_playbooks_use_what_is_gathered(cluster: Cluster) -> None:
    for path in sorted(shipped.PLAYBOOKS.glob("*.yml")):
        load(path, cluster)
