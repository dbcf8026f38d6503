"""The command line itself: help, usage errors, and what may have been meant."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest

from clusteradm import __version__
from clusteradm.cli.commands import COMMANDS, parser
from clusteradm.cli.main import main
from clusteradm.cli.parser import Parser

CONNECTION = {
    "--inventory",
    "--limit",
    "--forks",
    "--known-hosts",
    "--accept-new",
    "--ask-become-pass",
    "--connect-timeout",
    "--away-timeout",
    "--task-timeout",
}


def every() -> Iterator[tuple[tuple[str, ...], Parser]]:
    """The words of every command and every verb, with their parser."""
    for name in COMMANDS:
        command = parser([name]).child(name)
        yield (name,), command
        for verb, child in command.children.items():
            yield (name, verb), child


PARSERS = dict(every())
ids = [" ".join(words) for words in PARSERS]
each = pytest.mark.parametrize("words", PARSERS, ids=ids)


@each
def test_help_fits_80_columns_and_has_examples(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = PARSERS[words].format_help()
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert "\x1b" not in text and "\nexamples:\n" in text
    assert text.startswith(f"usage: clusteradm {' '.join(words)} [OPTIONS]")


@each
def test_examples_are_understood(words: tuple[str, ...]) -> None:
    examples = (PARSERS[words].epilog or "").partition("examples:\n")[2].partition("\n\n")[0].replace("\\\n", " ")
    commands = [line for line in examples.splitlines() if line.startswith("  clusteradm ")]
    assert commands
    for command in commands:
        typed = shlex.split(re.split(r"   +| \| ", command.strip())[0])[1:]
        # Two spaces part a command from its comment where the column is full.
        typed = shlex.split(re.split(r"  ", command.strip())[0])[1:] if " | " not in command else typed
        assert parser(typed).parse_args(typed).command == typed[0]


@each
def test_options_say_what_they_do_and_connections_have_a_group(words: tuple[str, ...]) -> None:
    command = PARSERS[words]
    for action in command._actions:
        assert action.help or command.children, action
    groups = {group.title: group for group in command._action_groups}
    names = {name for action in command._actions for name in action.option_strings if name.startswith("--")}
    grouped = {
        name for group in [groups.get("connection")] if group for a in group._group_actions for name in a.option_strings
    }
    if "--known-hosts" in names:
        assert names & CONNECTION == {name for name in grouped if name.startswith("--")}
        assert list(groups)[-1] == "connection"
    else:
        assert "connection" not in groups


@each
def test_prefixes_of_options_are_refused(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    for action in PARSERS[words]._actions:
        for name in action.option_strings:
            if name.startswith("--") and len(name) > 3 and name[:-1] not in PARSERS[words]._option_string_actions:
                assert exits(*words, name[:-1]) == 2
                assert f"unknown option {name[:-1]}" in capsys.readouterr().err


def exits(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    return int(str(end.value.code or 0))


@pytest.mark.parametrize(
    ("words", "error", "see"),
    [
        ("helth", "clusteradm: error: unknown command 'helth'; did you mean \"health\"?", "clusteradm help"),
        ("--verison", 'clusteradm: error: unknown option --verison; did you mean "--version"?', "clusteradm help"),
        ("lab upp", "clusteradm lab: error: unknown command 'upp'; did you mean \"up\"?", "clusteradm help lab"),
        (
            "health --limt w1",
            'clusteradm health: error: unknown option --limt; did you mean "--limit"?',
            "clusteradm help health",
        ),
        (
            "deploy-model m.tflite --nmae m",
            'clusteradm deploy-model: error: unknown option --nmae; did you mean "--name"?',
            "clusteradm help deploy-model",
        ),
        (
            "lab fault w1 powr",
            "clusteradm lab fault: error: argument FAULT: invalid choice: 'powr'; did you mean \"power\"?",
            "clusteradm help lab fault",
        ),
        ("health w1", "clusteradm health: error: unexpected argument w1", "clusteradm help health"),
        ("health -x", "clusteradm health: error: unknown option -x", "clusteradm help health"),
        ("help lab upp", "clusteradm lab: error: unknown command 'upp'; did you mean \"up\"?", "clusteradm help lab"),
        (
            "help health w1",
            "clusteradm health: error: unknown command 'w1'; clusteradm health has no commands",
            "clusteradm help health",
        ),
        ("lab --json", "clusteradm lab: error: unknown option --json", "clusteradm help lab"),
    ],
)
def test_usage_errors(words: str, error: str, see: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exits(*shlex.split(words)) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == f"{error}\n  see: {see}\n"


def test_what_follows_a_command_of_the_lab_is_its_own() -> None:
    words = ["lab", "exec", "w1", "--", "ls", "--colour"]
    assert parser(words).parse_args(words).argv[-2:] == ["ls", "--colour"]


def test_an_error_of_a_command_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "-i", "/nowhere.yml"]) == 2
    assert capsys.readouterr().err.startswith("clusteradm health: error: /nowhere.yml")


@pytest.mark.parametrize("words", [(), ("lab",), ("model",)])
def test_a_command_that_lacks_its_verb_shows_its_help(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exits(*words) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "\ncommands:\n" in captured.err


@pytest.mark.parametrize("words", [(), ("health",), ("lab", "up"), ("help",)])
def test_help(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", *words]) == 0
    shown = capsys.readouterr().out
    assert exits(*words, "--help") == exits(*words, "-h") == 0
    assert capsys.readouterr().out == shown * 2 and shown.startswith(f"usage: {' '.join(['clusteradm', *words])} ")


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exits(option) == 0
    assert capsys.readouterr().out == f"clusteradm {__version__}\n"
