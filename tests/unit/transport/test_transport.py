"""Host keys, ssh options, the fan-out and the launcher; real SSH is tested in the lab."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import paramiko
import pytest

from clusteradm.errors import HostFailed, HostUnreachable, UsageError
from clusteradm.inventory import Cluster, Host
from clusteradm.inventory.ssh_options import Jump, options_of
from clusteradm.transport import Connections
from clusteradm.transport.bundle import LAUNCHER, START, archive, digest
from clusteradm.transport.fanout import fan_out
from clusteradm.transport.first_contact import FirstContact, Seen, resolve, table
from clusteradm.transport.known_hosts import KnownHosts, entry_name, fingerprint


def host(name: str = "h", **variables: object) -> Host:
    return Host(name, ("compute",), {"ansible_host": "192.0.2.1", **variables}, {})


@pytest.fixture(scope="module")
def key() -> paramiko.PKey:
    return paramiko.ECDSAKey.generate()


def test_nobody_elses_lines_are_lost(tmp_path: Path, key: paramiko.PKey) -> None:
    path = tmp_path / "known_hosts"
    foreign = (
        b"# a comment \xff\n@cert-authority *.example ssh-ed25519 AAAA\nnonsense\nold ssh-xyz AAAA\nbad ssh-ed25519 A"
    )
    path.write_bytes(foreign)
    known = KnownHosts(path)
    known.append([("192.0.2.1", 22, key), ("192.0.2.1", 2222, key)])
    known.append([("192.0.2.1", 22, key)])
    lines = path.read_bytes().splitlines()
    assert lines[:5] == foreign.splitlines()
    assert len(lines) == 7
    assert known.of("192.0.2.1", 22)[key.get_name()] == key
    assert known.of("192.0.2.1", 2222)[key.get_name()] == key
    assert known.of("192.0.2.2", 22) == {}


def test_a_hashed_host_is_known(tmp_path: Path, key: paramiko.PKey) -> None:
    name = paramiko.HostKeys.hash_host("192.0.2.1")
    (tmp_path / "known_hosts").write_text(f"{name} {key.get_name()} {key.get_base64()}\n")
    assert KnownHosts(tmp_path / "known_hosts").of("192.0.2.1", 22)[key.get_name()] == key


def test_a_file_that_cannot_be_used_is_the_users_mistake(tmp_path: Path, key: paramiko.PKey) -> None:
    known = KnownHosts(tmp_path)
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        known.of("192.0.2.1", 22)
    with pytest.raises(UsageError, match="cannot be written: Is a directory"):
        known.append([("192.0.2.1", 22, key)])


def test_appending_from_many_threads_loses_nothing(tmp_path: Path, key: paramiko.PKey) -> None:
    known = KnownHosts(tmp_path / "known_hosts")
    threads = [threading.Thread(target=known.append, args=([(f"192.0.2.{n}", 22, key)],)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(line.split()[0] for line in known.path.read_text().splitlines()) == sorted(
        f"192.0.2.{n}" for n in range(20)
    )


def test_appending_from_many_processes_loses_nothing(tmp_path: Path, key: paramiko.PKey) -> None:
    path = tmp_path / "known_hosts"
    foreign = [f"person-{n} ssh-ed25519 AAAA" for n in range(5)]
    path.write_text("\n".join(foreign))  # no newline at its end
    script = """if True:
        import sys, paramiko
        from pathlib import Path
        from clusteradm.transport.known_hosts import KnownHosts
        key = paramiko.PKey.from_type_string(sys.argv[3], __import__("base64").b64decode(sys.argv[4]))
        print("ready", flush=True)
        sys.stdin.readline()
        for n in range(60):
            KnownHosts(Path(sys.argv[1])).append([(f"192.0.{sys.argv[2]}.{n}", 22, key), (f"198.51.100.{n}", 22, key)])
        """
    words = [key.get_name(), key.get_base64()]
    with contextlib.ExitStack() as stack:
        writers = []
        for number in range(4):
            command = [sys.executable, "-c", script, path, str(number), *words]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            writers.append(stack.enter_context(process))
        for writer in writers:
            assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
        for writer in writers:  # all at once
            assert writer.stdin is not None
            writer.stdin.close()
        assert [writer.wait(60) for writer in writers] == [0] * 4
    lines = path.read_text().splitlines()
    assert lines[:5] == foreign
    # Their own hosts, and those that all of them met, once.
    wanted = [f"192.0.{number}.{n}" for number in range(4) for n in range(60)] + [f"198.51.100.{n}" for n in range(60)]
    assert sorted(line.split()[0] for line in lines[5:]) == sorted(wanted)
    assert all(line.split()[1:] == words for line in lines[5:])


def test_a_file_that_was_replaced_meanwhile_is_not_written_to(tmp_path: Path, key: paramiko.PKey) -> None:
    known = KnownHosts(tmp_path / "known_hosts")
    known.append([("192.0.2.1", 22, key)])
    with known.path.open("a+b") as old:
        fcntl.flock(old, fcntl.LOCK_EX)
        waiting = threading.Thread(target=known.append, args=([("192.0.2.2", 22, key)],))
        waiting.start()
        time.sleep(0.1)
        # As `ssh-keygen -R` does it: another file under this name.
        (tmp_path / "new").write_text("person ssh-ed25519 AAAA\n")
        (tmp_path / "new").rename(known.path)
    waiting.join(10)
    assert [line.split()[0] for line in known.path.read_text().splitlines()] == ["person", "192.0.2.2"]


def test_the_fingerprint_is_that_of_ssh_keygen(tmp_path: Path, key: paramiko.PKey) -> None:
    (tmp_path / "k.pub").write_text(f"{key.get_name()} {key.get_base64()}\n")
    done = subprocess.run(["ssh-keygen", "-lf", tmp_path / "k.pub"], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1] == fingerprint(key)


def test_a_refused_key_is_an_error_of_its_host_alone(tmp_path: Path, key: paramiko.PKey) -> None:
    known = KnownHosts(tmp_path / "known_hosts")
    seen = [Seen(host("a"), key), Seen(host("b"), key)]
    asked: list[str] = []
    refused = resolve(seen, known, FirstContact.ASK, lambda text: bool(asked.append(text)))
    assert sorted(refused) == ["a", "b"] and not known.path.exists()
    assert len(asked) == 1 and fingerprint(key) in asked[0] and asked[0] == table(seen)
    assert resolve(seen, known, FirstContact.ACCEPT, lambda text: pytest.fail("asked")) == {}
    assert known.of("192.0.2.1", 22)


@pytest.mark.parametrize(("port", "name"), [(22, "192.0.2.1"), (2222, "[192.0.2.1]:2222")])
def test_entry_names(port: int, name: str) -> None:
    assert entry_name("192.0.2.1", port) == name


def test_ssh_options() -> None:
    command = '-o ProxyCommand="nc -X 5 %h %p" -o ControlMaster=auto'
    assert options_of(host(ansible_ssh_common_args=command)).proxy_command == "nc -X 5 192.0.2.1 22"
    assert options_of(host(ansible_ssh_common_args="-J a@b:1,c")).jumps == (Jump("a", "b", 1), Jump(None, "c"))
    assert options_of(host(ansible_ssh_common_args="-oProxyJump=gate")).jumps == (Jump(None, "gate"),)
    assert options_of(host(ansible_ssh_common_args="-o 'ProxyJump ssh://me@[::1]:2'")).jumps == (Jump("me", "::1", 2),)
    assert options_of(host(ansible_ssh_common_args="-C -o ProxyJump=none")).jumps == ()
    # Each sign once: what "%%" leaves behind is no sign of its own.
    literal = "-o ProxyCommand='x %%h %n'"
    # The name that Ansible gives to ssh.
    assert options_of(host(ansible_ssh_common_args=literal)).proxy_command == "x %h 192.0.2.1"
    assert options_of(host()).proxy_command is None


@pytest.mark.parametrize("words", ["-o Ciphers=none", "-L 1:2:3", "-o 'unclosed", "-J a:b:c", "-o ProxyCommand='x %d'"])
def test_an_option_that_would_be_ignored_is_refused(words: str) -> None:
    with pytest.raises(UsageError, match="ansible_ssh_common_args of h"):
        options_of(host(ansible_ssh_common_args=words))


def test_the_fan_out_is_bounded_and_loses_nothing() -> None:
    running, most = 0, 0
    lock = threading.Lock()
    begun = threading.Barrier(4, timeout=10)

    def work(one: Host) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        begun.wait()
        with lock:
            running -= 1
        if one.name == "h3":
            raise HostFailed("ill")
        if one.name == "h5":
            raise HostUnreachable("gone")
        return one.name.upper()

    outcome = fan_out([host(f"h{n}") for n in range(8)], work, forks=4)
    assert most == 4
    assert sorted(outcome.ok) == ["h0", "h1", "h2", "h4", "h6", "h7"] and outcome.ok["h0"] == "H0"
    assert {name: type(error) for name, error in outcome.failed.items()} == {"h3": HostFailed, "h5": HostUnreachable}


def test_a_defect_is_not_taken_for_a_hosts_failure() -> None:
    with pytest.raises(ZeroDivisionError):
        fan_out([host()], lambda one: 1 // 0, forks=1)


def launch(state: Path, *, send: bool) -> tuple[bytes, bytes, int]:
    body = struct.pack(">Q", len(archive())) + archive() if send else b""
    hello = b'{"do": "hello", "id": 1}\n'
    done = subprocess.run(
        [sys.executable, *START, LAUNCHER, digest()],
        input=body + hello,
        capture_output=True,
        env={**os.environ, "CLUSTERADM_STATE": str(state)},
        cwd="/",
        timeout=60,
    )
    return done.stdout, done.stderr, done.returncode


def said(state: Path, *, send: bool) -> list[bytes]:
    """The lines of its output; what a login prints before may lack the end of its line, so that some are empty."""
    return [line for line in launch(state, send=send)[0].splitlines() if line]


def test_the_package_is_sent_once_and_byte_compiled(tmp_path: Path) -> None:
    state = tmp_path / "state"
    name = digest()
    lines = said(state, send=True)
    assert lines[0] == f'{{"need": "{name}"}}'.encode() and lines[1] == f'{{"have": "{name}"}}'.encode()
    assert b'"protocol":1' in lines[2]
    assert list((state / "node" / name).rglob("*.pyc"))
    lines = said(state, send=False)
    assert lines[0] == f'{{"have": "{name}"}}'.encode() and b'"protocol":1' in lines[1]


def test_nothing_is_run_from_where_others_can_write(tmp_path: Path) -> None:
    state = tmp_path / "state"
    launch(state, send=True)
    (state / "node").chmod(0o777)
    out, error, status = launch(state, send=False)
    assert status != 0 and b"refusing to run code" in error and out == b""


def test_an_interrupted_transfer_leaves_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    done = subprocess.run(
        [sys.executable, *START, LAUNCHER, digest()],
        input=struct.pack(">Q", len(archive())) + archive()[:1000],
        capture_output=True,
        env={**os.environ, "CLUSTERADM_STATE": str(state)},
        timeout=60,
    )
    assert done.returncode != 0 and b"ended in the middle of the package" in done.stderr
    assert list((state / "node").iterdir()) == []


def test_a_package_that_is_used_counts_as_new(tmp_path: Path) -> None:
    state = tmp_path / "state"
    launch(state, send=True)
    folder = state / "node" / digest()
    os.utime(folder, (1, 1))
    launch(state, send=False)
    assert folder.stat().st_mtime > 1


def test_old_packages_are_removed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    for number in range(5):
        (state / "node" / f"{number:016x}").mkdir(parents=True)
        os.utime(state / "node" / f"{number:016x}", (number, number))
    for folder in (state, state / "node"):
        folder.chmod(0o755)
    launch(state, send=True)
    assert sorted(path.name for path in (state / "node").iterdir()) == sorted([f"{3:016x}", f"{4:016x}", digest()])


class Played(Connections):
    """Connections of which `opened` notes each, and that fail for the host "dead"."""

    def __init__(self, folder: Path, hosts: list[Host]) -> None:
        self.opened: list[str] = []
        self.go = threading.Event()
        super().__init__(Cluster(folder / "i.yml", {}, {one.name: one for one in hosts}), folder / "known_hosts")

    def _connection(self, host: Host) -> Any:
        assert self.go.wait(60)
        self.opened.append(host.name)
        if host.name == "dead":
            raise HostUnreachable("no answer", where=host.name)
        return None

    def _start(self, host: Host, connection: Any) -> Any:
        return Conversation(host.name)


class Conversation:
    closed = False

    def __init__(self, name: str) -> None:
        self.name = name

    def close(self) -> None:
        pass


def test_conversations_that_are_begun_early_are_the_ones_that_are_used(tmp_path: Path, key: paramiko.PKey) -> None:
    hosts = [host("a"), host("dead"), host("new", ansible_host="192.0.2.9")]
    connections = Played(tmp_path, hosts)
    connections.known_hosts.append([("192.0.2.1", 22, key)])
    connections.begin(hosts)
    connections.go.set()
    for thread in threading.enumerate():
        if thread.name.startswith("begin "):
            thread.join(60)
    assert sorted(connections.opened) == ["a", "dead"], "whoever is new is asked about first"
    assert connections.node(hosts[0]) is connections.node(hosts[0])
    with pytest.raises(HostUnreachable, match="no answer"):
        connections.node(hosts[1])
    assert sorted(connections.opened) == ["a", "dead"], "nobody waited for it twice"
    with pytest.raises(HostUnreachable, match="no answer"):
        connections.node(hosts[1])
    assert sorted(connections.opened) == ["a", "dead", "dead"], "but it is tried again"
