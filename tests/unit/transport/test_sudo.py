"""sudo with a password, over real SSH, with a sudo that behaves like the real one (which the lab tests use)."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from clusteradm.errors import HostFailed, HostUnreachable
from clusteradm.inventory import Host
from clusteradm.node.spec.wire.node import Hello
from clusteradm.transport import Connections, Node, Password
from clusteradm.transport.password import WrongPassword

from .conftest import Boards, Start

# As sudo: the question on standard error, the answer from standard input up to its newline, three attempts.
_SUDO = """#!/bin/sh
question=
keep=
while [ "$1" != -- ]; do
    case $1 in
        -p) question=$2; shift;;
        -k) keep=no;;
        -n) echo 'sudo: a password is required' >&2; exit 1;;
    esac
    shift
done
shift
[ "$keep" = no ] || { echo 'a ticket would be used' >&2; exit 9; }
{ tr '\\0' ' ' < /proc/$PPID/cmdline; echo; env; } >> "$LOG.seen"
echo 'We trust you have received the usual lecture.' >&2
for attempt in 1 2 3; do
    printf '%s' "$question" >&2
    IFS= read -r answer || { echo >&2; echo 'sudo: no password was provided' >&2; exit 1; }
    echo "$answer" >> "$LOG"
    if [ "$answer" = geheim ]; then "$BEHIND" "$@"; exit; fi
    sleep 0.1
    echo 'Sorry, try again.' >&2
