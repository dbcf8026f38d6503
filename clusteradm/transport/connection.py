"""A Fabric connection that verifies host keys and detects a host that stopped answering.

Fabric alone verifies nothing (its AutoAddPolicy accepts any key), so every client gets its policy before it opens.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import fabric
import paramiko

from clusteradm.inventory import Host
from clusteradm.transport import packets
from clusteradm.transport.errors import unreachable
from clusteradm.transport.keys import ConfiguredKeys, agent_key, private_key
from clusteradm.transport.known_hosts import KnownHosts, entry_name
from clusteradm.transport.password import user_of
from clusteradm.transport.stream import ChannelStream

# Interval of keep-alive requests; a host that answers none for LOST_SECONDS counts as lost. A busy board on a slow line
# may take a while, because the request queues behind the data that is being sent.
KEEP_ALIVE_SECONDS = 10.0
LOST_SECONDS = 45.0

# Errors are raised and reported by the caller; Paramiko's threads would print them with a traceback as well.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class Tunnel(Protocol):
    """Socket to a host that is not reached directly: of a proxy command, or a gateway's channel."""

    sock: Any

    def stderr(self) -> str:
        """The last line that a proxy command wrote to its standard error; "" if there is none."""

    def close(self) -> None: ...


class Login(Protocol):
    """A login other than with the key that the inventory names: an authentication strategy of Paramiko."""

    def authenticate(self, transport: paramiko.Transport) -> None: ...


class KeepAlive:
    """Sends keep-alive requests that want a reply, on a thread of its own that ends with the connection.

    Paramiko's own keep-alive wants no reply, so a cut cable would go unnoticed until there is something to send.
    """

    def __init__(self, transport: paramiko.Transport) -> None:
        self._transport = transport
        self._stopped = threading.Event()
        self._heard = time.monotonic()
        threading.Thread(target=self._ask, name="clusteradm-keepalive", daemon=True).start()

    def _ask(self) -> None:
        with contextlib.suppress(Exception):  # of any kind: the host's bytes decide
            while not self._stopped.wait(KEEP_ALIVE_SECONDS) and self._transport.is_active():
                self._transport.global_request("keepalive@openssh.com", wait=True)
                if self._transport.is_active():
                    self._heard = time.monotonic()

    def stop(self) -> None:
        self._stopped.set()

    @property
    def lost(self) -> bool:
        """Whether the host has answered no request for LOST_SECONDS."""
        return time.monotonic() - self._heard > LOST_SECONDS


class Connection(fabric.Connection):  # type: ignore[misc]  # Fabric has no types
    """`fabric.Connection` to one host of the inventory, which accepts that host's known keys and no others."""

    def __init__(
        self,
        host: Host,
        known_hosts: KnownHosts,
        tunnel_to: Callable[[Host], Tunnel | None],
        connect_timeout: float,
        login: Login | None = None,
    ) -> None:
        """`tunnel_to` returns the tunnel to the host, or None for a direct connection; the connection closes it."""
        connect: dict[str, Any] = {
            "look_for_keys": host.key_file is None,
            "allow_agent": host.key_file is None,
            # Paramiko's own limits are 15 s, 30 s and an hour.
            "banner_timeout": connect_timeout,
            "auth_timeout": connect_timeout,
            "channel_timeout": connect_timeout,
            "transport_factory": packets.Transport,
        }
        if login is None and host.reach and host.reach.key_files and "ansible_ssh_private_key_file" not in host.vars:
            login = ConfiguredKeys(user_of(host), host.reach.key_files, agent=host.reach.agent)
        if login is not None:
            connect["auth_strategy"] = login
        super().__init__(
            host.address,
            user=host.user,
            port=host.port,
            connect_timeout=connect_timeout,
            connect_kwargs=connect,
            # ssh_config is read by ssh itself (ssh_config.py).
            config=fabric.Config(lazy=True, overrides={"load_ssh_configs": False}),
        )
        self.client = paramiko.SSHClient()
        keys = self.client.get_host_keys()
        for kind, key in known_hosts.of(host.address, host.port).items():
            keys.add(entry_name(host.address, host.port), kind, key)
        self.client.set_missing_host_key_policy(paramiko.RejectPolicy())
        # Fabric passes unknown attributes to its configuration; _set makes plain ones.
        self._set(inventory_host=host, known_keys=known_hosts, tunnel_to=tunnel_to)
        self._set(tunnel=None, keep_alive=None, agent=None)

    def open(self) -> None:
        """Connect and log in. Raises HostUnreachable or TooManyOpenFiles; then nothing is left open."""
        if self.is_connected:
            return
        try:
            if self.inventory_host.key_file is not None and "auth_strategy" not in self.connect_kwargs:
                self._use_key(self.inventory_host.key_file)
            tunnel = self.tunnel_to(self.inventory_host)
            self._set(tunnel=tunnel)
            if tunnel is not None:
                self.connect_kwargs["sock"] = tunnel.sock
            super().open()
        except Exception as error:
            stderr = self.tunnel.stderr() if self.tunnel is not None else ""
            transport = self.client.get_transport()
            heard = transport.heard if isinstance(transport, packets.Transport) else packets.Heard()
            self.close()
            raise unreachable(
                self.inventory_host,
                self.known_keys,
                error,
                timeout=self.connect_timeout,
                proxy_stderr=stderr,
                heard=heard,
            ) from error
        except BaseException:
            self.close()
            raise
        self._set(keep_alive=KeepAlive(self.transport))

    def _use_key(self, file: str) -> None:
        key = private_key(file, Path(file).stat().st_mtime_ns)
        if key is not None:
            self.connect_kwargs["pkey"] = key
            return
        # A key with a passphrase is used through ssh-agent. If it is unknown which of the agent's keys it is, all are
        # offered.
        self._set(agent=paramiko.Agent())
        self.connect_kwargs["pkey"] = agent_key(self.agent, file)
        self.connect_kwargs["allow_agent"] = self.connect_kwargs["pkey"] is None

    def session(self, command: str, timeout: float) -> ChannelStream:
        """The standard streams of a shell command. Raises what Paramiko raises, of any kind."""
        return ChannelStream(packets.open_session(self.transport, command, timeout), lambda: self.alive)

    @property
    def alive(self) -> bool:
        """Whether it is open and the host answers keep-alive requests."""
        return self.is_connected and not (self.keep_alive is not None and self.keep_alive.lost)

    def close(self) -> None:
        if self.keep_alive is not None:
            self.keep_alive.stop()
        # Fabric's close() does not close a client that has not logged in yet.
        self.client.close()
        if self.agent is not None:
            self.agent.close()
            self._set(agent=None)
        if self.tunnel is not None:
            self.tunnel.close()
            self._set(tunnel=None)
