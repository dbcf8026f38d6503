"""Every question of the program, in a real terminal: seen in full, answered by y and n, ended cleanly by Ctrl-C."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Any

import pytest
import terminal
from terminal import Terminal

from clusteradm.transport.known_hosts import fingerprint

from .conftest import Boards, Start
from .test_enroll_command import inventory

PLAYBOOK = "- name: Play\n  hosts: all\n  gather_facts: false\n  tasks: [{name: Task, command: 'true'}]\n"
QUESTION = "Accept these keys? [y/N] "


def bootstrap(boards: Boards, **more: Any) -> list[str | Path]:
    playbook = boards.folder / "playbook.yml"
    playbook.write_text(PLAYBOOK)
    return ["bootstrap", inventory(boards, **more), "--playbook", playbook]


def commands(boards: Boards) -> dict[str, list[str | Path]]:
    """A command of each kind of display: none, a table of hosts (on either output), a line, a table that stays."""
    file = inventory(boards)
    return {
        "enroll": ["enroll", "-i", file],
        "bootstrap": bootstrap(boards),
        "bootstrap --json": [*bootstrap(boards), "--json"],
        "health": ["health", "-i", file],
        "health --watch": ["health", "-i", file, "--watch", "0.1"],
        "model list": ["model", "list", "-i", file],
    }


COMMANDS = ["enroll", "bootstrap", "bootstrap --json", "health", "health --watch", "model list"]


def seen(screen: str, boards: Boards, count: int) -> None:
    """The question, the addresses and all fingerprints are on the screen, once and in full."""
    for number in range(count):
        key = boards.keys[number]
        for text in (f"[127.0.0.1]:{boards.ports[number]}", key.get_name(), fingerprint(key)):
            assert text in screen, screen
        assert screen.count(f"{key.get_name()}  {fingerprint(key)}") == 1, screen
    assert screen.count(QUESTION.strip()) == 1, screen


@pytest.mark.parametrize("width", [60, 200])
@pytest.mark.parametrize("command", COMMANDS)
def test_host_keys_are_seen_and_yes_is_yes(start: Start, command: str, width: int) -> None:
    boards = start(2)
    count = 1 if command == "model list" else 2
    with terminal.clusteradm(*commands(boards)[command], width=width) as shown:
        seen(shown.wait_for(QUESTION), boards, count)
        assert not boards.known_hosts.exists()
        shown.type("y\n")
        if command == "health --watch":
            shown.wait_for("again in 0.1 s")
            shown.type("\x03")
        shown.finish()
        # What came after erased nothing of it.
        seen(shown.screen.text, boards, count)
        assert shown.screen.cursor and shown.echoes
    assert len(boards.known_hosts.read_text().splitlines()) == count


@pytest.mark.parametrize("answer", ["n\n", "\n", "yeah\n", "\x04"])
def test_all_else_is_no(start: Start, answer: str) -> None:
    boards = start(2)
    with terminal.clusteradm(*bootstrap(boards), width=60) as shown:
        shown.wait_for(QUESTION)
        shown.type(answer)
        assert shown.finish() == 4
        seen(shown.screen.text, boards, 2)
        assert shown.screen.text.count("was not accepted") >= 2
    assert not boards.known_hosts.exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_at_the_question_ends_the_program(start: Start, command: str) -> None:
    boards = start(2)
    with terminal.clusteradm(*commands(boards)[command]) as shown:
        shown.wait_for(QUESTION)
        shown.type("\x03")
        assert shown.finish() == 130
        lines = shown.screen.text.rstrip().splitlines()
        assert lines[-1] == "clusteradm: interrupted" and lines[-2].startswith(QUESTION)
        assert shown.screen.cursor and shown.echoes and "Traceback" not in shown.screen.text
    assert not boards.known_hosts.exists()


# Ctrl-C, by a timer, at any moment from the start of the question to the wait for its answer.
ASKING = """
import signal, sys, time
from clusteradm.cli.display import confirm, password
signal.signal(signal.SIGALRM, signal.default_int_handler)
ask = {"confirm": lambda: confirm("", "sure?"), "password": lambda: password("secret? ")}[sys.argv[1]]
def interrupted(seconds):
    begun = time.perf_counter()
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        ask()
        print("not interrupted")
    except KeyboardInterrupt:
        return time.perf_counter() - begun
