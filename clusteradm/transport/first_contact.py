"""First contact: the keys of hosts never seen before, in one table, asked for once."""

from __future__ import annotations

import contextlib
import enum
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import paramiko

from clusteradm.errors import HostUnreachable
from clusteradm.inventory import Host
from clusteradm.inventory.ssh_options import options_of
from clusteradm.transport.connection import Proxy, gateway_to, unreachable
from clusteradm.transport.known_hosts import KnownHosts, entry_name, fingerprint


class FirstContact(enum.Enum):
    """What to do about a host whose key is not known yet. A *changed* key is never accepted."""

    ASK = "ask"
    ACCEPT = "accept"


@dataclass(frozen=True)
class Seen:
    """A host and the key that it showed."""

    host: Host
    key: paramiko.PKey


def scan(host: Host, known_hosts: KnownHosts, timeout: float) -> Seen:
    """Ask a host for its key without logging in. Raises HostUnreachable."""
    options = options_of(host)
    closers: list[Callable[[], Any]] = []
    try:
        sock: Any
        if options.proxy_command:
            proxy = Proxy(options.proxy_command)
            closers.append(proxy.close)
            sock = proxy.sock
            sock.settimeout(timeout)
        elif options.jumps:
            gateway = gateway_to(options, known_hosts, timeout)
            gateway.open()
            closers.append(gateway.close)
            sock = gateway.transport.open_channel("direct-tcpip", (host.address, host.port), ("", 0), timeout=timeout)
        else:
            sock = socket.create_connection((host.address, host.port), timeout)
        transport = paramiko.Transport(sock)
        closers.append(transport.close)
        transport.banner_timeout = transport.handshake_timeout = timeout
        transport.start_client(timeout=timeout)
        return Seen(host, transport.get_remote_server_key())
    except Exception as error:
        raise unreachable(host, known_hosts, error) from error
    finally:
        for close in reversed(closers):
            with contextlib.suppress(Exception):
                close()


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
        one.host.name: HostUnreachable(
            f"its host key {fingerprint(one.key)} was not accepted",
            where=f"{one.host.name} ({entry_name(one.host.address, one.host.port)})",
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
