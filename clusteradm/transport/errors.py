"""Errors of a failed connection, made from what Paramiko and the system raise."""

from __future__ import annotations

import shlex

import paramiko

from clusteradm.errors import ClusteradmError, HostUnreachable, TooManyOpenFiles
from clusteradm.inventory import Host
from clusteradm.transport.known_hosts import KnownHosts, entry_name, fingerprint
from clusteradm.transport.packets import Heard
from clusteradm.transport.symptoms import CAUSES, Symptom, diagnose


class Refused(HostUnreachable):
    """The host answers, but shows another key or refuses the login; not to be retried."""


class LoginRefused(Refused):
    """The host refuses this user and key. One that accepted them before may only be starting or stopping."""


def place_of(host: Host) -> str:
    """The host's name and address, as errors name it: "w1 (10.0.0.2)"."""
    return f"{host.name} ({entry_name(host.address, host.port)})"


def unreachable(
    host: Host,
    known_hosts: KnownHosts,
    error: Exception,
    *,
    timeout: float,
    proxy_stderr: str = "",
    heard: Heard = Heard(),  # noqa: B008 - it is frozen
) -> ClusteradmError:
    """The error of an attempt to connect: HostUnreachable or one of its kinds, or TooManyOpenFiles.

    `timeout`: the connection's, in seconds; `proxy_stderr`: the last line of the proxy command's standard error;
    `heard`: what the host said (packets.Transport). Cause and next step are those of the table in symptoms.py.
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
    if isinstance(error, paramiko.SSHException) and "not found in known_hosts" in str(error):
        return Refused(
            f"its host key is not in {known_hosts.path}", where=place, next_step="accept it once with --accept-new"
        )
    if isinstance(error, OSError) and host.key_file and error.filename == host.key_file:
        return Refused(
            f"{host.key_file}: {error.strerror}", where=place, next_step="correct ansible_ssh_private_key_file"
        )
    diagnosis = diagnose(error, heard, proxy_stderr)
    cause = CAUSES[diagnosis.symptom]
    what = cause.what.format(user=host.user or "of this account", seconds=f"{timeout:.0f}")
    if diagnosis.symptom in (Symptom.SILENT, Symptom.OTHER) and diagnosis.detail:
        what = "no answer" if diagnosis.symptom is Symptom.SILENT else "no connection"
    return (LoginRefused if cause.final else HostUnreachable)(
        f"{what}: {diagnosis.detail}" if diagnosis.detail else what, where=place, next_step=cause.next_step
    )
