"""inventory.yml: Ansible's rules, and every defect at once with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clusteradm import shipped
from clusteradm.cli import inventory as command
from clusteradm.errors import InputErrors, UsageError
from clusteradm.inventory import Cluster, load, patterns
from clusteradm.inventory.ranges import expand
from clusteradm.inventory.variables import VARIABLES

GOOD = """\
all:
  vars:
    cluster_subnet: 10.0.0.0/24
    cluster_interface: eth0
    cluster_tpus: 1
  children:
    head:
      hosts:
        h: {ansible_host: 192.0.2.1, cluster_ip: 10.0.0.1}
    compute:
      vars: {cluster_tpus: 2, ansible_user: mendel}
      children:
        big:
          vars: {cluster_tpus: 8}
          hosts:
            b: {ansible_host: 192.0.2.9, cluster_ip: 10.0.0.9}
      hosts:
        c-[0:1]: {}
        c-0: {ansible_host: 192.0.2.2, cluster_ip: 10.0.0.2}
        c-1: {ansible_host: 192.0.2.3, cluster_ip: 10.0.0.3, cluster_tpus: 4}
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    path = tmp_path / "inventory.yml"
    path.write_text(GOOD)
    return load(path)


def problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "inventory.yml"
    path.write_text(text)
    with pytest.raises(InputErrors) as caught:
        load(path)
    return [f"{problem.line}: {problem.message}" for problem in caught.value.problems]


def test_precedence_and_origin(cluster: Cluster) -> None:
    assert [host.vars["cluster_tpus"] for host in cluster.hosts.values()] == [1, 8, 2, 4]
    origin = cluster.hosts["b"].origins["cluster_tpus"]
    assert (origin.line, origin.scope) == (14, "group big")
    assert cluster.hosts["c-1"].origins["cluster_tpus"].scope == "host c-1"


def test_who_is_who(cluster: Cluster) -> None:
    assert cluster.head.name == "h"
    assert [host.name for host in cluster.compute] == ["b", "c-0", "c-1"]
    assert [host.name for host in cluster.workers] == ["h", "b", "c-0", "c-1"]
    assert cluster.hosts["b"].groups == ("big", "compute")
    assert cluster.setting("cluster_user") == "cluster"


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("all", ["h", "b", "c-0", "c-1"]),
        ("*", ["h", "b", "c-0", "c-1"]),
        ("compute:!big", ["c-0", "c-1"]),
        ("compute:&big", ["b"]),
        ("c-[0:1]", ["c-0", "c-1"]),
        ("c-[0-1],h", ["h", "c-0", "c-1"]),
        ("!compute", ["h"]),
        ("c-*", ["c-0", "c-1"]),
    ],
)
def test_patterns(cluster: Cluster, pattern: str, names: list[str]) -> None:
    assert [host.name for host in cluster.select(pattern)] == names


def test_a_group_and_a_host_of_one_name_are_both_meant() -> None:
    assert patterns.select("head", ["a", "head", "b"], {"head": ["a"], "all": ["a", "head", "b"]}) == ["a", "head"]


def test_a_pattern_that_names_nothing_is_an_error(cluster: Cluster) -> None:
    with pytest.raises(UsageError, match="'d-0' matches no host"):
        cluster.select("d-0")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a", ["a"]),
        ("n[08:10]", ["n08", "n09", "n10"]),
        ("n[0:6:3]x", ["n0x", "n3x", "n6x"]),
        ("[a:c]", ["a", "b", "c"]),
        ("r[1:2]n[0-1]", ["r1n0", "r1n1", "r2n0", "r2n1"]),
    ],
)
def test_ranges(pattern: str, names: list[str]) -> None:
    assert list(expand(pattern)) == names


@pytest.mark.parametrize("pattern", ["n[3:1]", "n[1:", "n[a:3]", "n]"])
def test_bad_ranges(pattern: str) -> None:
    with pytest.raises(ValueError, match="range"):
        list(expand(pattern))


def test_every_defect_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("cluster_interface: eth0", "cluster_interfaec: eth0").replace("10.0.0.9", "10.0.1.9")
    text = text.replace("192.0.2.3", "192.0.2.2").replace("cluster_tpus: 4", "cluster_tpus: many")
    found = problems(tmp_path, text)
    assert "4: unknown variable cluster_interfaec; did you mean cluster_interface?" in found
    assert "20: ansible_host 192.0.2.2 of c-1 is already that of c-0" in found
    assert "20: cluster_tpus must be a whole number, not 'many'" in found
    assert sum("has no cluster_interface" in line for line in found) == 4


def test_an_address_outside_the_subnet(tmp_path: Path) -> None:
    found = problems(tmp_path, GOOD.replace("10.0.0.9", "10.0.1.9"))
    assert found == ["16: cluster_ip 10.0.1.9 of b is not in cluster_subnet 10.0.0.0/24"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("    head:\n", "    heads:\n"), "no head: one host must be in the group `head`"),
        (
            ("      vars: {cluster_tpus: 2, ansible_user: mendel}\n", "      var: {}\n"),
            "unknown key var in group compute",
        ),
        (("10.0.0.3", "10.0.0.2"), "cluster_ip 10.0.0.2 of c-1 is already that of c-0"),
        (("c-[0:1]", "c-[1:0]"), "host range runs backwards"),
        (
            ("cluster_tpus: 1\n", "cluster_tpus: 1\n    cluster_subnet: 10.9.0.0/24\n"),
            "cluster_subnet stands here twice",
        ),
        (
            ("cluster_subnet: 10.0.0.0/24", "cluster_subnet: ten"),
            "cluster_subnet must be a network such as 10.0.0.0/24",
        ),
    ],
)
def test_defects(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in GOOD
    assert any(message in line for line in problems(tmp_path, GOOD.replace(*change)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "1: an inventory is a mapping of groups"),
        ("all: [1, 2]\n", "1: group all must be a mapping"),
        ("all:\n  hosts: {a: {x: 1}\n", "3: "),
        ("", "1: an inventory is a mapping of groups"),
        ("a: {children: {b: {children: {a: {}}}}}\n", "groups contain each other: a -> b -> a"),
    ],
)
def test_what_is_no_inventory(tmp_path: Path, text: str, message: str) -> None:
    assert any(message in line for line in problems(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputErrors, match="No such file"):
        load(tmp_path / "nothing.yml")


def test_list_is_what_ansible_prints(cluster: Cluster) -> None:
    # Captured from `ansible-inventory -i inventory.yml --list` (ansible-core 2.19) on GOOD.
    expected = {
        "all": {"children": ["ungrouped", "head", "compute"]},
        "big": {"hosts": ["b"]},
        "compute": {"children": ["big"], "hosts": ["c-0", "c-1"]},
        "head": {"hosts": ["h"]},
    }
    document = json.loads(json.dumps(command.listing(cluster)))
    hostvars = document.pop("_meta")["hostvars"]
    assert document == expected
    assert hostvars["b"] == {
        "ansible_host": "192.0.2.9",
        "ansible_user": "mendel",
        "cluster_interface": "eth0",
        "cluster_ip": "10.0.0.9",
        "cluster_subnet": "10.0.0.0/24",
        "cluster_tpus": 8,
    }


@pytest.mark.parametrize("name", ["coral-dev-boards.yml", "pcie-8x.yml"])
def test_the_examples_are_sound(name: str) -> None:
    assert len(load(shipped.INVENTORY / name).workers) >= 3


def test_every_variable_says_what_it_means() -> None:
    assert all(variable.meaning and variable.name.startswith("cluster_") for variable in VARIABLES.values())
