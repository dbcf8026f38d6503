"""ssh_config: what ssh would take from it, where the inventory says nothing; and known keys stay strict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import paramiko
import pytest

from clusteradm.errors import UsageError
from clusteradm.inventory import Host
from clusteradm.inventory.ssh_options import options_of
from clusteradm.node.spec.wire.node import Hello
from clusteradm.transport import Connections, FirstContact, gateways_of, ssh_config
from clusteradm.transport.errors import LoginRefused, Refused
from clusteradm.transport.ssh_config import with_config

from .conftest import Boards, Start, public

Config = Callable[[str], None]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Writes the ssh_config of the test."""
    path = tmp_path / "ssh config"

    def write(text: str) -> None:
        path.write_text(text)
        monkeypatch.setattr(ssh_config, "files", lambda: [path])
        monkeypatch.setattr(ssh_config, "_SSH", ("ssh", "-G", "-F", str(path)))
        ssh_config._reach.cache_clear()

    return write


def host(name: str = "w1", **variables: object) -> Host:
    return Host(name, ("compute",), variables, {})


def test_what_the_inventory_leaves_out(config: Config, tmp_path: Path) -> None:
    (tmp_path / "more").write_text("Host alias\n  HostName 192.0.2.7\n  User eve\n")
    (tmp_path / "id").write_text("")
    config(
        f"""
        Include {tmp_path}/more
        Match originalhost w* exec "true"
          Port 2200
          IdentityFile {tmp_path}/id
          IdentityFile {tmp_path}/none
        Host w1 other
          HostName %h.example
          User bob
          ProxyJump me@gate:99
          IdentitiesOnly yes
        """
    )
    found = with_config(host())
    assert (found.address, found.port, found.user) == ("w1.example", 2200, "bob")
    assert found.key_file == f"{tmp_path}/id" and found.reach and not found.reach.agent
    assert [str(jump) for jump in options_of(found).jumps] == ["me@gate:99"]
    other = with_config(host(ansible_host="alias"))
    assert (other.address, other.port, other.user, other.key_file) == ("192.0.2.7", 22, "eve", None)
    # The inventory, as it was read, has none of it: it is Ansible's too.
    assert host().vars == found.vars and host().address == "w1"


def test_the_inventory_comes_first(config: Config, tmp_path: Path) -> None:
    config(f"Host *\n User bob\n Port 99\n IdentityFile {__file__}\n ProxyCommand nc %h %p\nHost x\n HostName y\n")
    key = str(tmp_path / "mine")
    given = host(
        ansible_host="x",
        ansible_user="eve",
        ansible_port=22,
        ansible_ssh_private_key_file=key,
        ansible_ssh_common_args="-J gate",
    )
    found = with_config(given)
    assert (found.address, found.port, found.user, found.key_file) == ("y", 22, "eve", key)
    options = options_of(found)
    assert options.proxy_command is None and [jump.host for jump in options.jumps] == ["gate"]
    assert options_of(with_config(host(ansible_ssh_common_args="-o ProxyJump=none"))).proxy_command is None
    assert options_of(with_config(host(ansible_host="x"))).proxy_command == "nc y 99"


def test_a_local_host_and_no_configuration() -> None:
    assert with_config(host(ansible_connection="local")).reach is None
    assert with_config(host()).address == "w1"


@pytest.mark.parametrize(("text", "why"), [("Nonsense x\n", "Bad configuration option"), ("Host\n", "line 1")])
def test_what_ssh_refuses_is_an_error_with_its_words(config: Config, text: str, why: str) -> None:
    config(text)
    with pytest.raises(UsageError, match=why) as caught:
        with_config(host())
    assert "ssh -G w1" in caught.value.next_step


def test_a_name_is_no_option(config: Config) -> None:
    config("")
    with pytest.raises(UsageError):
        with_config(host(ansible_host="-oProxyCommand=touch /tmp/x"))


