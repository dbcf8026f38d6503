"""First contact: the keys of hosts not seen before, shown in one table and accepted or refused together."""

from __future__ import annotations

import contextlib
import enum
import socket
from collections.abc import Callable
from dataclasses import dataclass

import paramiko

from clusteradm.errors import HostUnreachable
from clusteradm.inventory import Host
from clusteradm.transport import packets
from clusteradm.transport.connection import Tunnel
from clusteradm.transport.errors import Refused, place_of, unreachable
from clusteradm.transport.known_hosts import KnownHosts, entry_name, fingerprint
from clusteradm.transport.routes import Routes


class FirstContact(enum.Enum):
    """Policy for a host whose key is not known: ask, or accept. A *changed* key is never accepted."""

    ASK = "ask"
    ACCEPT = "accept"


@dataclass(frozen=True)
class Seen:
    """A host and the key that it presented. `banner`: what it says of its SSH server."""

    host: Host
    key: paramiko.PKey
    banner: str = ""


def scan(host: Host, routes: Routes) -> Seen:
    """Fetch a host's key without logging in. Raises HostUnreachable or TooManyOpenFiles."""
    timeout = routes.connect_timeout
    tunnel: Tunnel | None = None
    transport: packets.Transport | None = None
    with contextlib.ExitStack() as stack:
        try:
            tunnel = routes.tunnel_to(host)
            if tunnel is not None:
                stack.callback(tunnel.close)
                sock = tunnel.sock
            else:
                sock = socket.create_connection((host.address, host.port), timeout)
            stack.callback(sock.close)
            transport = packets.Transport(sock)
            stack.callback(transport.close)
            transport.banner_timeout = transport.handshake_timeout = timeout
            transport.start_client(timeout=timeout)
            return Seen(host, transport.get_remote_server_key(), transport.remote_version)
        except Exception as error:
            stderr = tunnel.stderr() if tunnel is not None else ""
            heard = transport.heard if transport is not None else packets.Heard()
            raise unreachable(
                host, routes.known_hosts, error, timeout=timeout, proxy_stderr=stderr, heard=heard
            ) from error


def resolve(
    seen: list[Seen], known_hosts: KnownHosts, how: FirstContact, ask: Callable[[str], bool]
) -> dict[str, HostUnreachable]:
    """Accept or refuse the keys: accepted ones are written to known_hosts; returns an error for each refused host."""
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
    """The table of hosts and fingerprints that a person is asked about."""
    rows = [
        (one.host.name, entry_name(one.host.address, one.host.port), one.key.get_name(), fingerprint(one.key))
        for one in seen
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["Hosts not seen before, and their keys:"]
    lines += [
        "  " + "  ".join(text.ljust(width) for text, width in zip(row, [*widths, 0], strict=True)) for row in rows
    ]
    return "\n".join(lines)
