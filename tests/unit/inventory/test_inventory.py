"""inventory.yml: Ansible's rules, and every defect at once with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from clusteradm import shipped
from clusteradm.errors import InputErrors, UsageError
from clusteradm.inventory import Cluster, Host, load, patterns
from clusteradm.inventory.ranges import expand
from clusteradm.inventory.variables import VARIABLES
from clusteradm.lab import access
from clusteradm.lab.plan import Places, Plan

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
        ("c-[0,1]", ["c-0", "c-1"]),
        ("compute[0]", ["b"]),
        ("compute[-1]", ["c-1"]),
        ("compute[1:2]", ["c-0", "c-1"]),
        ("compute[1:]:!c-1", ["c-0"]),
        ("head,big", ["h", "b"]),
    ],
)
def test_patterns(cluster: Cluster, pattern: str, names: list[str]) -> None:
    assert [host.name for host in cluster.select(pattern)] == names


def test_a_group_and_a_host_of_one_name_are_both_meant() -> None:
    assert patterns.select("head", ["a", "head", "b"], {"head": ["a"], "all": ["a", "head", "b"]}) == ["a", "head"]


@pytest.mark.parametrize("pattern", ["", ",", "!", "&,!", "\r", "!\n", "\t,\u2028"])
def test_an_empty_pattern_is_an_error(cluster: Cluster, pattern: str) -> None:
    with pytest.raises(UsageError, match="empty host pattern"):
        cluster.select(pattern)


def test_a_pattern_that_names_nothing_is_an_error(cluster: Cluster) -> None:
    with pytest.raises(UsageError, match="'d-0' matches no host"):
        cluster.select("d-0")
    with pytest.raises(UsageError, match="out of range: its group has 3 hosts"):
        cluster.select("compute[3]")
    with pytest.raises(UsageError, match="empty"):
        cluster.select(" ,:!")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a", ["a"]),
        ("n[08:10]", ["n08", "n09", "n10"]),
        ("n[0:6:3]x", ["n0x", "n3x", "n6x"]),
        ("[a:c]", ["a", "b", "c"]),
        ("r[1:2]n[0-1]", ["r1n0", "r1n1", "r2n0", "r2n1"]),
        ("n[:2]", ["n0", "n1", "n2"]),
        ("n[1-2,7]", ["n1", "n2", "n7"]),
        ("n[098-100]", ["n098", "n099", "n100"]),
    ],
)
def test_ranges(pattern: str, names: list[str]) -> None:
    assert list(expand(pattern)) == names


@pytest.mark.parametrize("pattern", ["n[3:1]", "n[1:", "n[a:3]", "n]", "n[]", "n[01:100]", "n[0:99999999]", "n[b:a]"])
def test_bad_ranges(pattern: str) -> None:
    with pytest.raises(ValueError, match="range"):
        list(expand(pattern))


def test_every_defect_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("cluster_interface: eth0", "cluster_interfaec: eth0").replace("10.0.0.9", "10.0.1.9")
    text = text.replace("192.0.2.3", "192.0.2.2").replace("cluster_tpus: 4", "cluster_tpus: many")
    found = problems(tmp_path, text)
    assert '4: unknown variable cluster_interfaec; did you mean "cluster_interface"?' in found
    assert "20: ansible_host 192.0.2.2 of c-1 is already that of c-0" in found
    assert "20: cluster_tpus must be a whole number, not 'many'" in found
    assert [line for line in found if "has no cluster_interface" in line] == [
        f"{line}: {name} has no cluster_interface: the network interface of the private network"
        for line, name in ((9, "h"), (16, "b"), (18, "c-0"), (18, "c-1"))
    ]


def test_an_address_outside_the_subnet(tmp_path: Path) -> None:
    found = problems(tmp_path, GOOD.replace("10.0.0.9", "10.0.1.9"))
    assert found == ["16: cluster_ip 10.0.1.9 of b is not in cluster_subnet 10.0.0.0/24"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("    head:\n", "    heads:\n"), "1: no head: one host must be in the group `head`"),
        (("    compute:\n", "    head:\n"), "10: duplicate key head (first in line 7)"),
        (("            b: {", "            b: {ansible_port: twenty, "), "16: ansible_port must be a port"),
        (("192.0.2.9", "192.0.2.900"), "16: ansible_host must be an address or a host name, not '192.0.2.900'"),
        (("192.0.2.9", "192.0.2.2"), "19: ansible_host 192.0.2.2 of c-0 is already that of b"),
        (
            ("10.0.0.9", "10.0.0.255"),
            "16: cluster_ip 10.0.0.255 of b is the network or broadcast address of 10.0.0.0/24",
        ),
        (("10.0.0.9", "'{{ x }}'"), "16: cluster_ip must not be a template"),
        (
            ("10.0.0.0/24", "10.0.0.7/24"),
            "3: cluster_subnet must be a network such as 10.0.0.0/24, not '10.0.0.7/24'; did",
        ),
        (("cluster_tpus: 8", "cluster_user: me"), "14: cluster_user must be the same on every host"),
        (("cluster_tpus: 8", "cluster_user: root"), "14: cluster_user must be a user name that is not root"),
        (
            ("cluster_tpus: 8", "cluster_network_guard: 14"),
            "14: cluster_network_guard must be a whole number from 15 on",
        ),
        (
            ("cluster_tpus: 8", "cluster_network_guard: 0"),
            "14: cluster_network_guard must be a whole number from 15 on",
        ),
        (("cluster_tpus: 8", "ansible_become_pass: 4711"), "14: ansible_become_pass must be a string, in quotes where"),
        (
            ("ansible_user: mendel", "ansible_usr: mendel"),
            '11: unknown variable ansible_usr; did you mean "ansible_user"?',
        ),
        (
            ("ansible_user: mendel", "ansible_connection: winrm"),
            "11: ansible_connection must be ssh or local, not 'winrm'",
        ),
        (
            ("ansible_user: mendel", "ansible_ssh_common_args: -o ForwardX11=yes"),
            "11: ansible_ssh_common_args of b: -oForwardX11=yes is not supported",
        ),
        (("            b:", "            b_1:"), "16: b_1 cannot be a machine's name"),
        (("            b:", "            7:"), "16: hosts of big: a name must be a string; put 7 in quotes"),
        (("cluster_tpus: 8", "cluster_tpus: !vault x"), "14: encrypted by ansible-vault"),
        (("cluster_tpus: 8", "ansible_group_priority: high"), "14: ansible_group_priority must be a whole number"),
        (
            ("      vars: {cluster_tpus: 2, ansible_user: mendel}\n", "      var: {}\n"),
            "unknown key var in group compute",
        ),
        (("10.0.0.3", "10.0.0.2"), "cluster_ip 10.0.0.2 of c-1 is already that of c-0"),
        (("c-[0:1]", "c-[1:0]"), "host range runs backwards"),
        (
            ("cluster_tpus: 1\n", "cluster_tpus: 1\n    cluster_subnet: 10.9.0.0/24\n"),
            "duplicate key cluster_subnet",
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
        ("a: {children: {b: {children: {a: {}}}}}\n", "1: groups contain each other: a -> b -> a"),
        ("a: &a {children: {b: *a}}\n", "1: an alias that contains itself"),
        ("plugin: constructed\n", "1: this configures an inventory plugin"),
        ("a: 1\n---\nb: 2\n", "2: not valid YAML: expected a single document"),
        ("a:\n\thosts:\n", "2: not valid YAML"),
        ("\0", "0: not valid YAML: unacceptable character"),
        ("$ANSIBLE_VAULT;1.1;AES256\n6162\n", "1: encrypted by ansible-vault"),
    ],
)
def test_what_is_no_inventory(tmp_path: Path, text: str, message: str) -> None:
    assert any(message in line for line in problems(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputErrors, match="No such file"):
        load(tmp_path / "nothing.yml")


@pytest.mark.parametrize("name", sorted(path.name for path in shipped.INVENTORY.glob("*.yml")))
def test_the_examples_are_sound(name: str) -> None:
    assert len(load(shipped.INVENTORY / name).workers) >= 3


def test_every_variable_says_what_it_means() -> None:
    assert all(variable.meaning and variable.name.startswith("cluster_") for variable in VARIABLES.values())


def test_two_heads_and_nobody_who_computes(tmp_path: Path) -> None:
    two = GOOD.replace("cluster_ip: 10.0.0.1}\n", "cluster_ip: 10.0.0.1}\n        c-0:\n")
    assert problems(tmp_path, two) == ["10: 2 heads: h, c-0; the group `head` has one host"]
    alone = GOOD[: GOOD.index("    compute:")].replace("cluster_tpus: 1", "cluster_head_computes: false")
    assert problems(tmp_path, alone) == [
        "1: no host computes: the group `compute` is empty and the head does not compute"
    ]


def test_a_host_that_is_neither_head_nor_compute_node(tmp_path: Path) -> None:
    stranger = GOOD + "    other:\n      hosts: {x: {ansible_host: 192.0.2.7, cluster_ip: 10.0.0.7}}\n"
    assert problems(tmp_path, stranger) == ["22: x is neither in the group `head` nor in `compute`"]


def test_values_are_judged_even_where_the_file_has_other_defects(tmp_path: Path) -> None:
    # What could not be read may be what is missing; what was read is judged all the same.
    found = problems(
        tmp_path, GOOD.replace("    head:\n      hosts:", "    head:\n      host:").replace("10.0.0.9", "ten")
    )
    assert found == [
        '8: unknown key host in group head; did you mean "hosts"?',
        "16: cluster_ip must be an IPv4 address, not 'ten'",
    ]


def test_a_typo_in_a_group_without_hosts(tmp_path: Path) -> None:
    found = problems(tmp_path, GOOD + "    later:\n      vars: {cluster_tpu: 1}\n")
    assert found == ['22: unknown variable cluster_tpu; did you mean "cluster_tpus"?']


def test_defects_of_files_beside_the_inventory(tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "compute.yml").write_text("# one\ncluster_tpu: 1\n")
    (tmp_path / "host_vars" / "b").mkdir(parents=True)
    (tmp_path / "host_vars" / "b" / "main.yml").write_text("- a\n")
    (tmp_path / "inventory.yml").write_text(GOOD)
    with pytest.raises(InputErrors) as caught:
        load(tmp_path / "inventory.yml")
    assert [str(problem) for problem in caught.value.problems] == [
        f'{tmp_path}/group_vars/compute.yml:2: unknown variable cluster_tpu; did you mean "cluster_tpus"?',
        f"{tmp_path}/host_vars/b/main.yml:1: main.yml must be a mapping",
    ]


def test_one_board_alone_is_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "inventory.yml").write_text(GOOD[: GOOD.index("    compute:")])
    alone = load(tmp_path / "inventory.yml")
    assert [host.name for host in alone.workers] == ["h"] and alone.select("compute") == ()


def test_hosts_behind_one_address_are_told_apart_by_their_port(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yml"
    text = GOOD.replace("c-1: {ansible_host: 192.0.2.3", "c-1: {ansible_port: 2201, ansible_host: 192.0.2.2")
    path.write_text(text)
    assert load(path).hosts["c-1"].port == 2201
    assert problems(tmp_path, text.replace("c-0: {", "c-0: {ansible_port: '2201', ")) == [
        "20: port 2201 of ansible_host 192.0.2.2 of c-1 is already that of c-0"
    ]


def test_what_ansible_would_look_for_by_itself_is_python3(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yml"
    path.write_text(GOOD.replace("ansible_user: mendel", "ansible_python_interpreter: auto_silent"))
    assert load(path).hosts["b"].python == "python3"


def test_the_labs_example_is_what_lab_up_writes() -> None:
    written = yaml.safe_load(access.inventory(Places("lab"), Plan(4, 1, ("bookworm",), 1024, "")))
    assert yaml.safe_load((shipped.INVENTORY / "lab.yml").read_text(encoding="utf-8")) == written


def test_a_host_by_name_or_what_was_perhaps_meant(tmp_path: Path) -> None:
    hosts = {f"coral-{number}": Host(f"coral-{number}", (), {}, {}) for number in range(8)}
    cluster = Cluster(tmp_path / "inventory.yml", {}, {**hosts, "head": Host("head", (), {}, {})})
    assert cluster.host("coral-3") is hosts["coral-3"]
    with pytest.raises(UsageError) as caught:
        cluster.host("corel-3")
    assert str(caught.value) == 'no such host: corel-3; did you mean "coral-3"?\n  hosts: coral-[0-7] head'
    with pytest.raises(UsageError, match=r"^no such host: zzz\n"):
        cluster.host("zzz")


def test_the_head_is_no_compute_node(tmp_path: Path) -> None:
    message = (
        "h is the head and in the group `compute`, where it would mount its own export; "
        "take it out: cluster_head_computes says whether the head computes (it does unless that is false)"
    )
    directly = GOOD.replace("        c-[0:1]: {}\n", "        h: {}\n        c-[0:1]: {}\n")
    assert problems(tmp_path, directly) == [f"18: {message}"]
    through_a_group = GOOD.replace(
        "          hosts:\n            b:", "          hosts:\n            h: {}\n            b:"
    )
    assert problems(tmp_path, through_a_group) == [f"16: {message}"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("cluster_shared: /etc", "cluster_shared must be an absolute path below / (letters, digits, ._+@-) that is no"),
        ("cluster_shared: /usr/local/share", "cluster_shared must be an absolute path below /"),
        ("cluster_shared: /home", "cluster_shared must be an absolute path below /"),
        ("cluster_shared: /srv/../etc", "cluster_shared must be an absolute path below /"),
        ("cluster_shared: '/srv/$(reboot)'", "cluster_shared must be an absolute path below /"),
        ("cluster_python: '/opt/a;b'", "cluster_python must be an absolute path below /"),
        ("cluster_nfs_options: rw, hard", "cluster_nfs_options must be mount options of NFS version 4"),
        ("cluster_nfs_options: 'rw,vers=3'", "cluster_nfs_options must be mount options of NFS version 4"),
        ("cluster_nfs_options: 'rw,noresvport'", "cluster_nfs_options must be mount options of NFS version 4"),
        ("cluster_tpu_source: http://192.0.2.1/tpu", "cluster_tpu_source must be a deb line: deb URL SUITE COMPONENT"),
        ("cluster_tpu_key: key.asc", "cluster_tpu_key must be a URL"),
        ("cluster_tpu_key_fingerprint: 35ba", "cluster_tpu_key_fingerprint must be 40 hexadecimal digits"),
        (
            "cluster_serve_packages: [/w/a-1-py3-none-any.whl]",
            "cluster_serve_packages must be a list of absolute paths",
        ),
        ("cluster_serve_packages: a-1-py3-none-any.whl", "cluster_serve_packages must be a list of absolute paths"),
        ("cluster_wheels: '/srv/my wheels'", "cluster_wheels must be a URL or an absolute path"),
        (
            "cluster_user: mendel\n    ansible_user: mendel",
            "cluster_user mendel is the login user of h, who may use sudo there",
        ),
    ],
)
def test_rules_that_the_table_of_variables_states(tmp_path: Path, setting: str, message: str) -> None:
    found = problems(tmp_path, GOOD.replace("    cluster_tpus: 1\n", f"    {setting}\n", 1))
    assert any(line.startswith(f"5: {message}") for line in found), found


@pytest.mark.parametrize("subnet", ["0.0.0.0/0", "10.0.0.0/7", "127.0.0.0/8", "224.0.0.0/8", "10.0.0.0/31"])
def test_a_subnet_that_is_no_network_of_a_cluster(tmp_path: Path, subnet: str) -> None:
    found = problems(tmp_path, GOOD.replace("10.0.0.0/24", subnet))
    assert f"3: cluster_subnet must be a network such as 10.0.0.0/24, not '{subnet}'" in " ".join(found)


@pytest.mark.parametrize("interface", ["eth0;reboot", "$(id)", "a b", "-x", ".."])
def test_an_interface_is_named_without_what_a_shell_reads(tmp_path: Path, interface: str) -> None:
    found = problems(tmp_path, GOOD.replace("cluster_interface: eth0", f"cluster_interface: '{interface}'"))
    assert found[0].startswith("4: cluster_interface must be the name of a network interface")
