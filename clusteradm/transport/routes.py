"""Routes to hosts: direct, through a proxy command, or through gateways that hosts share."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from clusteradm.errors import HostUnreachable, UsageError
from clusteradm.inventory import Host
from clusteradm.inventory.ssh_options import Jump, options_of
from clusteradm.transport.connection import Connection, Login, Tunnel
from clusteradm.transport.known_hosts import KnownHosts
from clusteradm.transport.proxy import Proxy
from clusteradm.transport.ssh_config import with_config


class _Channel:
    """A gateway's channel to a host. It closes with the host's connection; the gateway's stays open."""

    def __init__(self, sock: Any) -> None:
        self.sock = sock

    def stderr(self) -> str:
        return ""

    def close(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            self.sock.close()


# Jump hosts on one way, those that ssh_config adds included: it may lead in a circle.
_MOST_GATEWAYS = 8


def gateways_of(host: Host) -> tuple[Host, ...]:
    """The jump hosts on the route to this one, the nearest first, each as a Host. Raises UsageError."""
    found: tuple[Host, ...] = ()
    while jumps := options_of(host).jumps:
        found = (*(_gateway(jumps[: place + 1], host) for place in range(len(jumps))), *found)
        if len(found) > _MOST_GATEWAYS:
            raise UsageError(f"more than {_MOST_GATEWAYS} jump hosts on the way", where=found[-1].destination)
        # As ssh: the first of them is reached as ssh_config says of it.
        host = found[0]
    return found


def _gateway(jumps: tuple[Jump, ...], host: Host) -> Host:
    """The last of the jump hosts, on the way to a host."""
    *before, last = jumps
    variables: dict[str, Any] = {"ansible_host": last.host}
    if last.port:
        variables["ansible_port"] = last.port
    if last.user:
        variables["ansible_user"] = last.user
    if before:
        variables["ansible_ssh_common_args"] = "-J " + ",".join(str(jump) for jump in before)
    gateway = Host(f"gateway {','.join(str(jump) for jump in jumps)}", (), variables, {})
    return gateway if host.reach is None else with_config(gateway)


class Routes:
    """Opens connections. Each gateway gets one connection for all hosts behind it: sshd drops many at a time."""

    def __init__(self, known_hosts: KnownHosts, connect_timeout: float) -> None:
        self.known_hosts = known_hosts
        self.connect_timeout = connect_timeout
        self._lock = threading.Lock()
        self._gateways: dict[str, Connection] = {}
        self._opening: dict[str, threading.Lock] = {}
        self._closed = False

    def connect(self, host: Host, login: Login | None = None) -> Connection:
        """A new connection. `login`: instead of the inventory's key. Raises HostUnreachable or TooManyOpenFiles."""
        connection = Connection(host, self.known_hosts, self.tunnel_to, self.connect_timeout, login)
        connection.open()
        return connection

    def tunnel_to(self, host: Host) -> Tunnel | None:
        """The tunnel for a connection to a host; None for a direct connection."""
        options = options_of(host)
        if options.proxy_command:
            return Proxy(options.proxy_command)
        gateways = gateways_of(host)
        if not gateways:
            return None
        transport = self._gateway(gateways[-1]).transport
        return _Channel(
            transport.open_channel("direct-tcpip", (host.address, host.port), ("", 0), timeout=self.connect_timeout)
        )

    def _gateway(self, gateway: Host) -> Connection:
        with self._lock:
            opening = self._opening.setdefault(gateway.name, threading.Lock())
        with opening:
            connection = self._gateways.get(gateway.name)
            if connection is not None and connection.alive:
                return connection
            if connection is not None:
                connection.close()
            connection = self.connect(gateway)
            with self._lock:
                if not self._closed:
                    self._gateways[gateway.name] = connection
                    return connection
        connection.close()
        raise HostUnreachable("the run has ended", where=gateway.name)

    def close(self) -> None:
        """Close the gateways, and with them every connection through them."""
        with self._lock:
            self._closed = True
            gateways, self._gateways = list(self._gateways.values()), {}
        for connection in reversed(gateways):
            connection.close()
