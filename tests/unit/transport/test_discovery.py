"""What announces itself on this machine's loopback, and what answers there; no other network is asked."""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from zeroconf import ServiceInfo, Zeroconf

from clusteradm import inventory as inventories
from clusteradm.cli import main
from clusteradm.errors import UsageError
from clusteradm.fleet import discovery
from clusteradm.fleet.discovery import MENDEL, SSH, Board
from clusteradm.transport.known_hosts import fingerprint

from .conftest import Boards, Start
from .test_enroll_command import inventory

LOOPBACK = ["127.0.0.1"]


@pytest.fixture
def board(start: Start, monkeypatch: pytest.MonkeyPatch) -> Boards:
    """One SSH server at 127.0.0.1, at the port that is scanned."""
    boards = start(1)
    monkeypatch.setattr(discovery, "_PORT", boards.ports[0])
    return boards


@pytest.fixture
def announcer() -> Iterator[Zeroconf]:
    node = Zeroconf(interfaces=LOOPBACK)
    yield node
    node.close()


def announce(node: Zeroconf, kind: str, server: str, *addresses: str, **properties: str) -> None:
    info = ServiceInfo(
        kind,
        f"{server.partition('.')[0]}.{kind}",
        port=22,
        addresses=[socket.inet_aton(address) for address in addresses],
        server=server,
        properties=dict(properties),
    )
    node.register_service(info, cooperating_responders=True)


def test_what_boards_announce(announcer: Zeroconf) -> None:
    # Other runs of this test on this machine hear each other.
    mine = os.getpid()
    goose, address = f"goose-{mine}", str(ipaddress.IPv4Address("10.64.0.0") + 2 * (mine % (1 << 20)))
    pi, other = f"pi-{mine}", str(ipaddress.IPv4Address(address) + 1)
    announce(announcer, MENDEL, f"{goose}.local.", "192.168.100.2", address)
    announce(announcer, SSH, f"{goose}.local.", address)
    announce(announcer, SSH, f"{pi}.local.", other, model="Raspberry Pi 5\x1b[2J")
    found: dict[str, Board] = {}
    for seconds in (0.5, 2.0, 10.0, 30.0):  # a busy machine takes longer
        found = {board.address: board for board in discovery.announced(seconds, LOOPBACK)}
        if {address, other} <= {*found} and len(found[address].how) == 2:
            break
    assert {key: (found[key].name, {*found[key].how}, found[key].model) for key in (address, other)} == {
        address: (goose, {"mdt", "ssh"}, "Mendel Linux"),
        other: (pi, {"ssh"}, "Raspberry Pi 5\x1b[2J"),
    }


