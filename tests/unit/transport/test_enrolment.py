"""Enrolment over real SSH to servers of this machine: what lets us in, what is written, and who hears a password."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import paramiko
import pytest

from clusteradm.errors import ClusteradmError, HostFailed, UsageError
from clusteradm.fleet import enrolment
from clusteradm.fleet.enrolment import ADMIN_KEY, MDT, PASSWORD, enrol, takes_passwords
from clusteradm.inventory import Host
from clusteradm.transport import Password
from clusteradm.transport.errors import LoginRefused, Refused
from clusteradm.transport.fanout import Outcome
from clusteradm.transport.password import WrongPassword

from .conftest import Boards, Start, public


@pytest.fixture
def admin(tmp_path: Path) -> Path:
    """The admin's key, which no board knows yet."""
    file = tmp_path / "admin"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "admin@desk", "-f", file], check=True)
    return file


@pytest.fixture(autouse=True)
def mdt_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the key of mdt would be; it is not there yet."""
    file = tmp_path / "mdt.key"
    monkeypatch.setattr(enrolment, "MDT_KEY", file)
    return file


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def run(boards: Boards, hosts: list[Host], password: str | None = None) -> tuple[Outcome[str], list[str]]:
    """Enrol these hosts; the outcome, and the hosts that a password was asked for."""
    asked: list[str] = []

    def ask(shut: Any) -> Password:
        asked.extend(host.name for host in shut)
        return Password(str(password))

    with boards.connect(hosts) as connections:
        return enrol(connections, hosts, ask if password is not None else None), asked


def shut(boards: Boards, admin: Path, **more: Any) -> list[Host]:
    return boards.hosts(ansible_ssh_private_key_file=str(admin), ansible_user="mendel", **more)


def authorized(home: Path) -> list[str]:
    return (home / ".ssh" / "authorized_keys").read_text().splitlines()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_who_is_enrolled_already_is_left_alone(start: Start, home: Path) -> None:
    boards = start(2, home=str(home))
    outcome, _ = run(boards, boards.hosts())
    assert outcome.ok == {"b0": ADMIN_KEY, "b1": ADMIN_KEY} and outcome.failed == {}
    assert list(home.iterdir()) == []


def test_the_key_of_mdt_opens_the_board_once(start: Start, home: Path, admin: Path, mdt_key: Path) -> None:
    # As mdt writes it: RSA, in the old format.
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-C", "mdt", "-f", mdt_key], check=True
    )
    boards = start(home=str(home))
    (home / ".ssh").mkdir(mode=0o755)
    theirs = (mdt_key.parent / "mdt.key.pub").read_text().strip()
    (home / ".ssh" / "authorized_keys").write_text(theirs)  # without a newline at its end
    outcome, _ = run(boards, shut(boards, admin))
    assert outcome.ok == {"b0": MDT}, outcome.failed
    assert authorized(home) == [theirs, (admin.parent / "admin.pub").read_text().strip()]
    assert mode(home / ".ssh") == 0o700 and mode(home / ".ssh" / "authorized_keys") == 0o600
    assert os.listdir(home / ".ssh") == ["authorized_keys"]
    before = (home / ".ssh" / "authorized_keys").stat()
    assert run(boards, shut(boards, admin))[0].ok == {"b0": ADMIN_KEY}
    after = (home / ".ssh" / "authorized_keys").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.parametrize("method", ["password", "keyboard-interactive"])
def test_a_password_opens_the_board_once(start: Start, home: Path, admin: Path, method: str) -> None:
    boards = start(home=str(home), methods=f"publickey,{method}", password="geheim")
    outcome, asked = run(boards, shut(boards, admin), "geheim")
    assert outcome.ok == {"b0": PASSWORD} and asked == ["b0"], outcome.failed
    assert boards.attempts(0) == ["geheim"]
    assert run(boards, shut(boards, admin), "geheim") == (Outcome({"b0": ADMIN_KEY}), [])


@pytest.mark.parametrize("method", ["password", "keyboard-interactive"])
def test_a_typing_error_costs_one_attempt_on_one_board(start: Start, home: Path, admin: Path, method: str) -> None:
    boards = start(6, home=str(home), methods=f"publickey,{method}", password="geheim")
    outcome, asked = run(boards, shut(boards, admin), "gehiem")
    assert sorted(asked) == sorted(outcome.failed) == [f"b{number}" for number in range(6)] and outcome.ok == {}
    told = [number for number in range(6) if boards.attempts(number)]
    assert len(told) == 1 and boards.attempts(told[0]) == ["gehiem"]
    for name, error in outcome.failed.items():
        assert isinstance(error, WrongPassword) and "gehiem" not in repr(error) + str(error)
        assert ("it refuses the password of mendel" if name == f"b{told[0]}" else "was not tried") in error.what


def test_other_boards_with_another_password_are_told_it_once(start: Start, home: Path, admin: Path) -> None:
    boards = start(home=str(home), methods="password", password="geheim")
    others = start(3, home=str(home / "other"), methods="password", password="anders")
    first = boards.host(0, ansible_ssh_private_key_file=str(admin))
    rest = [
        Host(f"o{number}", (), {**host.vars, "ansible_ssh_private_key_file": str(admin)}, {})
        for number, host in enumerate(others.hosts())
    ]
    password = Password("geheim")
    with boards.connect([first, *rest]) as connections:
        connections.open([first, *rest])
        assert enrol(connections, [first], lambda _: password).ok == {"b0": PASSWORD}
        for _ in range(2):
            failed = enrol(connections, rest, lambda _: password).failed
            assert all(isinstance(error, WrongPassword) for error in failed.values()) and len(failed) == 3
    # The log of attempts is by number: b0 and o0 share one.
    assert others.attempts(1) == others.attempts(2) == ["geheim"]


def test_a_board_that_takes_keys_only_never_hears_the_password(start: Start, home: Path, admin: Path) -> None:
    keys_only = start(home=str(home))
    open_one = start(2, home=str(home), methods="publickey,password", password="geheim")
    hosts = [Host("k", (), shut(keys_only, admin)[0].vars, {}), shut(open_one, admin)[1]]
    outcome, asked = run(keys_only, hosts, "geheim")
    assert asked == ["k", "b1"] and outcome.ok == {"b1": PASSWORD}
    error = outcome.failed["k"]
    assert isinstance(error, Refused) and "takes no password" in error.what and "mdt pushkey" in error.next_step
    assert keys_only.attempts(0) == []


def test_a_question_that_is_not_for_a_password_is_not_answered(start: Start, home: Path, admin: Path) -> None:
    boards = start(home=str(home), methods="keyboard-interactive", questions=[["Your favourite colour: ", True]])
    plain = start(2, home=str(home), methods="keyboard-interactive", password="geheim")
    hosts = [Host("strange", (), shut(boards, admin)[0].vars, {}), shut(plain, admin)[1]]
    outcome, _ = run(plain, hosts, "geheim")
    # It never heard the password, so it keeps nobody else from hearing it.
    assert outcome.ok == {"b1": PASSWORD} and boards.attempts(0) == []
    error = outcome.failed["strange"]
    assert not isinstance(error, WrongPassword) and "it asks for more than a password" in error.what


def test_a_host_that_hangs_up_on_a_password_is_not_told_it_again(start: Start, home: Path, admin: Path) -> None:
    boards = start(home=str(home), methods="password", password="geheim", hang_up=True)
    password = Password("geheim")
    with boards.connect() as connections:
        hosts = shut(boards, admin)
        for words in ("it refuses the password of mendel: ", "refused before"):
            error = enrol(connections, hosts, lambda _: password).failed["b0"]
            assert isinstance(error, WrongPassword) and words in error.what
    assert boards.attempts(0) == ["geheim"]


def test_a_board_that_nothing_opens(start: Start, admin: Path, mdt_key: Path) -> None:
    boards = start()
    error = run(boards, shut(boards, admin))[0].failed["b0"]
    assert isinstance(error, LoginRefused) and f"the admin key {admin}" in error.what and "mdt" not in error.what
    assert "--ask-pass" in error.next_step and "mdt pushkey" in error.next_step
    mdt_key.write_text("no key\n")
    error = run(boards, shut(boards, admin))[0].failed["b0"]
    assert f"and mdt's key {mdt_key} ({mdt_key} is no readable private key" in error.what


def test_no_password_is_asked_for_where_a_key_opens_or_the_board_is_off(start: Start, home: Path) -> None:
    boards = start(2, home=str(home))
    dead = Host("dead", (), {**boards.host(0).vars, "ansible_port": 1}, {})
    outcome, asked = run(boards, [*boards.hosts(), dead], "geheim")
    assert asked == [] and sorted(outcome.ok) == ["b0", "b1"] and list(outcome.failed) == ["dead"]


def test_a_gateway_that_lets_nobody_in_is_not_asked_for_a_password(
    start: Start, admin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    boards = start(2, methods="publickey,password", password="geheim")
    host = boards.host(
        1, ansible_ssh_private_key_file=str(admin), ansible_ssh_common_args=f"-J me@127.0.0.1:{boards.ports[0]}"
    )
    outcome, asked = run(boards, [host], "geheim")
    assert asked == [] and "gateway" in outcome.failed["b1"].where and boards.attempts(0) == []


def test_missing_keys_are_named_before_any_connection(start: Start, tmp_path: Path) -> None:
    boards = start(2)
    unnamed = Host("b0", (), {"ansible_host": "127.0.0.1", "ansible_port": boards.ports[0]}, {})
    hosts = [unnamed, boards.host(1, ansible_ssh_private_key_file=str(tmp_path / "none"))]
    with boards.connect(hosts) as connections, pytest.raises(UsageError) as raised:
        enrol(connections, hosts, None)
    assert "no key is named for b0" in str(raised.value)
    assert f"{tmp_path}/none: there is no such key\n  make one: ssh-keygen -t ed25519 -f {tmp_path}/none" in str(
        raised.value
    )
    assert boards.connections(0) == boards.connections(1) == 0


def test_a_key_under_a_passphrase(start: Start, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, stranger = tmp_path / "secret", tmp_path / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "words", "-f", file], check=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", stranger], check=True)
    boards = start(home=str(home), methods="publickey,password", password="geheim")
    hosts = shut(boards, file)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(UsageError, match="ssh-agent does not hold it"):
        run(boards, hosts)
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "agent")], stdout=subprocess.PIPE) as agent:
        try:
            assert agent.stdout is not None
            agent.stdout.readline()
            monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
            ask = tmp_path / "ask"
            ask.write_text("#!/bin/sh\necho words\n")
            ask.chmod(0o755)
            forced = {**os.environ, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
            for key in (stranger, file):
                subprocess.run(["ssh-add", "-q", key], env=forced, check=True)
            # Another key of the agent's is no proof that the board takes this one.
            (home / ".ssh").mkdir()
            (home / ".ssh" / "authorized_keys").write_text((tmp_path / "stranger.pub").read_text())
            assert run(boards, hosts, "geheim")[0].ok == {"b0": PASSWORD}
            assert run(boards, hosts)[0].ok == {"b0": ADMIN_KEY}
            (tmp_path / "secret.pub").unlink()
            with pytest.raises(UsageError, match="no public key beside it"):
                run(boards, hosts)
        finally:
            agent.kill()


def test_a_public_key_that_is_another_keys_is_not_taken(start: Start, home: Path, admin: Path) -> None:
    boards = start(home=str(home), methods="password", password="geheim")
    (admin.parent / "admin.pub").write_text(f"ecdsa-sha2-nistp256 {public(paramiko.ECDSAKey.generate())} other\n")
    assert run(boards, shut(boards, admin), "geheim")[0].ok == {"b0": PASSWORD}
    key = paramiko.PKey.from_path(str(admin))
    assert authorized(home) == [f"ssh-ed25519 {key.get_base64()} clusteradm"]


def test_a_link_stays_one_and_a_line_behind_options_does_not_count(start: Start, home: Path, admin: Path) -> None:
    boards = start(home=str(home), methods="password", password="geheim")
    line = (admin.parent / "admin.pub").read_text().strip()
    (home / ".ssh").mkdir()
    (home / "elsewhere").mkdir()
    (home / "elsewhere" / "keys").write_text(f'# a comment\nfrom="192.0.2.1" {line}\n')
    (home / ".ssh" / "authorized_keys").symlink_to("../elsewhere/keys")
    run(boards, shut(boards, admin), "geheim")
    assert (home / ".ssh" / "authorized_keys").is_symlink()
    assert authorized(home) == ["# a comment", f'from="192.0.2.1" {line}', line]


def test_what_cannot_be_written_is_said(start: Start, home: Path, admin: Path) -> None:
    boards = start(home=str(home), methods="password", password="geheim", greeting="Welcome!\n")
    (home / ".ssh").write_text("in the way")
    error = run(boards, shut(boards, admin), "geheim")[0].failed["b0"]
    assert isinstance(error, HostFailed) and "authorized_keys could not be written" in error.what
    assert "File exists" in error.what


def test_a_key_that_is_written_and_yet_refused(start: Start, tmp_path: Path, admin: Path, mdt_key: Path) -> None:
    # sshd looks elsewhere: AuthorizedKeysFile.
    (tmp_path / "real").mkdir()
    boards = start(env={"HOME": str(tmp_path / "real")})
    mdt_key.write_bytes((tmp_path / "id_ecdsa").read_bytes())  # the one that the board knows
    outcome, asked = run(boards, shut(boards, admin), "geheim")
    assert asked == [], "a password would open the board, and change nothing"
    error = outcome.failed["b0"]
    assert isinstance(error, Refused) and "and yet the host refuses it" in error.what
    assert "journalctl -u ssh" in error.next_step


def test_whether_a_board_takes_passwords(start: Start) -> None:
    for methods, answer in (("publickey", False), ("publickey,password", True), ("keyboard-interactive", True)):
        boards = start(methods=methods)
        with boards.connect() as connections:
            connections.open(boards.hosts())
            assert takes_passwords(connections, boards.host(0)) is answer
        boards.known_hosts.unlink()


def test_a_lost_connection_is_neither_right_nor_wrong() -> None:
    password = Password("geheim")
    with pytest.raises(ConnectionError), password.attempt_on("b0"):
        raise ConnectionError
    with pytest.raises(WrongPassword), password.attempt_on("b1"):
        raise WrongPassword("no")
    for host in ("b0", "b1", "b2"):
        with pytest.raises(ClusteradmError, match="not tried"), password.attempt_on(host):
            pytest.fail("told")
    assert "geheim" not in repr(password)


def test_nothing_is_left_behind(start: Start, home: Path, admin: Path, nothing_leaks: None) -> None:
    boards = start(2, home=str(home), methods="publickey,password", password="geheim")
    try:
        assert run(boards, shut(boards, admin), "geheim")[0].failed == {}
    finally:
        boards.stop()