longest = min(interrupted(0.05) - 0.05 + 0.0005 for _ in range(3))
for number in range(600):
    interrupted(longest * (number + 1) / 600)
print("done")
"""


@pytest.mark.parametrize("question", ["confirm", "password"])
def test_no_ctrl_c_is_lost_before_the_wait_for_an_answer(question: str) -> None:
    with terminal.command([sys.executable, "-c", ASKING, question]) as shown:
        shown.wait_for("done")
        assert shown.finish() == 0 and shown.echoes
        assert "not interrupted" not in shown.screen.text


def test_an_answer_typed_before_the_question_is_none(start: Start) -> None:
    boards = start(1)
    with terminal.clusteradm(*bootstrap(boards)) as shown:
        shown.type("y\n")
        shown.wait_for(QUESTION)
        shown.type("n\n")
        assert shown.finish() == 4
    assert not boards.known_hosts.exists()


def test_piped_input_is_no_answer(start: Start) -> None:
    boards = start(1)
    words = ["sh", "-c", 'yes | "$@"', "sh", sys.executable, "-m", "clusteradm", *bootstrap(boards)]
    with terminal.command(words) as shown:
        assert shown.finish() == 4
        assert "not a terminal: nothing accepted" in shown.screen.text and "--accept-new" in shown.screen.text
    assert not boards.known_hosts.exists()


def hidden(shown: Terminal, question: str, secret: str) -> None:
    """Ask; the answer is not seen."""
    shown.wait_for_secret(question)
    assert shown.screen.text.rstrip().endswith(question.rstrip())
    shown.type(f"{secret}\n")


@pytest.mark.parametrize("width", [60, 200])
@pytest.mark.parametrize("command", ["bootstrap", "health", "health --watch", "enroll", "exporter"])
def test_the_sudo_password(start: Start, command: str, width: int) -> None:
    boards = start(1)
    words = commands(boards).get(command, ["exporter", "-i", inventory(boards), "--textfile", boards.folder / "prom"])
    with terminal.clusteradm(*words, "-K", "--accept-new", width=width) as shown:
        hidden(shown, "sudo password: ", "geheim")
        if command == "health --watch":
            shown.wait_for("again in 0.1 s")
            shown.type("\x03")
        assert shown.finish() in (0, 3, 130)
        assert "sudo password:" in shown.screen.text and "geheim" not in shown.screen.text
        assert shown.screen.cursor and shown.echoes


@pytest.mark.parametrize("words", [["-K"], ["-k"]])
@pytest.mark.parametrize("key", ["\x03", "\x04", "\n"])
def test_ctrl_c_at_a_password_ends_the_program(start: Start, tmp_path: Path, words: list[str], key: str) -> None:
    (tmp_path / "home").mkdir()
    boards = start(1, home=str(tmp_path / "home"), authorized=[], methods="publickey,password", password="geheim")
    with terminal.clusteradm("enroll", "-i", inventory(boards), "--accept-new", *words) as shown:
        shown.wait_for_secret("password")
        shown.type(key)
        status = shown.finish()
        lines = shown.screen.text.rstrip().splitlines()
        refused = (2, "clusteradm enroll: error: no password was typed")
        assert (status, lines[-1]) == ((130, "clusteradm: interrupted") if key == "\x03" else refused)
        assert shown.echoes and "Traceback" not in shown.screen.text and boards.attempts(0) == []


def test_the_login_password_after_the_host_keys(start: Start, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    boards = start(2, home=str(tmp_path / "home"), authorized=[], methods="publickey,password", password="geheim")
    public = boards.folder / "id_ecdsa.pub"
    public.write_text(f"ecdsa-sha2-nistp256 {boards.keys[0].get_base64()} {getpass.getuser()}\n")
    with terminal.clusteradm("enroll", "-i", inventory(boards), "-k", width=60) as shown:
        seen(shown.wait_for(QUESTION), boards, 2)
        shown.type("y\n")
        hidden(shown, "login password of b0, b1: ", "geheim")
        shown.finish()
        seen(shown.screen.text, boards, 2)
        assert "geheim" not in shown.screen.text
    assert boards.attempts(0) == ["geheim"] == boards.attempts(1)
