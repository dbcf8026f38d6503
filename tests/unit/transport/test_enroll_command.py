"""`clusteradm enroll` as it is typed: one line per host, one document, exit statuses; passwords only on a terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusteradm import shipped
from clusteradm.cli import context, main
from clusteradm.fleet import enrolment
from clusteradm.transport import Password

from .conftest import Boards, Start

NO_TERMINAL = "there is no terminal to ask for a password on"


@pytest.fixture(autouse=True)
def no_mdt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrolment, "MDT_KEY", tmp_path / "mdt.key")


def inventory(boards: Boards, **more: Any) -> str:
    """An inventory of these boards: b0 is the head, b1 and the others compute; `more`: variables by host name."""
    hosts: dict[str, Any] = {}
    for number, port in enumerate(boards.ports):
        hosts[f"b{number}"] = {
            "ansible_port": port,
            "cluster_ip": f"10.20.0.{number + 1}",
            "cluster_interface": "eth0",
            **more.get(f"b{number}", {}),
        }
    head = {"b0": hosts.pop("b0")}
    shared = {**boards.variables, "ansible_host": "127.0.0.1", "cluster_subnet": "10.20.0.0/24"}
    document = {"all": {"vars": shared, "children": {"head": {"hosts": head}, "compute": {"hosts": hosts}}}}
    file = boards.folder / "inventory.yml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return str(file)


def test_one_line_per_host_and_one_document(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").mkdir()
    boards = start(2, home=str(tmp_path / "home"), methods="publickey,password", password="geheim")
    new = tmp_path / "new"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", new], check=True)
    file = inventory(boards, b1={"ansible_ssh_private_key_file": str(new)})
    assert main.main(["enroll", "-i", file, "--accept-new"]) == 4
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "b0  already enrolled"
    assert out[1].startswith(f"b1  refused: it refuses the admin key {new}") and "--ask-pass" in out[2]

    asked: list[str] = []
    monkeypatch.setattr(context, "require_terminal", lambda: None)
    monkeypatch.setattr(context, "ask_password", lambda question: [asked.append(question), Password("geheim")][1])
    assert main.main(["enroll", "-i", file, "-k"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "b0  already enrolled",
        "b1  key installed, logged in with the password",
    ]
    assert asked == ["login password of b1: "]

    assert main.main(["enroll", "-i", file, "-k", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (
        document["schema_version"] == 1
        and document["command"] == "enroll"
        and list(document["hosts"])
        == [
            "b0",
            "b1",
        ]
    )
    assert document["hosts"]["b1"] == {
        "state": "already enrolled",
        "through": "admin key",
        "passwords": None,
        "cause": None,
        "remedy": None,
    }
    assert len(asked) == 1
    assert main.main(["enroll", "-i", file, "--limit", "b1", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["hosts"]) == ["b1"]


def test_what_failed_and_what_was_unreachable(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    boards = start(2)
    file = inventory(boards, b1={"ansible_port": 1})
    assert main.main(["enroll", "-i", file, "--accept-new", "--json"]) == 4
    hosts = json.loads(capsys.readouterr().out)["hosts"]
    assert hosts["b0"]["state"] == "already enrolled" and hosts["b1"]["state"] == "unreachable"
    assert hosts["b1"]["cause"] == "nothing listens there"


@pytest.mark.parametrize("words", [["enroll", "-k"], ["health", "-K"], ["enroll", "--ask-become-pass"]])
def test_without_a_terminal_no_password_is_taken(start: Start, words: list[str]) -> None:
    boards = start()
    done = subprocess.run(
        [sys.executable, "-m", "clusteradm", *words, "-i", inventory(boards), "--accept-new"],
        input="geheim\n",
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
        check=False,
    )
    assert done.returncode == 2 and NO_TERMINAL in done.stderr and boards.connections(0) == 0


def test_a_missing_key_is_an_error_that_says_how_to_make_it(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    boards = start()
    file = inventory(boards, b0={"ansible_ssh_private_key_file": "/no/such/key"})
    assert main.main(["enroll", "-i", file]) == 2
    assert "make one: ssh-keygen -t ed25519 -f /no/such/key" in capsys.readouterr().err


def test_the_inventorys_password_is_not_shown(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    boards = start(2)
    file = inventory(boards, b0={"ansible_become_password": "geheim"}, b1={"ansible_ssh_pass": "geheim"})
    for words in (["--list"], ["--host", "b0"], ["--origin"], ["--origin", "b1"], ["--origin", "--json"]):
        assert main.main(["inventory", "-i", file, *words]) == 0
        out = capsys.readouterr().out
        assert "********" in out and "geheim" not in out
    for wrong in (4711, ["geheim"], "{{ 'geheim' }}"):
        file = inventory(boards, b0={"ansible_become_password": wrong})
        assert main.main(["inventory", "-i", file, "--list"]) == 2
        error = capsys.readouterr().err
        assert "ansible_become_password must" in error and "geheim" not in error and "4711" not in error


def test_passwords_off_is_what_the_hosts_themselves_say(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    playbook = "- name: Passwords\n  hosts: all\n  gather_facts: false\n  tasks:\n    - command:\n        cmd: {}\n"
    monkeypatch.setattr(shipped, "PLAYBOOKS", tmp_path)
    (tmp_path / "passwords.yml").write_text(playbook.format("'true'"))
    deaf, open_one = start(methods="publickey"), start(methods="publickey,password")
    boards = Boards(tmp_path, 0, [*deaf.ports, *open_one.ports, 1], [], deaf.variables)
    file = inventory(boards)
    assert main.main(["enroll", "-i", file, "--accept-new", "--no-passwords", "--json"]) == 3
    hosts = json.loads(capsys.readouterr().out)["hosts"]
    assert [hosts[name]["passwords"] for name in ("b0", "b1", "b2")] == ["off", "on", None]
    assert [hosts[name]["state"] for name in ("b0", "b1", "b2")] == ["already enrolled", "failed", "unreachable"]
    assert hosts["b1"]["cause"] == "it still takes passwords"
    assert main.main(["enroll", "-i", file, "--limit", "b0", "--no-passwords"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "b0  takes no passwords"

    (tmp_path / "passwords.yml").write_text(playbook.format("'false'"))
    assert main.main(["enroll", "-i", file, "--limit", "b0", "--no-passwords"]) == 3
    assert 'failed: password logins not turned off: stopped at "command": ' in capsys.readouterr().out