done
exit 1
"""
_BEHIND = """#!/bin/sh
env >> "$LOG.seen"
tr '\\0' ' ' < /proc/$$/cmdline >> "$LOG.seen"
exec "$@"
"""


def sudo(folder: Path, text: str = _SUDO, behind: str = _BEHIND) -> dict[str, str]:
    """The environment of a board with this sudo, which notes what it is told."""
    (folder / "bin").mkdir(parents=True)
    for name, script in (("sudo", text), ("behind", behind)):
        (folder / "bin" / name).write_text(script)
        (folder / "bin" / name).chmod(0o755)
    return {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "LOG": str(folder / "told"),
        "BEHIND": str(folder / "bin" / "behind"),
    }


def told(folder: Path) -> list[str]:
    file = folder / "told"
    return file.read_text().splitlines() if file.exists() else []


def hello(connections: Connections, host: Host) -> str:
    return str(connections.node(host).call(Hello(), timeout=20).python)


def users(boards: Boards, **more: Any) -> list[Host]:
    return boards.hosts(ansible_user="mendel", **more)


def test_sudo_is_told_the_password_and_nobody_else(start: Start, tmp_path: Path) -> None:
    # What a login prints first is on standard output, before sudo asks.
    boards = start(env=sudo(tmp_path / "a"), greeting='Welcome!\n{"have": "nothing"}\n')
    hosts = users(boards)
    with boards.connect(hosts, sudo_password=Password("geheim")) as connections:
        outcome = connections.each(hosts, lambda host: hello(connections, host))
        assert sorted(outcome.ok) == ["b0"], outcome.failed
    assert told(tmp_path / "a") == ["geheim"]
    seen = (tmp_path / "a" / "told.seen").read_text()
    assert "clusteradm-asks-" in seen and "LAUNCHER" not in seen and "geheim" not in seen


def test_a_sudo_that_does_not_ask_is_told_nothing(start: Start, tmp_path: Path) -> None:
    quiet = 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"'
    boards = start(2, env=sudo(tmp_path / "a", f"#!/bin/sh\n{quiet}\n"))
    hosts = users(boards)
    with boards.connect(hosts, sudo_password=Password("wrong")) as connections:
        assert connections.each(hosts, lambda host: hello(connections, host)).failed == {}
    # And root asks no sudo.
    boards.known_hosts.unlink()
    plain = start()
    with plain.connect(sudo_password=Password("wrong")) as connections:
        assert connections.each(plain.hosts(), lambda host: hello(connections, host)).failed == {}


def test_a_typing_error_costs_one_attempt_on_one_board(start: Start, tmp_path: Path) -> None:
    boards = start(6, env=sudo(tmp_path / "a"))
    hosts = users(boards)
    with boards.connect(hosts, sudo_password=Password("gehiem")) as connections:
        failed = connections.each(hosts, lambda host: hello(connections, host)).failed
        assert len(failed) == 6 and told(tmp_path / "a") == ["gehiem"]
        refused = [name for name, error in failed.items() if "sudo refuses the password" in str(error)]
        assert len(refused) == 1
        assert all(isinstance(error, WrongPassword) and "gehiem" not in repr(error) for error in failed.values())
        assert all(f"because {refused[0]} refused it" in str(failed[name]) for name in failed if name not in refused)
        # Not when it is tried again, either: a run tries for minutes to get a host back.
        begun = time.monotonic()
        for host in hosts:
            with pytest.raises(WrongPassword):
                connections.reconnect(host, within=60)
        assert time.monotonic() - begun < 10
    assert told(tmp_path / "a") == ["gehiem"]


def test_all_boards_are_told_a_password_that_the_first_took(start: Start, tmp_path: Path) -> None:
    right = start(4, env=sudo(tmp_path / "a"))
    other = start(env=sudo(tmp_path / "b", _SUDO.replace("= geheim", "= anders")))
    strange = Host("x", (), users(other)[0].vars, {})
    hosts = [*users(right), strange]
    with right.connect(hosts, sudo_password=Password("geheim")) as connections:
        connections.meet(hosts)
        hello(connections, hosts[0])
        outcome = connections.each(hosts, lambda host: hello(connections, host))
        assert sorted(outcome.ok) == ["b0", "b1", "b2", "b3"]
        assert "sudo refuses the password" in str(outcome.failed["x"])
    assert told(tmp_path / "a") == ["geheim"] * 4 and told(tmp_path / "b") == ["geheim"]


def test_the_inventorys_password_comes_first(start: Start, tmp_path: Path) -> None:
    boards = start(2, env=sudo(tmp_path / "a"))
    hosts = users(boards, ansible_become_password="geheim")
    with boards.connect(hosts, sudo_password=Password("wrong")) as connections:
        assert connections.each(hosts, lambda host: hello(connections, host)).failed == {}
    with boards.connect(hosts) as connections:
        assert connections.each(hosts, lambda host: hello(connections, host)).failed == {}
    assert told(tmp_path / "a") == ["geheim"] * 4
    wrong = users(boards, ansible_become_password="wrong")
    with boards.connect(wrong) as connections:
        assert len(connections.each(wrong, lambda host: hello(connections, host)).failed) == 2
    assert told(tmp_path / "a") == ["geheim"] * 4 + ["wrong"]


@pytest.mark.parametrize(
    "names", [("become_password",), ("become_pass", "become_password"), ("sudo_pass", "become_pass", "become_password")]
)
def test_of_ansibles_names_for_the_password_the_same_one_counts(
    start: Start, tmp_path: Path, names: tuple[str, ...]
) -> None:
    """As `ansible -b` of ansible-core 2.19 tells a sudo that notes what it is told: the first of these that is set."""
    boards = start(env=sudo(tmp_path / "a"))
    hosts = users(boards, **{f"ansible_{name}": text for name, text in zip(names, ("geheim", "b", "c"), strict=False)})
    with boards.connect(hosts, sudo_password=Password("wrong")) as connections:
        assert connections.each(hosts, lambda host: hello(connections, host)).failed == {}
    assert told(tmp_path / "a") == ["geheim"]


def test_without_a_password_the_message_says_how_to_tell_it(start: Start, tmp_path: Path) -> None:
    boards = start(env=sudo(tmp_path / "a"))
    hosts = users(boards)
    with boards.connect(hosts) as connections:
        error = connections.each(hosts, lambda host: hello(connections, host)).failed["b0"]
    assert isinstance(error, HostFailed) and "sudo asks for a password\n  tell it with -K" in str(error)


@pytest.mark.parametrize(
    ("behind", "kind", "words"),
    [
        ("echo 'm is not in the sudoers file.' >&2; exit 1", HostFailed, "the user may not use sudo"),
        ("echo 'Account expired' >&2; exit 1", WrongPassword, "sudo refuses the password: Account expired"),
    ],
)
def test_sudo_that_lets_nobody_in_in_spite_of_the_password(
    start: Start, tmp_path: Path, behind: str, kind: type[Exception], words: str
) -> None:
    boards = start(env=sudo(tmp_path / "a", behind=f"#!/bin/sh\n{behind}\n"))
    hosts = users(boards)
    with boards.connect(hosts, sudo_password=Password("geheim")) as connections:
        error = connections.each(hosts, lambda host: hello(connections, host)).failed["b0"]
    assert isinstance(error, kind) and words in str(error)


def test_no_sudo_at_all(start: Start, tmp_path: Path) -> None:
    boards = start(env=sudo(tmp_path / "a", "#!/bin/sh\necho 'sh: 1: sudo: not found' >&2; exit 127\n"))
    hosts = users(boards)
    with boards.connect(hosts, sudo_password=Password("geheim")) as connections:
        error = connections.each(hosts, lambda host: hello(connections, host)).failed["b0"]
    assert isinstance(error, HostFailed) and "there is no sudo on the host" in str(error)


def test_a_host_that_is_lost_while_sudo_thinks(start: Start, tmp_path: Path) -> None:
    boards = start(2, env=sudo(tmp_path / "a", behind="#!/bin/sh\nsleep 60\n"))
    hosts = users(boards)
    password = Password("geheim")
    with boards.connect(hosts) as connections:
        connections.meet(hosts)
        connection = connections.connection(hosts[0])
        with pytest.raises(HostUnreachable, match="sudo gives no answer within 1 s"):
            Node.over_ssh("b0", connection, "python3", password, timeout=1.0)
        connection = connections.connection(hosts[1])
        boards.stop()
        with pytest.raises(HostUnreachable, match="connection lost"):
            Node.over_ssh("b1", connection, "python3", password)
