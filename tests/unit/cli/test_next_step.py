"""Commands in messages: each can be pasted, and works on the same hosts as the run that said it."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from clusteradm.cli import commands, next_step
from clusteradm.cli.main import main
from clusteradm.errors import HostFailed
from clusteradm.testing import FakeHosts

from .conftest import INVENTORY


def args(**values: object) -> argparse.Namespace:
    nothing = {"inventory": None, "limit": None, "known_hosts": None, "ask_become_pass": False}
    return argparse.Namespace(**{**nothing, **values})


def test_what_each_command_takes() -> None:
    """The table of next_step is what the parsers say."""
    found = {}
    for name in commands.COMMANDS:
        command = commands.parser([name]).child(name)
        for verb, parser in [*command.children.items(), ("", command)]:
            options = {action.dest for action in parser._actions}
            takes = tuple(each for each in ("inventory", "limit", "known_hosts", "ask_become_pass") if each in options)
            if takes:
                found[f"{name} {verb}".strip()] = takes
    assert found == next_step.COMMANDS


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("clusteradm job list shows them all", "clusteradm job list -i 'my site.yml' -K shows them all"),
        ("run clusteradm bootstrap", "run clusteradm bootstrap -i 'my site.yml' --limit w1 -K"),
        ("clusteradm bootstrap --limit w3", "clusteradm bootstrap -i 'my site.yml' -K --limit w3"),
        ("clusteradm bootstrap --retry-failed", "clusteradm bootstrap -i 'my site.yml' -K --retry-failed"),
        ("clusteradm infer --attach J", "clusteradm infer -i 'my site.yml' -K --attach J"),
        ("clusteradm tpu reset w1:apex_0; else x", "clusteradm tpu reset -i 'my site.yml' -K w1:apex_0; else x"),
        ("clusteradm inventory --host x", "clusteradm inventory -i 'my site.yml' --host x"),
        ("`clusteradm enroll` does", "`clusteradm enroll -i 'my site.yml' --limit w1 -K` does"),
        ("clusteradm lab up --nodes 4", "clusteradm lab up --nodes 4"),
        ("clusteradm bootstrap -i other.yml", "clusteradm bootstrap --limit w1 -K -i other.yml"),
        ("/opt/clusteradm job", "/opt/clusteradm job"),
        ("then run bootstrap again", "then run clusteradm bootstrap -i 'my site.yml' --limit w1 -K again"),
    ],
)
def test_options_of_the_run_are_added(text: str, shown: str) -> None:
    assert next_step.complete(text, args(inventory="my site.yml", limit="w1", ask_become_pass=True)) == shown
    assert next_step.complete(text, args()) == text.replace("run bootstrap", "run clusteradm bootstrap")


BOOTSTRAP = "clusteradm bootstrap -i 'my site.yml'"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Run bootstrap again when that is mended.", f"Run {BOOTSTRAP} --limit w1 again when that is mended."),
        ("run X there, and then bootstrap again.", f"run X there, and then run {BOOTSTRAP} --limit w1 again."),
        ("Mend it. Then bootstrap again", f"Mend it. Then run {BOOTSTRAP} --limit w1 again"),
        (
            "Run bootstrap again when that is, on the head as well.",
            f"Run {BOOTSTRAP} again when that is, on the head as well.",
        ),
        ("run bootstrap again without --limit, and see", f"run {BOOTSTRAP} again without --limit, and see"),
        ("run bootstrap without --limit first", f"run {BOOTSTRAP} without --limit first"),
        ("run bootstrap again. x without --limit", f"run {BOOTSTRAP} --limit w1 again. x without --limit"),
    ],
)
def test_sentences_of_playbooks(text: str, shown: str) -> None:
    assert next_step.complete(text, args(inventory="my site.yml", limit="w1")) == shown


def test_an_error_names_the_inventory(tmp_path: Path, hosts: FakeHosts, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other site.yml"
    path.write_text(INVENTORY)
    assert main(["job", "show", "x", "-i", str(path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f'cluster "cluster" (3 hosts, {path})'
    assert lines[-1] == f"  clusteradm job list -i '{path}' shows them all"


def test_a_host_that_fails_in_a_run(tmp_path: Path, hosts: FakeHosts, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.yml"
    path.write_text(INVENTORY)
    (tmp_path / "site.yml").write_text(
        "- {hosts: w1, tasks: [{command: x, tags: [clock]}, {command: y, tags: [user, my tag]}]}\n"
    )
    error = HostFailed("no Python", where="w1", next_step="clusteradm bootstrap installs it")
    hosts["w1"].answer("facts", error)
    words = ["bootstrap", str(path), "--playbook", str(tmp_path / "site.yml"), "--limit", "w1"]
    words += ["--tags", "clock", "--skip-tags", "user,my tag"]
    assert main(words) == 3
    output = capsys.readouterr()
    assert output.out.count(f"clusteradm bootstrap -i {path} --limit w1 installs it") == 2
    again = f"clusteradm bootstrap -i {path} --retry-failed --playbook {tmp_path / 'site.yml'}"
    again += " --tags clock --skip-tags 'user,my tag'"
    assert output.err.splitlines()[-2:] == ["once corrected, for w1:", f"  {again}"]
