"""Errors of a failed connection, made from what Paramiko and the system raise."""

from __future__ import annotations

import shlex
import socket

import paramiko
from paramiko.ssh_exception import NoValidConnectionsError

from clusteradm.errors import ClusteradmError, HostUnreachable, TooManyOpenFiles
from clusteradm.inventory import Host
from clusteradm.transport.known_hosts import KnownHosts, entry_name, fingerprint

_NOBODY = "nothing listens there"
# Also a proxy command that cannot connect.
_HUNG_UP = "it closed the connection before it sent anything"


class Refused(HostUnreachable):
    """The host answers, but shows another key or refuses the login; not to be retried."""


class LoginRefused(Refused):
    """The host refuses this user and key. One that accepted them before may only be starting or stopping."""


def place_of(host: Host) -> str:
    """The host's name and address, as errors name it: "w1 (10.0.0.2)"."""
    return f"{host.name} ({entry_name(host.address, host.port)})"


def unreachable(
    host: Host, known_hosts: KnownHosts, error: Exception, *, timeout: float, proxy_stderr: str = ""
) -> ClusteradmError:
    """The error of an attempt to connect: HostUnreachable or one of its kinds, or TooManyOpenFiles.

    `timeout`: the connection's, in seconds; `proxy_stderr`: the last line of the proxy command's standard error.
    """
    if isinstance(error, ClusteradmError):
        return error
    if TooManyOpenFiles.is_cause(error):
        return TooManyOpenFiles(where=place_of(host))
    place = place_of(host)
    if isinstance(error, paramiko.BadHostKeyException):
        name = entry_name(host.address, host.port)
        return Refused(
            f"the host key has changed: known {fingerprint(error.expected_key)}, now {fingerprint(error.key)}",
            where=place,
            next_step="if the board was flashed again, remove its old key, then accept the new one: "
            f"ssh-keygen -f {shlex.quote(str(known_hosts.path))} -R {shlex.quote(name)}",
        )
    if isinstance(error, paramiko.SSHException) and "No authentication methods" in str(error):
        if host.key_file is None:
            return LoginRefused(
                "no key to log in with", where=place, next_step="name one: ansible_ssh_private_key_file"
            )
        return LoginRefused(
            f"the key {host.key_file} has a passphrase, and ssh-agent does not hold it",
            where=place,
            next_step=f"ssh-add {shlex.quote(host.key_file)}",
        )
    if isinstance(error, paramiko.AuthenticationException):
        return LoginRefused(
            f"login refused for user {host.user or 'of this account'}: {str(error).rstrip('.')}",
            where=place,
            next_step="check ansible_user and ansible_ssh_private_key_file; `clusteradm enroll` puts that key there",
        )
    if isinstance(error, paramiko.SSHException) and "not found in known_hosts" in str(error):
        return Refused(
            f"its host key is not in {known_hosts.path}", where=place, next_step="accept it once with --accept-new"
        )
    if isinstance(error, OSError) and host.key_file and error.filename == host.key_file:
        return Refused(
            f"{host.key_file}: {error.strerror}", where=place, next_step="correct ansible_ssh_private_key_file"
        )
    next_step = "check that it is on, and ansible_host and ansible_port"
    if proxy_stderr:
        return HostUnreachable(f"its proxy command says: {proxy_stderr}", where=place, next_step=next_step)
    reason = _reason(error, timeout)
    if reason in (_NOBODY, _HUNG_UP):
        next_step = "on its console: systemctl status ssh; if that is active, check ansible_host and ansible_port"
    return HostUnreachable(reason, where=place, next_step=next_step)


def _reason(error: Exception, timeout: float) -> str:
    if isinstance(error, NoValidConnectionsError):
        return _reason(next(iter(error.errors.values())), timeout)
    if isinstance(error, socket.gaierror):
        return f"no such name: {error.strerror}"
    # "No existing session": Paramiko's message for a handshake that did not end in time.
    if isinstance(error, TimeoutError) or "No existing session" in str(error):
        return f"no answer within {timeout:.0f} s"
    if isinstance(error, ConnectionRefusedError):
        return _NOBODY
    if isinstance(error, paramiko.ChannelException):
        return f"its gateway cannot reach it: {error.text}"
    if isinstance(error, paramiko.SSHException) and "protocol" in str(error):
        # Paramiko raises "Error reading SSH protocol banner" for all three; the cause is the context.
        if isinstance(error.__context__, (TimeoutError, EOFError, ConnectionError)):
            return _reason(error.__context__, timeout)
        return "something answers there, but no SSH server does"
    if isinstance(error, (EOFError, ConnectionError)):
        return _HUNG_UP
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
