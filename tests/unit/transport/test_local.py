"""The machine that clusteradm runs on, as a host: no SSH, sudo where it needs root."""

from __future__ import annotations

import os
import pwd
import stat
import sys
import threading
import time
from pathlib import Path

import pytest

from clusteradm.errors import HostFailed, HostUnreachable
from clusteradm.inventory import Cluster, Host
from clusteradm.node.spec.wire.node import FindBlobs, Hello
from clusteradm.transport import Connections, Password, local
from clusteradm.transport.local import LocalConnection
from clusteradm.transport.password import WrongPassword

# Asks as sudo does, writes to standard error as sudo does, and starts what it is told to.
SUDO = """\
#!/bin/sh
ask=
while [ "$1" != -- ]; do
    case $1 in
        -n) if [ -f {folder}/password ]; then echo "sudo: a password is required" >&2; exit 1; fi;;
        -p) ask=$2; shift;;
    esac
    shift
done
shift
if [ -n "$ask" ] && [ -f {folder}/password ]; then
    printf %s "$ask" >&2
    read -r given
    [ "$given" = "$(cat {folder}/password)" ] || {{ echo "Sorry, try again." >&2; exit 1; }}
fi
echo run >> {folder}/log
exec "$@"
"""


@pytest.fixture
def here(tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """This machine, where a person who is not root has a sudo of the test's."""
    (tmp_path / "bin").mkdir()
    sudo = tmp_path / "bin/sudo"
    sudo.write_text(SUDO.format(folder=tmp_path))
    sudo.chmod(sudo.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(local, "_PATH", f"{tmp_path / 'bin'}:{local._PATH}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    home = pwd.getpwuid(os.getuid()).pw_dir
    account = pwd.struct_passwd(("eve", "x", 1000, 1000, "", home, "/bin/sh"))
    monkeypatch.setattr(local.pwd, "getpwuid", lambda uid: account)
    monkeypatch.setenv("CLUSTERADM_STATE", str(state))
    monkeypatch.setenv("SECRET", "not for the program")
    return Host("h", ("head",), {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}, {})


def connect(tmp_path: Path, host: Host, **options: object) -> Connections:
    return Connections(Cluster(tmp_path / "inventory.yml", {}, {host.name: host}), tmp_path / "known_hosts", **options)


@pytest.mark.usefixtures("nothing_leaks")
def test_the_node_program_runs_here_by_sudo(here: Host, tmp_path: Path) -> None:
    with connect(tmp_path, here) as connections:
        outcome = connections.each([here], lambda host: connections.node(host).call(Hello()))
        assert outcome.ok["h"].boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        node = connections.node(here)
        assert node.call(FindBlobs(("0" * 64,))).missing == ("0" * 64,)
        assert connections.node(here) is node
        again = connections.reconnect(here, within=5)
        assert again is not node and again.call(Hello()).protocol == 1
    assert (tmp_path / "log").read_text().splitlines() == ["run", "run"]
    assert not (tmp_path / "known_hosts").exists()


@pytest.mark.usefixtures("nothing_leaks")
def test_a_password_of_sudo(here: Host, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("right")
    with connect(tmp_path, here) as connections:
        error = connections.each([here], connections.node).failed["h"]
    assert isinstance(error, HostFailed) and "sudo asks for a password" in error.what and "-K" in error.next_step
    with connect(tmp_path, here, sudo_password=Password("wrong")) as connections:
        error = connections.each([here], connections.node).failed["h"]
    assert isinstance(error, WrongPassword) and "Sorry, try again" in error.what
    with connect(tmp_path, here, sudo_password=Password("right")) as connections:
        assert connections.node(here).call(Hello()).protocol == 1


def test_programs_start_as_after_a_login(here: Host) -> None:
    """Not in a virtual environment, whose Python lacks what the system's has, and without the person's variables."""
    stream = LocalConnection(here).session("pwd; env", 5)
    text = b""
    while data := stream.read(5):
        text += data
    stream.close()
    names = {line.partition("=")[0] for line in text.decode().splitlines()[1:]}
    assert names <= {"HOME", "USER", "LOGNAME", "PATH", "PWD", "LANG", "LC_ALL", "TZ", "CLUSTERADM_STATE", "SHLVL", "_"}
    assert Path(text.decode().splitlines()[0]).is_dir()


def test_a_program_that_takes_no_signal_ends_with_its_input(here: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = LocalConnection(here).session("cat", 5)

    def denied() -> None:
        raise PermissionError

    monkeypatch.setattr(stream._process, "terminate", denied)
    started = time.monotonic()
    stream.close()
    assert time.monotonic() - started < 2 and stream.exit_status() == 0


def test_the_user_is_that_of_the_process_and_not_a_variable(here: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "root")
    assert LocalConnection(here).user == "eve"


def test_a_process_without_an_account_is_named(here: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(local.pwd, "getpwuid", unknown)
    with pytest.raises(HostUnreachable, match="1000 has no account"):
        LocalConnection(here)


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_a_stream_that_was_closed_is_a_lost_connection(here: Host, timeout: float | None) -> None:
    """Ctrl-C closes it while the threads of its hosts read and write."""
    stream = LocalConnection(here).session("cat", 5)
    stream.close()
    with pytest.raises(ConnectionError):
        stream.read(timeout)
    with pytest.raises(ConnectionError):
        stream.write(b"more")


def test_a_stream_that_is_closed_during_a_read(here: Host) -> None:
    stream = LocalConnection(here).session("cat", 5)
    found: list[object] = []

    def read() -> None:
        try:
            found.append(stream.read(30))
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.2)
    stream.close()
    thread.join(10)
    assert found and (found[0] == b"" or isinstance(found[0], OSError))
