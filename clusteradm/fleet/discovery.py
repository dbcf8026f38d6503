"""Boards on the admin's network: by what they announce (mDNS), and by a range that is scanned for SSH.

RFC 6762 and 6763. Boards with Mendel Linux announce `_googlemdt._tcp`, as its tool mdt expects; others `_ssh._tcp`.
What comes is untrusted: anybody on the network can announce anything.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import queue
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from clusteradm.errors import ClusteradmError, HostUnreachable, UsageError
from clusteradm.inventory import Cluster, Host
from clusteradm.inventory.kinds import is_host_name
from clusteradm.transport.fanout import fan_out
from clusteradm.transport.first_contact import Seen, scan
from clusteradm.transport.known_hosts import KnownHosts, fingerprint
from clusteradm.transport.routes import Routes

if TYPE_CHECKING:
    from zeroconf import ServiceInfo, ServiceStateChange

MENDEL, SSH = "_googlemdt._tcp.local.", "_ssh._tcp.local."
SCANNED = "scan"
_KINDS = {MENDEL: "mdt", SSH: "ssh"}
_PORT = 22
_NOT_TRIED = (errno.ENETUNREACH, errno.EACCES, errno.EPERM, errno.EINVAL, errno.EMFILE, errno.ENFILE)
_MOST_ADDRESSES, _MOST_PREFIX = 4096, 20
_MOST_ANNOUNCED = 1000
_MOST_ASKED_SECONDS = 10.0  # for all who did not say their address
_MOST_TEXT = 120  # characters of a model or banner
_FORKS = 64
_CONNECT_SECONDS = 1.0
_KEY_SECONDS = 20.0
# The network of a board's USB gadget: the same on every board.
_GADGET = ipaddress.IPv4Network("192.168.100.0/23")


@dataclass(frozen=True)
class Board:
    """A machine that was found. `how`: "mdt", "ssh" (announced), "scan"; `name`: its host name, "" if it is not said.

    `model`: what it says of itself; `banner`, `key_type`, `key`: of its SSH server, "" where that does not answer;
    `host`: the inventory's host that it is; `note`: what is odd about that.
    """

    address: str
    how: tuple[str, ...]
    name: str = ""
    model: str = ""
    banner: str = ""
    key_type: str = ""
    key: str = ""
    host: str = ""
    note: str = ""


def network(text: str) -> ipaddress.IPv4Network:
    """The range of addresses to scan. Raises UsageError for what is none, or too large."""
    try:
        found = ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        raise UsageError(f"{text!r} is no range of addresses, as 192.168.1.0/24") from None
    if found.num_addresses > _MOST_ADDRESSES:
        part = f"{found.network_address}/{_MOST_PREFIX}"
        raise UsageError(
            f"{text} has {found.num_addresses:,} addresses, more than {_MOST_ADDRESSES:,}: scan a part of it, as {part}"
        )
    return found


def discover(
    ranges: Sequence[ipaddress.IPv4Network],
    seconds: float,
    cluster: Cluster | None = None,
    known_hosts: Path | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Board]:
    """The machines that announce themselves within `seconds` (0: nobody is asked), and those in `ranges` that answer.

    Sorted by address. `cluster`: with its file of host keys, to say which are known.
    """
    found: dict[str, Board] = {}
    if seconds:
        progress(f"listening for {seconds:g} s")
        for board in announced(seconds):
            found[board.address] = board
    addresses = [str(address) for each in ranges for address in each.hosts()]
    if addresses:
        turns = -(-len(addresses) // _FORKS)
        progress(f"scanning {len(addresses):,} addresses, up to {turns * _CONNECT_SECONDS:.0f} s")
        for address in _open(addresses, progress):
            board = found.get(address, Board(address, ()))
            found[address] = replace(board, how=(*board.how, SCANNED))
    if found:
        progress(f"asking {len(found)} machines for their keys")
    boards = _with_keys(found.values())
    if cluster is not None:
        keys = KnownHosts(known_hosts or cluster.known_hosts)
        boards = [_compared(board, cluster, keys) for board in boards]
    # A proxy or a switch may take every connection; where nobody announces anything, that is no machine.
    silent = [board for board in boards if board.how == (SCANNED,) and not board.key and not board.host]
    if silent:
        progress(f"{len(silent)} addresses take a connection, but do not speak SSH: left out")
        boards = [board for board in boards if board not in silent]
    return sorted((_odd(board, boards) for board in boards), key=lambda board: ipaddress.IPv4Address(board.address))


def announced(seconds: float, interfaces: Sequence[str] | None = None) -> list[Board]:
    """The machines that announce themselves. `interfaces`: addresses of this machine to ask from; None: all.

    Raises UsageError where this machine cannot ask.
    """
    # Slow to import, and of use here alone.
    from zeroconf import InterfaceChoice, IPVersion, ServiceBrowser, Zeroconf

    names: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()

    def on_change(zeroconf: object, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change.name == "Added":
            names.put((service_type, name))

    try:
        node = Zeroconf(interfaces=interfaces or InterfaceChoice.All, ip_version=IPVersion.V4Only)
    except OSError as error:
        raise UsageError(
            f"this machine cannot ask by multicast: {error.strerror}",
            next_step="scan instead: --seconds 0 --scan RANGE",
        ) from None
    found: dict[str, Board] = {}
    with contextlib.closing(node):
        browser = ServiceBrowser(node, [MENDEL, SSH], handlers=[on_change])
        time.sleep(seconds)
        browser.cancel()
        end = time.monotonic() + _MOST_ASKED_SECONDS
        for _ in range(min(names.qsize(), _MOST_ANNOUNCED)):
            kind, name = names.get()
            info = _service(kind, name)
            # What was heard is remembered; who did not say its address is asked once more.
            if info and (info.load_from_cache(node) or (time.monotonic() < end and info.request(node, 1000))):
                _add(found, _KINDS[kind], info)
    return list(found.values())


def _service(kind: str, name: str) -> ServiceInfo | None:
    """The service to be asked for; None for a name that no service can have."""
    from zeroconf import BadTypeInNameException, ServiceInfo

    try:
        return ServiceInfo(kind, name)
    except BadTypeInNameException:
        return None


def _add(found: dict[str, Board], how: str, info: ServiceInfo) -> None:
    addresses = [ipaddress.IPv4Address(text) for text in info.parsed_addresses() if ":" not in text]
    # This machine is none that was found, nor is what stands for many.
    addresses = [
        each for each in addresses if not (each.is_loopback or each.is_multicast or each.is_reserved or not int(each))
    ]
    # Each board has the gadget's addresses as well, where no other machine reaches it.
    addresses = [address for address in addresses if address not in _GADGET] or addresses
    if not addresses:
        return
    address = str(min(addresses))
    name = (info.server or "").removesuffix(".").removesuffix(".local").lower()
    board = found.get(address, Board(address, (), name if is_host_name(name) else ""))
    model = _text((info.properties or {}).get(b"model")) or board.model or ("Mendel Linux" if how == "mdt" else "")
    found[address] = replace(board, how=(*board.how, *(() if how in board.how else (how,))), model=model)


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")[:_MOST_TEXT]


def _open(addresses: Iterable[str], progress: Callable[[str], None]) -> list[str]:
    """Those that take a connection to the port of SSH."""
    outcome = fan_out((_host(address) for address in addresses), _connect, forks=_FORKS)
    for reason, count in Counter(map(str, outcome.failed.values())).items():
        progress(f"{count:,} of them cannot be tried from this machine: {reason}")
    return [address for address, there in outcome.ok.items() if there]


def _host(address: str) -> Host:
    return Host(address, (), {"ansible_port": _PORT}, {})


def _connect(host: Host) -> bool:
    """Whether something listens there. Raises HostUnreachable where this machine lets no packet out, or has no way."""
    try:
        socket.create_connection((host.name, _PORT), _CONNECT_SECONDS).close()
    except OSError as error:
        if error.errno in _NOT_TRIED:
            raise HostUnreachable(str(error.strerror)) from None
        return False
    return True


def _with_keys(boards: Iterable[Board]) -> list[Board]:
    """The boards with what their SSH servers say, where they answer."""
    found = {board.address: board for board in boards}
    routes = Routes(KnownHosts(Path("/dev/null")), _KEY_SECONDS)
    outcome = fan_out((_host(address) for address in found), lambda host: scan(host, routes), forks=_FORKS)
    for address, seen in outcome.ok.items():
        found[address] = _of_server(found[address], seen)
    for address, error in outcome.failed.items():
        found[address] = replace(found[address], note=_reason(error))
    return list(found.values())


def _reason(error: ClusteradmError) -> str:
    return f"SSH does not answer: {error.what}"[:_MOST_TEXT]


def _of_server(board: Board, seen: Seen) -> Board:
    banner = seen.banner.removeprefix("SSH-2.0-")[:_MOST_TEXT]
    return replace(board, banner=banner, key_type=seen.key.get_name(), key=fingerprint(seen.key))


def _compared(board: Board, cluster: Cluster, known: KnownHosts) -> Board:
    """The board with the inventory's host that it is: by its key, which nobody else has, else by its address."""
    by_address = next((host for host in cluster.hosts.values() if host.address == board.address), None)
    if board.key:
        for host in cluster.hosts.values():
            keys = {fingerprint(key) for key in known.of(host.address, host.port).values()}
            if board.key in keys and host.address == board.address:
                return replace(board, host=host.name)
            if board.key in keys and by_address is None:
                return replace(board, host=host.name, note=f"the inventory has it at {host.address}")
        if by_address is not None and board.key_type in known.of(by_address.address, by_address.port):
            return replace(board, host=by_address.name, note="another host key than the known one")
    return board if by_address is None else replace(board, host=by_address.name)


def _odd(board: Board, others: Iterable[Board]) -> Board:
    """The board, with a note where another has its key: one card was copied to both."""
    twins = [other.address for other in others if board.key and other.key == board.key and other != board]
    if not twins or board.note:
        return board
    return replace(board, note=f"the same host key as {', '.join(twins)[:_MOST_TEXT]}: a copied card?")
