"""Completion in real shells, by the script that `clusteradm completion` writes; and what each argument may be."""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusteradm.cli import commands, completers
from clusteradm.cli.parser import Parser
from clusteradm.errors import HostUnreachable
from clusteradm.testing import FakeHosts

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 90.0


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `clusteradm`, first on the path; no person's start-up files."""
    path = tmp_path / "bin" / "clusteradm"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m clusteradm "$@"\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ZDOTDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


class Shell:
    """An interactive shell in a terminal, to which keys are typed."""

    def __init__(self, *command: str) -> None:
        self.process, self.master = pty.fork()
        if self.process == 0:
            os.environ.update(TERM="dumb", PS1="READY> ", PROMPT="READY> ")
            os.execvp(command[0], command)  # noqa: S606 - fixed words
        self.said = ""

    def type(self, keys: str) -> None:
        self.said = ""
        os.write(self.master, keys.encode())

    def wait(self, pattern: str) -> None:
        end = time.monotonic() + SECONDS
        while not re.search(pattern, self.said):
            assert time.monotonic() < end, f"no {pattern!r} in {self.said!r}"
            if select.select([self.master], [], [], 1)[0]:
                self.said += os.read(self.master, 4096).decode("utf-8", "replace")

    def close(self) -> None:
        os.kill(self.process, 9)
        os.waitpid(self.process, 0)
        os.close(self.master)


TYPED = [("po", "poweroff "), ("drain head", "drain head "), ("exec --limi", "exec --limit "), ("tpu ", "tpu reset ")]


@pytest.fixture(params=["bash", "zsh"])
def shell(request: pytest.FixtureRequest, program: Path) -> Iterator[Shell]:
    """The shell after its set-up, with the script of `clusteradm completion` read."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    script = program / "script"
    script.write_bytes(subprocess.run(["clusteradm", "completion", request.param], capture_output=True).stdout)
    if request.param == "bash":
        one = Shell("bash", "--norc", "-i")
        setup = f"source {script}; echo SET''UP\n"
    else:
        one = Shell("zsh", "-f", "-i")
        setup = f"unsetopt prompt_sp; autoload -Uz compinit; compinit -D; source {script}; echo SET''UP\n"
    try:
        one.wait("READY> ")
        one.type(setup)
        one.wait(r"SETUP[\s\S]*READY> ")
        yield one
    finally:
        one.close()


def test_a_key_completes_commands_options_verbs_and_hosts(shell: Shell) -> None:
    for typed, completed in TYPED:
        shell.type(f"clusteradm {typed}\t")
        shell.wait(re.escape(f"clusteradm {completed}"))
        shell.type("\x15")  # takes the line away
    shell.type("clusteradm exec --limit w\t\t")
    shell.wait(r"w[12]\s+.*w[12]")


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish(program: Path) -> None:
    script = program / "script"
    script.write_bytes(subprocess.run(["clusteradm", "completion", "fish"], capture_output=True).stdout)

    def complete(line: str) -> list[str]:
        command = ["fish", "-N", "-c", f"source {script}; complete -C '{line}'"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        return sorted(word.split("\t")[0] for word in done.stdout.splitlines())

    assert complete("clusteradm po") == ["poweroff"]
    assert complete("clusteradm exec --limit w1,") == [f"w1,{name}" for name in ("all", "compute", "head", "w1", "w2")]
    assert complete("clusteradm completion ") == ["bash", "fish", "zsh"]


def actions(parser: Parser) -> Iterator[tuple[Parser, argparse.Action]]:
    for action in parser._actions:
        if action.nargs != 0 and not action.choices:
            yield parser, action
    for child in parser.children.values():
        yield from actions(child)


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_argument_has_a_completer(name: str) -> None:
    for parser, action in actions(commands.parser([name]).child(name)):
        assert callable(completers.completer_of(parser.prog, action)), (parser.prog, action.metavar)


def models(*versions: tuple[str, int, list[str]]) -> dict[str, object]:
    listed = [
        {"name": name, "version": version, "path": "/x", "manifest": None, "sums": None, "labels": labels}
        for name, version, labels in versions
    ]
    return {"versions": listed, "left_out": 0}


def test_models_versions_labels_and_jobs_are_the_heads(
    hosts: FakeHosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    listed = models(("m", 1, []), ("m", 2, ["stable"]), ("other", 7, []))
    hosts["head"].answer("repository-list", listed)
    hosts["head"].answer("job-list", {"jobs": [{"job": "20260101-000000-abcdef", "state": "running"}]})

    def complete(program: str, metavar: str, dest: str = "x", **typed: str) -> list[str]:
        action = argparse.Action([], dest, metavar=metavar)
        return sorted(completers.completer_of(program, action)(prefix="", parsed_args=argparse.Namespace(**typed)))

    for _ in range(2):  # the head is asked once
        assert complete("clusteradm infer", "NAME[:VERSION|@LABEL]") == [
            "m",
            "m:1",
            "m:2",
            "m@stable",
            "other",
            "other:7",
        ]
        assert complete("clusteradm model label", "NAME", "name") == ["m", "other"]
        assert complete("clusteradm model label", "VERSION", name="m") == ["1", "2"]
        assert complete("clusteradm model unlabel", "LABEL", name="m") == ["stable"]
        assert complete("clusteradm job show", "JOB") == ["20260101-000000-abcdef"]
    assert complete("clusteradm help", "COMMAND", words="") == sorted(commands.COMMANDS)
    assert complete("clusteradm help", "COMMAND", words=["tpu"]) == ["reset"]  # type: ignore[arg-type]


def test_a_head_that_does_not_answer_costs_nothing(
    hosts: FakeHosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    # What could mean something to a shell is no name, and an answer with it is none.
    hosts["head"].answer("repository-list", HostUnreachable("no answer"))
    hosts["head"].answer("repository-list", models(("m", 2, ["$(touch x)"])))
    for name in ("one", "two"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        for _ in range(2):  # the second time, it is not asked
            assert completers._of_head(argparse.Namespace()) == {"models": [], "jobs": []}
    monkeypatch.setenv("CLUSTERADM_INVENTORY", str(tmp_path / "none"))
    assert completers._of_head(argparse.Namespace()) == {"models": [], "jobs": []}


@pytest.mark.parametrize(
    "variables",
    [
        "ansible_host: 127.0.0.1, ansible_ssh_common_args: -o ProxyCommand=PROGRAM",
        "ansible_connection: local, ansible_python_interpreter: PROGRAM",
    ],
)
def test_a_key_runs_no_program_of_an_inventory(variables: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, ran = tmp_path / "program", tmp_path / "ran"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    head = f"{{cluster_ip: 10.0.0.1, ansible_user: x, {variables.replace('PROGRAM', str(program))}}}"
    path = tmp_path / "inventory.yml"
    shared = "{cluster_subnet: 10.0.0.0/24, cluster_interface: eth0}"
    path.write_text(f"all: {{vars: {shared}, children: {{head: {{hosts: {{h: {head}}}}}}}}}\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = argparse.Namespace(inventory=str(path))
    assert completers._cluster(asked) is not None
    assert completers._of_head(asked) == {"models": [], "jobs": []}
    assert not ran.exists()
