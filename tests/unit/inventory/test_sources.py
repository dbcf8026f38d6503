"""Inventories that are folders, read as Ansible reads them, and inventories in its other formats."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from clusteradm.cli.inventory import listing
from clusteradm.cli.main import main
from clusteradm.errors import InputErrors
from clusteradm.inventory import load
from clusteradm.playbook import RetryFile

BASE = """\
all:
  vars: {cluster_subnet: 10.0.0.0/24, cluster_interface: eth0, colour: base, shade: base}
  children:
    head: {hosts: {h: {ansible_host: 192.0.2.1, cluster_ip: 10.0.0.1}}}
"""
MORE = """\
all: {vars: {colour: more}}
compute:
  hosts:
    c-[0:1]: {size: more}
    c-0: {ansible_host: 192.0.2.2, cluster_ip: 10.0.0.2}
    c-1: {ansible_host: 192.0.2.3, cluster_ip: 10.0.0.3}
"""
LATER = "compute: {hosts: {c-1: {size: later}}, vars: {shade: later}}\n"

INI = """\
; boards
h ansible_host=192.0.2.1

[head]
h cluster_ip=10.0.0.1

[compute]
c-[0:1]

[compute:vars]
ansible_user=mendel

[all:vars]
cluster_subnet=10.0.0.0/24
cluster_interface=eth0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "site"
    files = {
        "10-base.yml": BASE,
        "20-more/hosts": MORE,
        "20-more/group_vars/compute.yml": "shade: not read, as it is not beside the source\n",
        "30-later.yaml": LATER,
        "group_vars/head.yml": "shade: group_vars\n",
        "host_vars/c-0.yml": "size: host_vars\n",
        ".hidden.yml": "not: [yaml\n",
        "README.md": "# Not an inventory\n",
        "base.yml.bak": "[\n",
        "site.retry": "h\n",
        "ansible.cfg": "[defaults]\n",
    }
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    return place


def ansible(*words: str | Path) -> str:
    program = Path(sys.executable).with_name("ansible-inventory")
    if not program.exists():
        pytest.skip("Ansible is not installed")
    done = subprocess.run([program, *words], capture_output=True, text=True, check=True)
    return done.stdout


def test_a_folder_is_merged_as_by_ansible(folder: Path) -> None:
    cluster = load(folder)
    assert listing(cluster) == json.loads(ansible("-i", folder, "--list"))
    assert {host.name: host.vars["colour"] for host in cluster.hosts.values()} == dict.fromkeys(cluster.hosts, "more")
    assert [cluster.hosts[name].vars["size"] for name in ("c-0", "c-1")] == ["host_vars", "later"]
    assert [cluster.hosts[name].vars["shade"] for name in ("h", "c-0", "c-1")] == ["group_vars", "later", "later"]
    assert cluster.hosts["c-0"].place == (str(folder / "20-more/hosts"), 4)
    # A file that clusteradm writes is none of the inventory's.
    assert cluster.known_hosts.parent == folder.parent


@pytest.mark.parametrize(
    ("where", "named"), [(".", "."), (".", "./"), ("20-more", ".."), ("20-more/group_vars", "../..")]
)
def test_what_is_beside_a_folder_is_not_in_it(
    folder: Path, where: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / where)
    cluster = load(Path(named))
    assert cluster.known_hosts.resolve() == folder.parent / "known_hosts"
    retry = RetryFile(cluster, Path("bootstrap.yml"))
    assert retry.path.resolve() == folder.parent / f"{folder.name}.bootstrap.retry"
    # Written, it is no part of the inventory.
    cluster.known_hosts.write_text("192.0.2.1 ssh-ed25519 AAAA\n")
    assert list(load(Path(named)).hosts) == list(cluster.hosts)


def test_a_defect_names_its_file(folder: Path) -> None:
    (folder / "30-later.yaml").write_text("compute: {hosts: {c-2: {cluster_ip: 10.0.0.2}}}\n")
    with pytest.raises(InputErrors) as caught:
        load(folder)
    assert [str(problem) for problem in caught.value.problems] == [
        f"{folder / '30-later.yaml'}:1: cluster_ip 10.0.0.2 of c-2 is already that of c-0"
    ]
    (folder / "40.yml").write_text("all: {hosts: {x: {cluster_ip: 10.0.0.9}}}\n")
    with pytest.raises(InputErrors, match=r"40\.yml:1: x is neither in the group"):
        load(folder)


def test_folders_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputErrors, match="a folder without an inventory"):
        load(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path)
    assert main(["inventory", "-i", str(tmp_path), "--list"]) == 2
    assert "folders within folders" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        (INI, 4, "an INI inventory"),
        ("[all]\nh cluster_ip=10.0.0.1\n", 1, "an INI inventory"),
        ("# boards\n\ncoral-0 ansible_host=192.0.2.1 ansible_user=mendel\ncoral-1\n", 3, "an INI inventory"),
        ("coral-[0:7].local:2222 x='a b' # note\n", 1, "an INI inventory"),
        ("[head:children]\nx\n", 1, "an INI inventory"),
        ("[all.vars]\nx = 1\n", 1, "an INI inventory"),
        ("#!/usr/bin/env python3\nprint('{}')\n", 1, "a program that writes an inventory"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, text: str, line: int, what: str) -> None:
    path = tmp_path / "my hosts"
    path.write_text(text)
    with pytest.raises(InputErrors) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert problem.line == line and problem.message.startswith(f"this is {what}")
    assert f"-i '{path}' --list" in problem.message


@pytest.mark.parametrize("text", ["", "- a\n", "a: [1\n", "all:\n  hosts: {a: {x: 1}\n", "plugin: constructed\n"])
def test_yaml_with_a_defect_is_not_taken_for_another_format(tmp_path: Path, text: str) -> None:
    path = tmp_path / "inventory.yml"
    path.write_text(text)
    with pytest.raises(InputErrors) as caught:
        load(path)
    assert "clusteradm reads YAML" not in str(caught.value)


def test_the_command_converts(tmp_path: Path) -> None:
    path = tmp_path / "hosts.ini"
    path.write_text(INI.replace("c-[0:1]", "c-0 ansible_host=192.0.2.2 cluster_ip=10.0.0.2"))
    with pytest.raises(InputErrors) as caught:
        load(path)
    words = str(caught.value).splitlines()[1].split()
    assert words[0] == "ansible-inventory"
    ansible(*words[1:])
    cluster = load(tmp_path / "inventory.yml")
    assert cluster.head.name == "h" and cluster.hosts["c-0"].user == "mendel"
