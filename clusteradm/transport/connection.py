"""A Fabric connection that verifies host keys, and notices when its other end has gone.

Fabric alone verifies nothing (its AutoAddPolicy accepts any key): the policy is set on every client before it opens.
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
from clusteradm.transport.keys import agent_key, private_key
from clusteradm.transport.known_hosts import KnownHosts, entry_name
from clusteradm.transport.trouble import unreachable

# Asked this often for a sign of life, a host that gives none for LOST_SECONDS is taken for gone. A busy board on a slow
# wire may take a while: what waits to be sent is in front of the question.
PULSE_SECONDS = 10.0
LOST_SECONDS = 45.0

# What goes wrong is raised, and told by whoever caught it; Paramiko's threads would print it with a traceback as well.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class Way(Protocol):
    """What leads to a host that is not reached directly: a proxy command's socket, or a gateway's channel."""

    sock: Any

    def words(self) -> str: ...

    def close(self) -> None: ...


class Login(Protocol):
    """Another way to log in than with the key that the inventory names: a strategy of Paramiko's."""

    def authenticate(self, transport: paramiko.Transport) -> None: ...


class Pulse:
    """Asks the host for a sign of life again and again, on a thread of its own that ends with the connection.

    The keep-alive of Paramiko wants no answer; a cut cable would be noticed only by whoever has something to send.
    """

    def __init__(self, transport: paramiko.Transport) -> None:
        self._transport = transport
        self._stopped = threading.Event()
        self._heard = time.monotonic()
        threading.Thread(target=self._beat, name="clusteradm-pulse", daemon=True).start()

    def _beat(self) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            while not self._stopped.wait(PULSE_SECONDS) and self._transport.is_active():
                self._transport.global_request("keepalive@openssh.com", wait=True)
                if self._transport.is_active():
                    self._heard = time.monotonic()

    def stop(self) -> None:
        self._stopped.set()

    @property
    def lost(self) -> bool:
        """Whether the host has been silent for so long that it must be gone."""
        return time.monotonic() - self._heard > LOST_SECONDS


class Connection(fabric.Connection):  # type: ignore[misc]  # Fabric has no types
    """`fabric.Connection` to a host of the inventory, which knows that host's keys and no others."""

    def __init__(
        self,
        host: Host,
        known_hosts: KnownHosts,
        way_to: Callable[[Host], Way | None],
        connect_timeout: float,
        login: Login | None = None,
    ) -> None:
        """`way_to` makes the way to the host, or gives None where it is reached directly; the connection closes it."""
        connect: dict[str, Any] = {
            "look_for_keys": host.key_file is None,
            "allow_agent": host.key_file is None,
            # Paramiko's own limits are 15 s, 30 s and an hour.
            "banner_timeout": connect_timeout,
            "auth_timeout": connect_timeout,
            "channel_timeout": connect_timeout,
        }
        if login is not None:
            connect["auth_strategy"] = login
        super().__init__(
            host.address,
            user=host.user,
            port=host.port,
            connect_timeout=connect_timeout,
            connect_kwargs=connect,
            # The user's ssh_config is not Ansible's inventory: what counts is what the inventory says.
            config=fabric.Config(lazy=True, overrides={"load_ssh_configs": False}),
        )
        self.client = paramiko.SSHClient()
        keys = self.client.get_host_keys()
        for kind, key in known_hosts.of(host.address, host.port).items():
            keys.add(entry_name(host.address, host.port), kind, key)
        self.client.set_missing_host_key_policy(paramiko.RejectPolicy())
        # Fabric's attribute machinery passes unknown names to its configuration; these are plain attributes.
        self._set(inventory_host=host, known_keys=known_hosts, way_to=way_to, way=None, pulse=None, agent=None)

    def open(self) -> None:
        """Connect and log in. Raises HostUnreachable that says why and what to do; then nothing is left open."""
        if self.is_connected:
            return
        try:
            if self.inventory_host.key_file is not None and "auth_strategy" not in self.connect_kwargs:
                self._use_key(self.inventory_host.key_file)
            way = self.way_to(self.inventory_host)
            self._set(way=way)
            if way is not None:
                self.connect_kwargs["sock"] = way.sock
            super().open()
        except Exception as error:
            words = self.way.words() if self.way is not None else ""
            self.close()
            raise unreachable(
                self.inventory_host, self.known_keys, error, timeout=self.connect_timeout, proxy_words=words
            ) from error
        except BaseException:
            self.close()
            raise
        self._set(pulse=Pulse(self.transport))

    def _use_key(self, file: str) -> None:
        key = private_key(file, Path(file).stat().st_mtime_ns)
        if key is not None:
            self.connect_kwargs["pkey"] = key
            return
        # Under a passphrase: it can only be used through the agent that was told it. Where it cannot be told which of
        # the agent's keys it is, all are offered.
        self._set(agent=paramiko.Agent())
        self.connect_kwargs["pkey"] = agent_key(self.agent, file)
        self.connect_kwargs["allow_agent"] = self.connect_kwargs["pkey"] is None

    @property
    def alive(self) -> bool:
        """Whether it is open and the host has given a sign of life lately."""
        return self.is_connected and not (self.pulse is not None and self.pulse.lost)

    def close(self) -> None:
        if self.pulse is not None:
            self.pulse.stop()
        # Not Fabric's close(): that leaves a client alone which has not logged in yet.
        self.client.close()
        if self.agent is not None:
            self.agent.close()
            self._set(agent=None)
        if self.way is not None:
            self.way.close()
            self._set(way=None)
