"""Real SSH to servers of this machine: host keys, gateways, proxies, lost hosts, and nothing left behind."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import paramiko
import pytest

from clusteradm.errors import HostFailed, HostUnreachable
from clusteradm.inventory import Host
from clusteradm.node.spec.wire.node import FindBlobs, GatherFacts, Hello
from clusteradm.transport import Connections, FirstContact, Limits, Node, connection, stream
from clusteradm.transport.known_hosts import fingerprint
from clusteradm.transport.trouble import LoginRefused, Refused

from .conftest import Boards, Start


def hello(connections: Connections, host: Host) -> str:
    return str(connections.node(host).call(Hello(), timeout=20).python)


def test_first_contact_asks_once_about_all(start: Start) -> None:
    boards = start(3)
    asked: list[str] = []
    with boards.connect(first_contact=FirstContact.ASK, ask=lambda table: not asked.append(table)) as connections:
        outcome = connections.each(boards.hosts(), lambda host: hello(connections, host))
        assert sorted(outcome.ok) == ["b0", "b1", "b2"] and outcome.failed == {}
    assert len(asked) == 1 and all(fingerprint(key) in asked[0] for key in boards.keys)
    lines = boards.known_hosts.read_text().splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(f"[127.0.0.1]:{port}" for port in boards.ports)
    with boards.connect(first_contact=FirstContact.ASK, ask=lambda table: pytest.fail("asked again")) as connections:
        assert connections.each(boards.hosts(), lambda host: hello(connections, host)).failed == {}


def test_a_key_that_nobody_accepted_is_an_error(start: Start) -> None:
    boards = start()
    with boards.connect(first_contact=FirstContact.ASK) as connections:
        error = connections.each(boards.hosts(), lambda host: hello(connections, host)).failed["b0"]
    assert isinstance(error, Refused) and "was not accepted" in str(error) and not boards.known_hosts.exists()


def test_without_first_contact_no_unknown_key_is_taken(start: Start) -> None:
    boards = start()
    with boards.connect() as connections, pytest.raises(Refused, match="its host key is not in"):
        connections.node(boards.host(0))
    assert not boards.known_hosts.exists()


def test_a_changed_key_is_refused_and_the_message_says_how_to_accept_it(start: Start) -> None:
    boards = start()
    with boards.connect() as connections:
        connections.each(boards.hosts(), lambda host: hello(connections, host))
    boards.stop()
    other = start(ports=boards.ports)
    with other.connect() as connections:
        error = connections.each(other.hosts(), lambda host: hello(connections, host)).failed["b0"]
    assert isinstance(error, Refused)
    assert fingerprint(boards.keys[0]) in str(error) and fingerprint(other.keys[0]) in str(error)
    command = str(error).splitlines()[-1].split(": ", 1)[1]
    subprocess.run(shlex.split(command), check=True, capture_output=True)
    with other.connect() as connections:
        assert connections.each(other.hosts(), lambda host: hello(connections, host)).failed == {}


def test_a_revoked_key_is_refused(start: Start) -> None:
    boards = start()
    key = boards.keys[0]
    with boards.connect() as connections:
        connections.meet(boards.hosts())
        with boards.known_hosts.open("a") as file:
            file.write(f"@revoked * {key.get_name()} {key.get_base64()}\n")
        with pytest.raises(Refused, match="its host key is not in"):
            connections.node(boards.host(0))


def test_gateways_are_verified_shared_and_met_first(start: Start) -> None:
    boards = start(4)
    jump = f"-J root@127.0.0.1:{boards.ports[0]}"
    behind = [boards.host(number, ansible_ssh_common_args=jump) for number in (1, 2, 3)]
    asked: list[str] = []
    # What ssh would log in to a gateway with: the user's own keys.
    own = boards.folder / "home" / ".ssh"
    own.mkdir(parents=True)
    (own / "id_ecdsa").write_bytes((boards.folder / "id_ecdsa").read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(own.parent))
        patch.delenv("SSH_AUTH_SOCK", raising=False)
        with boards.connect(
            behind, first_contact=FirstContact.ASK, ask=lambda table: not asked.append(table)
        ) as connections:
            outcome = connections.each(behind, lambda host: hello(connections, host))
        assert sorted(outcome.ok) == ["b1", "b2", "b3"], outcome.failed
        assert len(asked) == 2 and "gateway root@" in asked[0] and "b3" in asked[1]
        # Seen once, connected to once.
        assert boards.connections(0) == 2
        # A gateway with another key lets nobody through.
        lines = boards.known_hosts.read_text().splitlines()
        wrong = next(line for line in lines if str(boards.ports[1]) in line).split()[1:]
        lines = [
            " ".join([line.split()[0], *wrong]) if line.startswith(f"[127.0.0.1]:{boards.ports[0]} ") else line
            for line in lines
        ]
        boards.known_hosts.write_text("\n".join(lines) + "\n")
        with boards.connect(behind) as connections:
            failed = connections.each(behind, lambda host: hello(connections, host)).failed
    assert len(failed) == 3
    assert all(isinstance(error, Refused) and "gateway" in error.where for error in failed.values())


def test_nobody_is_reached_through_a_gateway_that_was_not_accepted(start: Start) -> None:
    boards = start(2)
    behind = boards.host(1, ansible_ssh_common_args=f"-J root@127.0.0.1:{boards.ports[0]}")
    with boards.connect([behind], first_contact=FirstContact.ASK) as connections:
        error = connections.each([behind], lambda host: hello(connections, host)).failed["b1"]
    assert isinstance(error, Refused) and "was not accepted" in str(error) and "gateway" in error.where
    assert not boards.known_hosts.exists() and boards.connections(1) == 0


def test_a_proxy_command(start: Start, proxy: str) -> None:
    boards = start(2)
    hosts = boards.hosts(ansible_ssh_common_args=proxy)
    with boards.connect(hosts) as connections:
        assert connections.each(hosts, lambda host: hello(connections, host)).failed == {}


def test_the_proxy_commands_own_words_are_the_reason(start: Start) -> None:
    boards = start()
    host = boards.host(0, ansible_ssh_common_args="-o ProxyCommand='ls /no/such/thing'")
    with boards.connect([host]) as connections:
        error = connections.each([host], lambda host: hello(connections, host)).failed["b0"]
    assert isinstance(error, HostUnreachable) and "its proxy command says: " in str(error)
    assert "/no/such/thing" in str(error)


def test_one_silent_host_holds_up_nobody(start: Start) -> None:
    boards = start(2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dead = Host("dead", (), {**boards.host(0).vars, "ansible_port": silent.getsockname()[1]}, {})
        hosts = [dead, *boards.hosts()]
        with boards.connect(hosts, limits=Limits(connect=1.0)) as connections:
            begun = time.monotonic()
            outcome = connections.each(hosts, lambda host: hello(connections, host))
    assert sorted(outcome.ok) == ["b0", "b1"] and time.monotonic() - begun < 10
    assert "no answer within 1 s" in str(outcome.failed["dead"])


def test_what_is_no_ssh_server(start: Start) -> None:
    boards = start(banner="HTTP/1.1 400 Bad Request\r\n\r\n")
    with boards.connect() as connections:
        error = connections.each(boards.hosts(), lambda host: hello(connections, host)).failed["b0"]
    assert "no SSH server" in str(error) or "hung up" in str(error)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ansible_host": "no-such-host.invalid"}, "no such name"),
        ({"ansible_port": 1}, "nothing listens there"),
    ],
)
def test_why_a_host_is_not_reached(start: Start, variables: dict[str, object], message: str) -> None:
    boards = start()
    host = boards.host(0, **variables)
    with boards.connect([host]) as connections:
        error = connections.each([host], lambda host: hello(connections, host)).failed["b0"]
    assert isinstance(error, HostUnreachable) and message in str(error) and "b0 (" in str(error)


def test_a_key_file_that_is_not_there(start: Start) -> None:
    boards = start()
    host = boards.host(0, ansible_ssh_private_key_file="/no/such/key")
    with boards.connect([host]) as connections:
        error = connections.each([host], lambda host: hello(connections, host)).failed["b0"]
    assert isinstance(error, Refused) and "/no/such/key: No such file" in str(error)


def test_a_key_under_a_passphrase_needs_the_agent(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    boards = start()
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    keys = [boards.folder / "new", boards.folder / "old"]
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", keys[0]], check=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-m", "PEM", "-N", "secret", "-f", keys[1]], check=True)
    for key in keys:
        host = boards.host(0, ansible_ssh_private_key_file=str(key))
        with boards.connect([host]) as connections:
            error = connections.each([host], lambda host: hello(connections, host)).failed["b0"]
        assert isinstance(error, LoginRefused) and "has a passphrase" in str(error) and "ssh-add" in str(error)


@pytest.mark.parametrize("kind", [("ecdsa", "PEM"), ("ed25519", "RFC4716")])
def test_a_refused_login_is_called_that_whatever_the_key(start: Start, tmp_path: Path, kind: tuple[str, str]) -> None:
    boards = start()
    key = tmp_path / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", kind[0], "-m", kind[1], "-N", "", "-f", key], check=True)
    host = boards.host(0, ansible_ssh_private_key_file=str(key))
    with boards.connect([host]) as connections:
        error = connections.each([host], lambda host: hello(connections, host)).failed["b0"]
    assert isinstance(error, LoginRefused) and "login refused for user root" in str(error)


def test_what_is_no_key(start: Start, tmp_path: Path) -> None:
    boards = start()
    (tmp_path / "note").write_text("the key is under the mat\n")
    host = boards.host(0, ansible_ssh_private_key_file=str(tmp_path / "note"))
    with boards.connect([host]) as connections:
        error = connections.each([host], lambda host: hello(connections, host)).failed["b0"]
    assert isinstance(error, Refused) and "note is no private key that can be read" in str(error)


def test_a_refused_login_is_not_tried_again_but_by_a_host_that_let_us_in_before(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clusteradm.transport.connections._LONGEST_PAUSE", 0.3)
    nologin = tmp_path / "nologin"
    boards = start(nologin=str(nologin))
    host = boards.host(0)
    nologin.touch()
    with boards.connect() as connections:
        connections.meet([host])
        before = boards.connections(0)
        with pytest.raises(LoginRefused):
            connections.reconnect(host, within=20)
        assert boards.connections(0) == before + 1
    nologin.unlink()
    with boards.connect() as connections:
        hello(connections, host)
        nologin.touch()
        threading.Timer(0.5, nologin.unlink).start()
        connections.reconnect(host, within=20)
        assert hello(connections, host)


def test_the_package_is_sent_once_per_host(start: Start, tmp_path: Path) -> None:
    (tmp_path / "fresh").mkdir(mode=0o755)
    boards = start(env={"CLUSTERADM_STATE": str(tmp_path / "fresh")})
    sent: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        write = Node._write
        patch.setattr(Node, "_write", lambda node, data: (sent.append(len(data)), write(node, data))[1])
        for _ in range(2):
            with boards.connect() as connections:
                connections.meet(boards.hosts())
                hello(connections, boards.host(0))
    assert sum(size > 10_000 for size in sent) == 1


def test_what_a_login_prints_first_is_passed_over(start: Start) -> None:
    boards = start(greeting='Welcome to Mendel!\n{"have": "nothing"}\n')
    with boards.connect() as connections:
        assert connections.each(boards.hosts(), lambda host: hello(connections, host)).failed == {}


def test_nothing_is_imported_from_the_directory_of_the_login(start: Start, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "fresh").mkdir(mode=0o755)
    for module in ("zipfile", "compileall", "json", "clusteradm"):
        (home / f"{module}.py").write_text(f"open({str(home / 'ran')!r}, 'w')\nraise SystemExit('not ours')\n")
    boards = start(cwd=str(home), env={"PYTHONPATH": str(home), "CLUSTERADM_STATE": str(tmp_path / "fresh")})
    with boards.connect() as connections:
        assert connections.each(boards.hosts(), lambda host: hello(connections, host)).failed == {}
    assert not (home / "ran").exists()


def fake(folder: Path, name: str, text: str) -> dict[str, str]:
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / "bin" / name).chmod(0o755)
    return {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("sudo", "message"),
    [
        ("echo 'sudo: a password is required' >&2; exit 1", "sudo asks for a password"),
        ("echo 'm is not in the sudoers file.' >&2; exit 1", "may not use sudo"),
        ("echo 'something else' >&2; exit 3", "ended with status 3: something else"),
    ],
)
def test_sudo_that_does_not_let_us(start: Start, tmp_path: Path, sudo: str, message: str) -> None:
    boards = start(env=fake(tmp_path, "sudo", sudo))
    host = boards.host(0, ansible_user="mendel")
    with boards.connect([host]) as connections:
        error = connections.each([host], lambda host: hello(connections, host)).failed["b0"]
    assert isinstance(error, HostFailed) and message in str(error)


def test_sudo_that_warns_does_its_work(start: Start, tmp_path: Path) -> None:
    sudo = 'echo "sudo: unable to resolve host b0" >&2; shift 2; exec "$@"'
    boards = start(env=fake(tmp_path, "sudo", sudo))
    host = boards.host(0, ansible_user="mendel")
    with boards.connect([host]) as connections:
        connections.meet([host])
        hello(connections, host)
        boards.stop()
        # A warning is no last word: the connection was lost, the program did not end.
        with pytest.raises(HostUnreachable, match="connection lost"):
            hello(connections, host)


def test_a_host_without_that_python(start: Start) -> None:
    boards = start()
    host = boards.host(0, ansible_python_interpreter="/usr/bin/python9")
    with boards.connect([host]) as connections:
        error = connections.each([host], lambda host: hello(connections, host)).failed["b0"]
    assert isinstance(error, HostFailed) and "no Python where ansible_python_interpreter says" in str(error)


def test_a_frozen_host_is_noticed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its kernel still acknowledges every packet, so TCP alone would wait for ever.
    monkeypatch.setattr(connection, "PULSE_SECONDS", 0.05)
    monkeypatch.setattr(connection, "LOST_SECONDS", 0.6)
    monkeypatch.setattr(stream, "_SLICE", 0.1)
    boards = start()
    with boards.connect() as connections:
        connections.meet(boards.hosts())
        node = connections.node(boards.host(0))
        assert node.call(Hello())
        time.sleep(0.8)  # longer than LOST_SECONDS: a host that answers is not taken for gone
        assert node.call(Hello())
        boards.signal(signal.SIGSTOP)
        try:
            begun = time.monotonic()
            with pytest.raises(HostUnreachable, match="no sign of life"):
                node.call(Hello())
            assert time.monotonic() - begun < 10
            with pytest.raises(HostUnreachable, match="no sign of life"):
                node._write(bytes(64 << 20))
        finally:
            boards.signal(signal.SIGCONT)
        assert connections.reconnect(boards.host(0), within=20).call(Hello())


def test_a_time_out_is_told_apart_from_a_lost_connection(start: Start, tmp_path: Path) -> None:
    boards = start()
    with boards.connect() as connections:
        connections.meet(boards.hosts())
        node = connections.node(boards.host(0))
        boards.signal(signal.SIGSTOP)
        try:
            begun = time.monotonic()
            with pytest.raises(HostUnreachable, match="no answer within 0 s"):
                node.call(Hello(), timeout=0.3)
            assert time.monotonic() - begun < 2
        finally:
            boards.signal(signal.SIGCONT)
        # The late answer is not taken for that to the next question.
        assert node.call(GatherFacts(), timeout=20).facts


def test_two_who_ask_get_the_same_conversation(start: Start) -> None:
    boards = start()
    with boards.connect() as connections:
        connections.meet(boards.hosts())
        before = boards.connections(0)
        found: list[Node] = []
        threads = [threading.Thread(target=lambda: found.append(connections.node(boards.host(0)))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4 and len(set(map(id, found))) == 1
        assert boards.connections(0) == before + 1


def test_what_is_opened_after_the_end_is_closed_again(start: Start, nothing_leaks: None) -> None:
    # `start` comes first: the servers' process is not this test's to lose.
    boards = start()
    try:
        connections = boards.connect()
        connections.meet(boards.hosts())
        connections.close()
        with pytest.raises(HostUnreachable, match="the run has ended"):
            connections.node(boards.host(0))
    finally:
        boards.stop()


def test_nothing_is_left_behind(start: Start, proxy: str, nothing_leaks: None, tmp_path: Path) -> None:
    boards = start(4)
    silent = socket.create_server(("127.0.0.1", 0))
    try:
        refused = Host("refused", (), {**boards.host(1).vars, "ansible_ssh_private_key_file": "/no/such/key"}, {})
        dead = Host("dead", (), {**boards.host(0).vars, "ansible_port": silent.getsockname()[1]}, {})
        broken = boards.host(3, ansible_ssh_common_args="-o ProxyCommand='sleep 60'")
        hosts = [boards.host(0), boards.host(1, ansible_ssh_common_args=proxy), boards.host(2), broken, refused, dead]
        with boards.connect(hosts, limits=Limits(connect=1.0)) as connections:
            outcome = connections.each(hosts, lambda host: hello(connections, host))
            assert sorted(outcome.ok) == ["b0", "b1", "b2"]
            assert sorted(outcome.failed) == ["b3", "dead", "refused"]
            connections.reconnect(boards.host(0), within=10)
    finally:
        silent.close()
        boards.stop()


def test_ctrl_c_is_raised_at_once_and_holds_nobody_up(tmp_path: Path) -> None:
    script = """if True:
        import os, signal, sys, threading, time
        from clusteradm.inventory import Host
        from clusteradm.transport.fanout import fan_out
        hosts = [Host(f"h{n}", (), {}, {}) for n in range(8)]
        signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it, and children do
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        try:
            fan_out(hosts, lambda host: time.sleep(60), forks=4)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            sys.exit(130)
        """
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (130, "interrupted\n")
    assert time.monotonic() - begun < 10


def test_the_bodies_of_files(start: Start, tmp_path: Path) -> None:
    import hashlib

    boards = start()
    file = tmp_path / "body"
    file.write_bytes(os.urandom(3 << 20))
    small = b"a small one"
    blobs = {hashlib.sha256(small).hexdigest(): small, hashlib.sha256(file.read_bytes()).hexdigest(): file}
    seen: list[tuple[int, int]] = []
    with boards.connect() as connections:
        connections.meet(boards.hosts())
        node = connections.node(boards.host(0))
        node.put_blobs(blobs, lambda sent, total: seen.append((sent, total)))
        assert seen[-1] == ((3 << 20) + len(small),) * 2
        node.put_blobs(blobs, lambda sent, total: pytest.fail("sent twice"))
        assert node.call(FindBlobs(tuple(sorted(blobs)))).missing == ()


def test_paramiko_says_nothing_by_itself(start: Start) -> None:
    boards: Boards = start(banner="nonsense\r\n")
    script = f"""if True:
        from pathlib import Path
        from clusteradm.inventory import Cluster, Host
        from clusteradm.transport import FirstContact, Connections
        host = Host("b", (), {{"ansible_host": "127.0.0.1", "ansible_port": {boards.ports[0]}}}, {{}})
        cluster = Cluster(Path("x"), {{}}, {{"b": host}})
        with Connections(cluster, Path({str(boards.known_hosts)!r}), first_contact=FirstContact.ACCEPT) as connections:
            print(list(connections.each([host], connections.node).failed))
        """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("['b']\n", "")


def test_paramiko_knows_how_to_ask_for_a_sign_of_life() -> None:
    # The pulse stands on this: a request that waits for its answer, or for the connection's end.
    ours, theirs = socket.socketpair()
    transport = paramiko.Transport(ours)
    try:
        begun = time.monotonic()
        threading.Timer(0.3, transport.close).start()
        transport.active = True
        transport.clear_to_send.set()
        assert transport.global_request("keepalive@openssh.com", wait=True) is None
        assert time.monotonic() - begun < 2
    finally:
        transport.close()
        ours.close()
        theirs.close()
