"""Every shipped template, rendered for the example inventories by the code of the run, against golden files.

To accept what the templates give now: CLUSTERADM_UPDATE_GOLDEN=1 pytest tests/unit/shipped/test_templates.py
"""

from __future__ import annotations

import ast
import base64
import functools
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from clusteradm import shipped
from clusteradm.cli.main import main
from clusteradm.errors import UsageError
from clusteradm.inventory import Cluster, Host, load
from clusteradm.playbook.model import Playbook
from clusteradm.playbook.preview import preview
from clusteradm.playbook.read.reader import load as load_playbook
from clusteradm.playbook.render.jinja import Templates
from clusteradm.playbook.run.planner import Planner
from clusteradm.playbook.state import RunState

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
GOLDEN = FIXTURES / "templates"
INVENTORIES = sorted(shipped.INVENTORY.glob("*.yml"))
TEMPLATES = sorted(str(path.relative_to(shipped.TEMPLATES)) for path in shipped.TEMPLATES.rglob("*.j2"))

# Those that are rendered from what the host said, with what is said here: a second interface that has an address of its
# own, by whichever tool, and a run_state of an archived release. All the other cases: test_network_profile.py,
# test_network.py and test_package_sources.py.
BESIDE = "address 192.168.7.5/24 static"
NETWORKS = {
    "networkmanager": ["network networkmanager", BESIDE, "GENERAL.STATE:100 (connected)", "IP4.GATEWAY:192.168.7.1"],
    "networkd": [
        *("network networkd", "version 252", BESIDE, "origin /etc/systemd/network/10-lan.network"),
        *("keep [Network]", "keep Address=192.168.7.5/24", "keep Gateway=192.168.7.1", "gateway 192.168.7.1"),
    ],
    "netplan": [
        "network networkd",
        "version 255",
        BESIDE,
        "netplan lan",
        "origin /run/systemd/network/10-netplan-lan.network",
    ],
    "ifupdown": ["network ifupdown", BESIDE, "sourced"],
}
OF_SERVING = (
    *("/haproxy.cfg.j2", "/serve.json.j2", "/clusteradm-serve.service.j2"),
    *("/serve-control.json.j2", "/clusteradm-serve-control.service.j2"),
)
OF_SLURM = ("/slurm.conf.j2", "/gres.conf.j2", "/cgroup.conf.j2", "/slurmdbd.conf.j2", "/60-clusteradm.cnf.j2")
# A PC's driver numbers its TPUs in another order than their addresses.
SLURM_LOOK = {
    "slurm_look": {
        "stdout_lines": [
            *("version 22.05.8-4+deb12u3", "cpus 4"),
            *("tpu apex_1 0000:04:00.0", "tpu apex_0 0000:05:00.0", "tpu usb:1-2 usb:1-2"),
        ]
    }
}
_GUARDS = {"lab": "networkmanager", "coral-dev-boards": "networkd", "pcie-8x": "ifupdown"}


def _network(kind: str) -> dict[str, Any]:
    return {"interface": {"stdout_lines": NETWORKS[kind]}}


OF_A_RUN: dict[str, dict[str, Any]] = {
    "node/etc/NetworkManager/system-connections/cluster.nmconnection.j2": _network("networkmanager"),
    "node/etc/systemd/network/05-cluster.network.j2": _network("networkd"),
    "node/etc/netplan/90-cluster.yaml.j2": _network("netplan"),
    "node/etc/network/interfaces.d/cluster.j2": _network("ifupdown"),
    # That of another tool for each of the inventories.
    "node/opt/clusteradm/guard/network.j2": {},
    # Only where the inventory says so; and what the head itself has in its package sources.
    "head/etc/apt-cacher-ng/zzz_clusteradm.conf.j2": {
        "offline": True,
        "relayed": {"stdout_lines": ["http://a.example.org", "http://b.example.org:8080", "https://c.example.org"]},
    },
    "head/etc/haproxy/haproxy.cfg.j2": {
        "balancer": {"stdout_lines": ["candidate 2.6.12-1+deb12u4", "input 150528", "memory 3"]}
    },
    "node/etc/slurm/slurm.conf.j2": SLURM_LOOK,
    "node/etc/slurm/gres.conf.j2": SLURM_LOOK,
    "node/etc/slurm/cgroup.conf.j2": SLURM_LOOK,
    "node/etc/apt/sources.list.j2": {
        "sources": {
            "results": [
                {
                    "item": "/etc/apt/sources.list",
                    "content": base64.b64encode((FIXTURES / "apt" / "eagle-sources.list").read_bytes()).decode(),
                }
            ]
        }
    },
}


@functools.cache
def of_inventory(path: Path) -> Cluster:
    """The cluster of an example, which no case changes."""
    return load(path)


@functools.cache
def of_playbook(path: Path, inventory: Path) -> Playbook:
    """A shipped playbook for the cluster of an example, which no case changes: it takes ten times as long as a case."""
    return load_playbook(path, of_inventory(inventory))