def test_a_system_file_that_says_nothing_of_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(ssh_config, "_SYSTEM", tmp_path)
    monkeypatch.setattr(ssh_config.pwd, "getpwuid", lambda uid: type("Entry", (), {"pw_dir": str(tmp_path)}))
    (tmp_path / "ssh_config").write_text("Include /etc/ssh/ssh_config.d/*.conf\nHost *\n    HashKnownHosts yes\n")
    assert ssh_config.files() == []
    (tmp_path / "ssh_config").write_text("Host *.lab\n  ProxyJump gate\n")
    assert ssh_config.files() == [tmp_path / "ssh_config"]
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").touch()
    assert ssh_config.files()[0] == tmp_path / ".ssh/config"


def test_gateways_go_by_it_too(config: Config) -> None:
    config("Host w1\n ProxyJump gate\nHost gate\n HostName 192.0.2.9\n Port 2222\n User eve\n ProxyJump outer\n")
    outer, gate = gateways_of(with_config(host()))
    assert (outer.address, outer.port) == ("outer", 22)
    assert (gate.address, gate.port, gate.user) == ("192.0.2.9", 2222, "eve")


def test_gateways_in_a_circle(config: Config) -> None:
    config("Host w1\n ProxyJump a\nHost a\n ProxyJump b\nHost b\n ProxyJump a\n")
    with pytest.raises(UsageError, match="more than 8 jump hosts"):
        gateways_of(with_config(host()))


def boards_by_alias(boards: Boards, config: Config, **keys: str) -> Connections:
    """Connections to a board whose inventory says only its alias and its Python."""
    key = keys.get("key", str(boards.variables["ansible_ssh_private_key_file"]))
    config(f"Host board\n HostName 127.0.0.1\n Port {boards.ports[0]}\n User root\n IdentityFile {key}\n")
    python = boards.variables["ansible_python_interpreter"]
    return boards.connect([host("board", ansible_python_interpreter=python)])


def test_a_login_by_it(start: Start, config: Config) -> None:
    boards = start()
    with boards_by_alias(boards, config) as connections:
        (board,) = connections.cluster.hosts.values()
        outcome = connections.each([board], lambda one: connections.node(one).call(Hello()))
    assert not outcome.failed and outcome.ok["board"].protocol == 1
    # The key is kept under the address that was reached, as ssh keeps it.
    assert f"[127.0.0.1]:{boards.ports[0]}" in boards.known_hosts.read_text()


def test_through_a_gateway_by_it(start: Start, config: Config) -> None:
    boards = start(2)
    key = boards.variables["ansible_ssh_private_key_file"]
    config(
        f"Host *\n User root\n IdentityFile {key}\n HostName 127.0.0.1\n"
        f"Host gate\n Port {boards.ports[0]}\nHost board\n Port {boards.ports[1]}\n ProxyJump gate\n"
    )
    one = host("board", ansible_python_interpreter=boards.variables["ansible_python_interpreter"])
    with boards.connect([one]) as connections:
        assert connections.each([one], lambda each: connections.node(each).call(Hello())).failed == {}
    assert boards.connections(0) == 2  # once for its key, once for all that is behind it


def test_keys_that_are_known_stay_strict(start: Start, config: Config) -> None:
    boards = start()
    other = paramiko.ECDSAKey.generate()
    boards.known_hosts.write_text(f"[127.0.0.1]:{boards.ports[0]} {other.get_name()} {public(other)}\n")
    with boards_by_alias(boards, config) as connections:
        (board,) = connections.cluster.hosts.values()
        error = connections.each([board], connections.node).failed["board"]
    assert isinstance(error, Refused) and "the host key has changed" in error.what
    boards.known_hosts.unlink()
    connections = Connections(connections.cluster, boards.known_hosts, first_contact=FirstContact.ASK)
    with connections:
        error = connections.each([board], connections.node).failed["board"]
    assert isinstance(error, Refused) and "was not accepted" in error.what


def test_a_key_of_it_that_is_refused(start: Start, config: Config, tmp_path: Path) -> None:
    boards = start()
    paramiko.ECDSAKey.generate().write_private_key_file(str(tmp_path / "strange"))
    with boards_by_alias(boards, config, key=str(tmp_path / "strange")) as connections:
        (board,) = connections.cluster.hosts.values()
        error = connections.each([board], connections.node).failed["board"]
    assert isinstance(error, LoginRefused) and "login refused for user root" in error.what
