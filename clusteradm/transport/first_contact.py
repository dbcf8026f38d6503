"""First contact: the keys of hosts never seen before, in one table, asked for once."""

from __future__ import annotations

import contextlib
import enum
import socket
from collections.abc import Callable
from dataclasses import dataclass

import paramiko

from clusteradm.errors import HostUnreachable
from clusteradm.inventory import Host
from clusteradm.transport.connection import Way
from clusteradm.transport.known_hosts import KnownHosts, entry_name, fingerprint
from clusteradm.transport.routes import Routes
from clusteradm.transport.trouble import Refused, place_of, unreachable


class FirstContact(enum.Enum):
    """What to do about a host whose key is not known yet. A *changed* key is never accepted."""

    ASK = "ask"
    ACCEPT = "accept"


@dataclass(frozen=True)
class Seen:
    """A host and the key that it showed."""

    host: Host
    key: paramiko.PKey


def scan(host: Host, routes: Routes) -> Seen:
    """Ask a host for its key without logging in. Raises HostUnreachable."""
    timeout = routes.connect_timeout
    way: Way | None = None
    with contextlib.ExitStack() as stack:
        try:
            way = routes.way_to(host)
            if way is not None:
                stack.callback(way.close)
            sock = way.sock if way is not None else socket.create_connection((host.address, host.port), timeout)
            stack.callback(sock.close)
            transport = paramiko.Transport(sock)
            stack.callback(transport.close)
            transport.banner_timeout = transport.handshake_timeout = timeout
            transport.start_client(timeout=timeout)
            return Seen(host, transport.get_remote_server_key())
        except Exception as error:
            words = way.words() if way is not None else ""
            raise unreachable(host, routes.known_hosts, error, timeout=timeout, proxy_words=words) from error


def settle(
    seen: list[Seen], known_hosts: KnownHosts, how: FirstContact, ask: Callable[[str], bool]
) -> dict[str, HostUnreachable]:
    """Keep the keys that are accepted; the hosts whose keys are not, with their errors."""
    if not seen:
        return {}
    if how is FirstContact.ACCEPT or ask(table(seen)):
        known_hosts.append([(one.host.address, one.host.port, one.key) for one in seen])
        return {}
    return {
        one.host.name: Refused(
            f"its host key {fingerprint(one.key)} was not accepted",
            where=place_of(one.host),
            next_step="compare it with the board's own: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
        )
        for one in seen
    }


def table(seen: list[Seen]) -> str:
    """All fingerprints at once, aligned."""
    rows = [
        (one.host.name, entry_name(one.host.address, one.host.port), one.key.get_name(), fingerprint(one.key))
        for one in seen
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["Hosts that were never seen before, and the keys that they show:"]
    lines += [
        "  " + "  ".join(text.ljust(width) for text, width in zip(row, [*widths, 0], strict=True)) for row in rows
    ]
    return "\n".join(lines)
