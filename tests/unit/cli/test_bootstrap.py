"""`clusteradm bootstrap` and `clusteradm template` as a person or a program meets them."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playbook.conftest import LocalConnections, cluster, connections

from clusteradm import shipped
from clusteradm.cli import bootstrap as command
from clusteradm.cli import context
from clusteradm.cli.main import main
from clusteradm.inventory import Cluster

__all__ = ["cluster", "connections"]  # fixtures

Command = Callable[..., int]


@pytest.fixture
def bootstrap(
    connections: LocalConnections, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Runs the command with a playbook given as text, on the local connections."""

    def connect(args: Any, cluster: Cluster) -> LocalConnections:
        return connections

    def run(text: str, *options: str) -> int:
        path = tmp_path / "site.yml"
        path.write_text(textwrap.dedent(text))
        return main(["bootstrap", str(tmp_path / "inventory.yml"), "--playbook", str(path), *options])

    monkeypatch.setattr(context, "connect", connect)
    return run


PLAY = """\
- hosts: compute
  name: Demo
  become: true
  gather_facts: false
  tasks:
    - name: Look
      command: echo [bold]
      changed_when: false
    - name: Write
      blockinfile:
        path: {path}-{{{{ inventory_hostname }}}}
        block: line
        create: true
"""


def test_lines_for_what_changed_and_a_recap(
    bootstrap: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = PLAY.format(path=tmp_path / "file")
    assert bootstrap(text, "--diff") == 0
    out, err = capsys.readouterr()
    assert err == f'cluster "cluster" (3 hosts, {tmp_path / "inventory.yml"})\n'
    lines = out.splitlines()
    assert lines[0] == "Demo: w1 w2  (play 1 of 1, 2 tasks, 0:00)" and "elapsed: 0:0" in out
    assert sorted(line for line in lines if "changed: Write" in line) == [
        "  w1: changed: Write",
        "  w2: changed: Write",
    ]
    assert "    +line" in lines
    assert "Look" not in out
    counts = [re.sub(r"\s+", " ", line.strip()) for line in lines[-2:]]
    assert counts == [f"{name} : ok=2 changed=1 unreachable=0 failed=0 skipped=0" for name in ("w1", "w2")]
    assert bootstrap(text) == 0
    assert "changed=0" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--tags", "--skip-tags"])
def test_tags_that_select_nothing(bootstrap: Command, capsys: pytest.CaptureFixture[str], option: str) -> None:
    text = "- hosts: all\n  tasks: [{debug: , tags: network}]\n"
    assert bootstrap(text, option, "networks,always") == 2
    err = capsys.readouterr().err
    assert f'{option}: no task has the tag "networks"; did you mean "network"?' in err
    assert bootstrap(text, option, " , ") == 2
    assert f"{option} names no tag" in capsys.readouterr().err


def test_check_says_what_would_change_and_changes_nothing(
    bootstrap: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = PLAY.format(path=tmp_path / "file")
    assert bootstrap(text, "--check", "--detailed-exit-code") == 5
    assert "w1: would be changed: Write" in capsys.readouterr().out
    assert bootstrap(text, "--check") == 0
    assert not list(tmp_path.glob("file*"))
    bootstrap(text)
    # "Look" is a command: what it would say is known only when it runs.
    capsys.readouterr()
    assert (
        bootstrap(
            text.replace("changed_when", "check_mode: false\n      changed_when"), "--check", "--detailed-exit-code"
        )
        == 0
    )


def test_one_json_document(bootstrap: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bootstrap(PLAY.format(path=tmp_path / "file"), "--json", "--limit", "w2") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    assert document["command"] == "bootstrap"
    assert document["summary"] == {
        "ok": 2,
        "changed": 1,
        "unreachable": 0,
        "failed": 0,
        "skipped": 0,
        "ignored": 0,
        "unknown": 0,
    }
    (host,) = document["hosts"].values()
    look, write = host["tasks"]
    assert (look["task"], look["status"], look["result"]["stdout"]) == ("Look", "ok", "[bold]")
    assert (write["module"], write["status"]) == ("blockinfile", "changed")
    assert write["place"] == f"{tmp_path}/site.yml:9"
    assert document["started"] <= document["finished"]


def test_a_failure_is_told_with_its_words(
    bootstrap: Command, connections: LocalConnections, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """
        - hosts: all
          become: true
          gather_facts: false
          tasks:
            - name: Fail there
              shell: test {{ inventory_hostname }} != w1 || { echo disk on fire >&2; exit 3; }
        """
    assert bootstrap(text) == 3
    out = capsys.readouterr().out
    assert "  w1: failed: Fail there" in out
    assert "    disk on fire" in out
    assert 'w1 stopped at "Fail there": ' in out
    connections.gone.add("w2")
    assert bootstrap(text, "--limit", "head:w2") == 4
    out = capsys.readouterr().out
    assert "  w2: no route to host" in out


def test_bad_arguments_and_bad_playbooks_are_said_before_anything_runs(
    bootstrap: Command, connections: LocalConnections, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bootstrap("- hosts: all\n  taks: []\n") == 2
    assert f'{tmp_path}/site.yml:2: a play has no keyword "taks" here; did you mean "tasks"?' in capsys.readouterr().err
    assert bootstrap(PLAY, "--detailed-exit-code") == 2
    assert bootstrap(PLAY, "-i", "other.yml") == 2
    assert "given twice" in capsys.readouterr().err
    assert bootstrap(PLAY.format(path="/x"), "--limit", "w9") == 2
    assert connections.opened == 0


def test_a_template_as_a_host_would_get_it(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inventory = ["-i", str(tmp_path / "inventory.yml")]
    assert main(["template", "show", *inventory, "--host", "head", "head/etc/clusteradm/hostfile.j2"]) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == ["head slots=1", "w1 slots=1", "w2 slots=1"]
    assert main(["template", "show", *inventory, "--host", "w1", "/opt/clusteradm/bin/python3"]) == 0
    assert "exec /opt/clusteradm/venv/bin/python3" in capsys.readouterr().out
    for arguments, message in (
        (["--host", "w9", "head/etc/clusteradm/hostfile.j2"], "no such host: w9"),
        (["--host", "w1", "nowhere.j2"], "there is no template for nowhere.j2"),
        (["--host", "w1", "head/etc/ganesha/ganesha.conf.j2"], "does not include w1"),
        (["--host", "w1", "node/etc/apt/sources.list.j2"], "only a run knows"),
    ):
        assert main(["template", "show", *inventory, *arguments]) == 2
        assert message in capsys.readouterr().err


def test_a_shipped_playbook_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command._playbook(None) == shipped.PLAYBOOKS / "bootstrap.yml"
    assert command._playbook("slurm.yml") == shipped.PLAYBOOKS / "slurm.yml"
    assert command._playbook("./slurm.yml") == Path("slurm.yml")  # said to be missing, as it was written
    assert command._playbook("site.yml") == Path("site.yml")
    (tmp_path / "slurm.yml").touch()
    assert command._playbook("slurm.yml") == Path("slurm.yml")
