"""A Fabric connection that verifies host keys, on the way through gateways too.

Fabric alone verifies nothing (its AutoAddPolicy accepts any key): the policy is set on every client before it opens.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
from typing import Any

import fabric
import paramiko

from clusteradm.errors import HostUnreachable
from clusteradm.inventory import Host
from clusteradm.inventory.ssh_options import SshOptions, options_of
from clusteradm.transport.known_hosts import KnownHosts, entry_name, fingerprint

KEEPALIVE_SECONDS = 10

# What goes wrong is raised, and told by whoever caught it; Paramiko's threads would print it with a traceback as well.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class Refused(HostUnreachable):
    """The host answers, but shows another key or lets nobody in: trying again would be wrong."""


class Proxy:
    """A proxy command behind a real socket: Paramiko's own ProxyCommand polls its pipes, which costs CPU per read."""

    def __init__(self, command: str) -> None:
        self.sock, theirs = socket.socketpair()
        try:
            # ssh gives the command to the user's shell as well; `exec` spares a process that would have to be ended.
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for clusteradm to answer, not for its proxies
            )
        finally:
            theirs.close()

    def close(self) -> None:
        self.sock.close()
        self.process.terminate()
        self.process.wait()


class Connection(fabric.Connection):  # type: ignore[misc]  # Fabric has no types
    """`fabric.Connection` that knows the cluster's host keys and takes a proxy command as a socket."""

    def __init__(self, host: Host, known_hosts: KnownHosts, connect_timeout: float) -> None:
        options = options_of(host)
        connect: dict[str, Any] = {"look_for_keys": host.key_file is None, "allow_agent": host.key_file is None}
        if host.key_file:
            connect["key_filename"] = host.key_file
        super().__init__(
            host.address,
            user=host.user,
            port=host.port,
            gateway=gateway_to(options, known_hosts, connect_timeout),
            connect_timeout=connect_timeout,
            connect_kwargs=connect,
            config=_config(),
        )
        # Fabric's attribute machinery passes unknown names to its configuration; these are plain attributes.
        self._set(proxy=None, proxy_command=options.proxy_command)
        verify(self, known_hosts)

    def open(self) -> None:
        if self.proxy_command and not self.is_connected:
            proxy = Proxy(self.proxy_command)
            self._set(proxy=proxy)
            self.connect_kwargs["sock"] = proxy.sock
        super().open()
        self.transport.set_keepalive(KEEPALIVE_SECONDS)

    def close(self) -> None:
        super().close()
        if self.proxy is not None:
            self.proxy.close()
            self._set(proxy=None)


def _config() -> Any:
    # The user's ssh_config is not Ansible's inventory: what counts is what the inventory says.
    return fabric.Config(lazy=True, overrides={"load_ssh_configs": False})


def gateway_to(options: SshOptions, known_hosts: KnownHosts, connect_timeout: float) -> Any:
    """The chain of verified connections to jump over, or None where there is nothing to jump over."""
    gateway = None
    for jump in options.jumps:
        gateway = fabric.Connection(jump, gateway=gateway, connect_timeout=connect_timeout, config=_config())
        verify(gateway, known_hosts)
    return gateway


def verify(connection: Any, known_hosts: KnownHosts) -> None:
    """Have the connection's client refuse every host key that the file does not hold."""
    connection.client = paramiko.SSHClient()
    keys = connection.client.get_host_keys()
    for name, by_kind in known_hosts.keys().items():
        for kind in by_kind:
            keys.add(name, kind, by_kind[kind])
    connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())


def connect(host: Host, known_hosts: KnownHosts, connect_timeout: float) -> Connection:
    """Open a connection. Raises HostUnreachable that says why and what to do."""
    connection = Connection(host, known_hosts, connect_timeout)
    try:
        connection.open()
    except Exception as error:
        with contextlib.suppress(Exception):
            connection.close()
        raise unreachable(host, known_hosts, error) from error
    return connection


def unreachable(host: Host, known_hosts: KnownHosts, error: Exception) -> HostUnreachable:
    """The error of a connection attempt in words that say what to do."""
    if isinstance(error, HostUnreachable):
        return error
    place = f"{host.name} ({entry_name(host.address, host.port)})"
    if isinstance(error, paramiko.BadHostKeyException):
        return Refused(
            f"the host key has changed: known {fingerprint(error.expected_key)}, now {fingerprint(error.key)}",
            where=place,
            next_step="if the board was flashed anew, forget its old key with: "
            f"ssh-keygen -f {known_hosts.path} -R '{entry_name(host.address, host.port)}'",
        )
    if isinstance(error, paramiko.AuthenticationException):
        return Refused(
            f"login refused for user {host.user or 'of this account'}: {error}",
            where=place,
            next_step="check ansible_user and ansible_ssh_private_key_file, and that the board has the public key",
        )
    if isinstance(error, paramiko.SSHException) and "not found in known_hosts" in str(error):
        return Refused(
            f"its host key is not in {known_hosts.path}", where=place, next_step="accept it once with --accept-new"
        )
    reason = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
    return HostUnreachable(reason, where=place, next_step="check that it is on, and ansible_host and ansible_port")