@pytest.fixture(autouse=True)
def read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Previews of the shipped playbooks take what has been read."""

    def read(path: Path, cluster: Cluster, templates: Templates) -> Playbook:
        if path.is_relative_to(shipped.PLAYBOOKS) and cluster is of_inventory(cluster.path):
            return of_playbook(path, cluster.path)
        return load_playbook(path, cluster, templates)

    monkeypatch.setattr("clusteradm.playbook.preview.load", read)


def render(template: str, cluster: Cluster, host: Host) -> str:
    if template in OF_A_RUN:
        said = OF_A_RUN[template] or _network(_GUARDS[cluster.path.stem])
        return rendered_in_a_run(template, cluster, host, said)
    return preview(shipped.TEMPLATES / template, shipped.PLAYBOOKS / playbook_of(template), cluster, host)


def playbook_of(template: str) -> str:
    if template.endswith("/guard/sshd.j2"):
        return "passwords.yml"
    if template.endswith(OF_SLURM) or "slurm" in template:
        return "slurm.yml"
    return "serving.yml" if template.endswith(OF_SERVING) else "bootstrap.yml"


def rendered_in_a_run(template: str, cluster: Cluster, host: Host, said: dict[str, Any]) -> str:
    """The body that the run would send to the host, had its earlier tasks registered `said`."""
    templates = Templates()
    playbook = of_playbook(shipped.PLAYBOOKS / playbook_of(template), cluster.path)
    dest = "/" + template.removesuffix(".j2").partition("/")[2]
    run_state = RunState(cluster.hosts.values())
    planner = Planner(playbook, run_state, templates, check=False, diff=False, limit=None)
    for play in playbook.plays:
        for step in play.steps:
            src = step.task.args.get("src")
            literal = src == f"../templates/{template}"
            if not literal and (step.task.module != "template" or not re.search(r"\{\{ item(\.path)? \}\}", src)):
                continue
            run_state.begin_play(play, cluster.hosts)
            state = run_state.hosts[host.name]
            state.results.update(said)
            run_state.advance(state, step.index)
            planned = planner.plan(state, play, step)
            if literal:
                (body,) = planned.blobs.values()
                return body.decode()
            for item in (planned.request or {}).get("items") or ():
                if item["args"]["dest"] == dest:
                    return planned.blobs[item["args"]["blob"]].decode()
    raise AssertionError(f"no task of bootstrap writes {dest}")


def host_for(template: str, cluster: Cluster) -> Host:
    """The head for what only it gets; else the last compute node, the one with settings of its own in the examples."""
    return cluster.head if template.startswith("head/") else cluster.compute[-1]


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.stem)
@pytest.mark.parametrize("template", TEMPLATES)
def test_golden(template: str, inventory: Path) -> None:
    cluster = of_inventory(inventory)
    rendered = render(template, cluster, host_for(template, cluster))
    golden = GOLDEN / inventory.stem / template.removesuffix(".j2")
    if os.environ.get("CLUSTERADM_UPDATE_GOLDEN") == "1":
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(rendered, encoding="utf-8")
    assert rendered == golden.read_text(encoding="utf-8")


def test_scripts_are_scripts_before_they_are_rendered() -> None:
    """As the checker of Debian packages wants it of whatever begins like one."""
    paths = [shipped.TEMPLATES / name for name in TEMPLATES]
    scripts = [path for path in paths if path.read_bytes().startswith((b"#!/bin/sh", b"#!/bin/bash"))]
    assert scripts
    for path in scripts:
        said = subprocess.run(["sh", "-n", path], capture_output=True, text=True, check=False)
        assert (said.returncode, said.stderr) == (0, ""), path


def test_every_template_has_its_golden_files_and_none_is_left_over() -> None:
    there = {path.relative_to(GOLDEN) for path in GOLDEN.rglob("*") if path.is_file()}
    wanted = {Path(path.stem, name.removesuffix(".j2")) for path in INVENTORIES for name in TEMPLATES}
    assert there == wanted


@pytest.mark.parametrize("template", OF_A_RUN)
def test_the_others_are_not_shown_without_a_run(template: str) -> None:
    cluster = of_inventory(INVENTORIES[0])
    with pytest.raises(UsageError, match=r"only a run knows (the result of the task|the items of the task's loop)"):
        preview(shipped.TEMPLATES / template, shipped.PLAYBOOKS / playbook_of(template), cluster, cluster.head)


SITE = """
- hosts: all
  become: true
  vars: {paint: '{{ colour }}', size: 1}
  tasks:
    - template: {src: motd.j2, dest: /etc/motd}
- name: Later
  hosts: all
  tasks:
    - name: Look
      command: uname
      register: looked