def test_what_no_machine_can_announce_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that the library refuses, addresses of this machine or of many, and names without an address."""
    for name in ("x.", f".{SSH}", "a" * 80 + f".{SSH}", "x._http._tcp.local.", f"\x1b[2J.{SSH}"):
        assert discovery._service(SSH, name) is None
    good = discovery._service(SSH, f"good.{SSH}")
    assert good is not None and good.name == f"good.{SSH}"
    found: dict[str, Board] = {}
    for address in ("127.0.0.1", "224.0.0.251", ".".join("0000"), "255.255.255.255", "10.0.0.7"):
        info = ServiceInfo(SSH, f"good.{SSH}", addresses=[socket.inet_aton(address)], server="good.local.")
        discovery._add(found, "ssh", info)
    assert list(found) == ["10.0.0.7"]


def test_a_scan_says_banner_key_and_what_the_inventory_has(
    board: Boards, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = inventory(board)
    words = ["discover", "--seconds", "0", "--scan", "127.0.0.1/32", "-i", file]
    assert main.main([*words, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["boards"]
    assert (found["address"], found["how"], found["host"], found["note"]) == ("127.0.0.1", ["scan"], "b0", "")
    assert found["key"] == fingerprint(board.keys[0]) and found["banner"].startswith("paramiko")
    assert main.main(words) == 0
    out = capsys.readouterr().out
    assert found["key"] in out and "127.0.0.1" in out and "b0" in out
    other = tmp_path / "known"
    other.write_text(f"[127.0.0.1]:{board.ports[0]} ecdsa-sha2-nistp256 {new_key()}\n")
    assert main.main([*words, "--known-hosts", str(other)]) == 0
    assert "b0: another host key than the known one" in capsys.readouterr().out


def test_what_takes_connections_and_speaks_no_ssh_is_no_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(discovery, "_PORT", server.getsockname()[1])
        monkeypatch.setattr(discovery, "_KEY_SECONDS", 0.3)
        said: list[str] = []
        assert discovery.discover([discovery.network("127.0.0.1/32")], 0, progress=said.append) == []
        assert said[-1] == "1 addresses take a connection, but do not speak SSH: left out"


def test_a_range_that_this_machine_has_no_way_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*args: object) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    monkeypatch.setenv("CLUSTERADM_INVENTORY", "")
    assert main.main(["discover", "--seconds", "0", "--scan", "10.9.0.0/25"]) == 0
    err = capsys.readouterr().err
    assert "scanning 126 addresses, up to 2 s" in err
    assert "126 of them cannot be tried from this machine: Network is unreachable" in err and "ip route" in err
    with pytest.raises(UsageError, match=r"scan a part of it, as 10\.0\.0\.0/20"):
        discovery.network("10.0.0.0/8")


def new_key() -> str:
    import paramiko

    return paramiko.ECDSAKey.generate().get_base64()


def test_a_known_board_at_another_address_and_two_with_one_key(board: Boards) -> None:
    cluster = inventories.load(Path(inventory(board)))
    board.known_hosts.write_text(
        f"[127.0.0.1]:{board.ports[0]} {board.keys[0].get_name()} {board.keys[0].get_base64()}\n"
    )
    known = discovery.KnownHosts(board.known_hosts)
    moved = Board("10.0.0.9", ("mdt",), key_type="ecdsa-sha2-nistp256", key=fingerprint(board.keys[0]))
    assert discovery._compared(moved, cluster, known).note == "the inventory has it at 127.0.0.1"
    twin = Board("10.0.0.8", ("mdt",), key=moved.key)
    assert discovery._odd(moved, [moved, twin]).note == "the same host key as 10.0.0.8: a copied card?"
    assert discovery._odd(Board("a", ()), [Board("b", ()), Board("a", ())]).note == ""


@pytest.mark.parametrize("text", ["", "192.168.1", "10.0.0.0/8", "::/120", "10.0.0.0/33", "x/24"])
def test_ranges_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        discovery.network(text)
    assert discovery.network("192.168.1.7/30") == ipaddress.IPv4Network("192.168.1.4/30")


def test_an_inventory_of_what_is_found(
    board: Boards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [
        Board("10.0.0.5", ("mdt",), name="deft-goose", key="K1"),
        Board("10.0.0.6", ("mdt",), name="same", key="K2"),
        Board("10.0.0.7", ("scan",), name="same", key="K3"),
        Board("10.0.0.8", ("ssh",), name="laptop", key="K4"),
        Board("10.0.0.9", ("mdt",), note="SSH does not answer: x"),
        Board("10.0.0.10", ("mdt",), name="coral-1", key="K5"),
        Board("10.0.0.11", ("mdt",), name="all", key="K6"),
    ]
    monkeypatch.setattr(discovery, "discover", lambda *args: found)
    path = tmp_path / "new.yml"
    assert main.main(["inventory", "init", "--discover", "--output", str(path)]) == 0
    hosts = inventories.load(path).hosts
    assert {name: host.address for name, host in hosts.items()} == {
        "deft-goose": "10.0.0.5",
        "coral-0": "10.0.0.6",
        "coral-2": "10.0.0.7",
        "coral-1": "10.0.0.10",
        "coral-3": "10.0.0.11",
    }
    err = capsys.readouterr().err
    assert "10.0.0.8 is left out" in err and "10.0.0.9 is left out" in err
    path.unlink()
    assert main.main(["inventory", "init", "--discover", "--head", "boss=10.0.0.6", "-o", str(path)]) == 0
    assert inventories.load(path).head.name == "boss" and len(inventories.load(path).hosts) == 5
    path.unlink()
    assert main.main(["inventory", "init", "--discover", "--head", "10.0.0.6", "-o", str(path)]) == 0
    assert inventories.load(path).head.name == "coral-0" and len(inventories.load(path).hosts) == 5
    path.unlink()
    assert main.main(["inventory", "init", "--discover", "--head", "deft-goose=10.0.0.1", "-o", str(path)]) == 0
    assert inventories.load(path).hosts["coral-0"].address == "10.0.0.5"
    found.clear()
    assert main.main(["inventory", "init", "--discover", "-o", str(tmp_path / "none.yml")]) == 2
    assert "no board was found" in capsys.readouterr().err


def test_words_that_do_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["discover", "--seconds", "0"]) == 2
    assert main.main(["inventory", "init", "--scan", "10.0.0.0/30", "--head", "10.0.0.1", "-o", "/nowhere/x"]) == 2
    assert "--scan is for --discover" in capsys.readouterr().err