"""
IN_PLAY = "under vars: of the play ({playbook}:2)"


@pytest.mark.parametrize(
    ("written", "said", "remedy"),
    [
        pytest.param(
            "{{ colour }}",
            "'colour' is undefined",
            f"set it for pc-1 in {{inventory}}, or {IN_PLAY}",
            id="anywhere",
        ),
        pytest.param(
            "{{ cluster_nam }}",
            "'cluster_nam' is undefined; did you mean \"cluster_name\"?",
            f"set it {IN_PLAY}",
            id="not in the inventory, which takes no such name",
        ),
        pytest.param(
            "{{ cluster_uid }}",
            "'cluster_uid' is undefined",
            "set it under all: vars: in {inventory}",
            id="the cluster's",
        ),
        pytest.param(
            "{{ cluster_tpu }}",
            "'cluster_tpu' is undefined; did you mean \"cluster_tpus\"?",
            f"set it {IN_PLAY}",
            id="near one that may be set",
        ),
        pytest.param("{{ siz }}", "'siz' is undefined; did you mean \"size\"?", IN_PLAY, id="near the play's"),
        pytest.param(
            "{{ hostvars['pc-0'].colour }}",
            "'colour' is undefined for the host pc-0",
            "set it for pc-0 in {inventory}",
            id="of another host",
        ),
        pytest.param(
            "{{ hostvars['pc-0'].cluster_if }}",
            "'cluster_if' is undefined for the host pc-0; did you mean \"cluster_ip\"?",
            "see what it has: clusteradm inventory -i {inventory} --host pc-0",
            id="of another host, whose it cannot be",
        ),
        pytest.param(
            "{{ paint }}", "'colour' is undefined", "set it for pc-1 in {inventory}", id="within a variable of the play"
        ),
        pytest.param(
            "{% if colour == 'red' %}{% endif %}", "'colour' is undefined", "set it for pc-1", id="in a condition"
        ),
        pytest.param(
            "{{ looked.rc }}",
            "'looked' is undefined",
            'only a run knows the result of the task "Look" ({playbook}:10)',
            id="registered elsewhere",
        ),
        pytest.param(
            "{{ size.height }}",
            "'int object' has no attribute 'height'",
            "correct that line, or the variables it uses: clusteradm inventory -i {inventory} --host pc-1",
            id="not a variable at all",
        ),
    ],
)
def test_a_missing_variable_is_named_with_template_and_line_and_where_to_set_it(
    written: str, said: str, remedy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = tmp_path / "motd.j2"
    template.write_text(f"{{# A comment of\n   two lines. #}}\n{written}\n")
    playbook = tmp_path / "site.yml"
    playbook.write_text(SITE)
    inventory = str(shipped.INVENTORY / "pcie-8x.yml")
    assert (
        main(["template", "show", "-i", inventory, "--host", "pc-1", "--playbook", str(playbook), str(template)]) == 2
    )
    output = capsys.readouterr()
    about, first, second = output.err.splitlines()
    assert inventory in about
    assert first.endswith(f"{template}:3: {said}")
    assert remedy.format(inventory=inventory, playbook=playbook) in second
    assert output.out == ""


@pytest.mark.parametrize("template", [name for name in TEMPLATES if name != "node/etc/apt/sources.list.j2"])
def test_whoever_finds_the_file_on_a_node_reads_where_it_comes_from(template: str) -> None:
    cluster = of_inventory(INVENTORIES[0])
    writer = "clusteradm serve up" if template.endswith(OF_SERVING) else "clusteradm bootstrap"
    assert writer in render(template, cluster, host_for(template, cluster))


@pytest.mark.parametrize(
    "template", [name for name in TEMPLATES if (shipped.TEMPLATES / name).read_text(encoding="utf-8").startswith("#!")]
)
def test_programs_have_no_syntax_error(template: str) -> None:
    cluster = of_inventory(INVENTORIES[0])
    program = render(template, cluster, host_for(template, cluster))
    if program.startswith("#!/bin/sh\n"):
        subprocess.run(["sh", "-n"], input=program, text=True, check=True)
    else:
        assert program.startswith("#!/opt/clusteradm/bin/python3\n")
        ast.parse(program, feature_version=(3, 7))


def test_at_boot_the_last_program_that_has_one_starts_the_jobs(tmp_path: Path) -> None:
    unit = (shipped.TEMPLATES / "head/etc/systemd/system/clusteradm-jobs.service.j2").read_text(encoding="utf-8")
    (line,) = [each for each in unit.splitlines() if each.startswith("ExecStart=")]
    programs = tmp_path / "node"
    # systemd takes two for one.
    command = line.removeprefix("ExecStart=").replace("$$", "$").replace("/var/lib/clusteradm/node", str(programs))
    command = command.replace("/usr/bin/python3 -m clusteradm.node.job.boot", "pwd")

    def started() -> list[str]:
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)  # noqa: S602
        assert done.stderr == ""
        return [Path(each).name for each in done.stdout.split()]

    assert started() == []
    # From the oldest to the last; the last has no program that starts jobs, and one was cut while it was sent.
    for number, name in enumerate(("first", "second", "last", "cut")):
        folder = programs / name / "clusteradm/node/job"
        folder.mkdir(parents=True)
        if name in ("first", "second"):
            (folder / "boot.py").touch()
        os.utime(programs / name, (number, number))
    assert started() == ["second"]
    (programs / "second/clusteradm/node/job/boot.py").unlink()
    (programs / "first/clusteradm/node/job/boot.py").unlink()
    assert started() == []
