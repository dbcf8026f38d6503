"""Enrolment: the admin's key installed on every host through any login that works, and verified by a new login."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from clusteradm.errors import UsageError
from clusteradm.fleet.authorized_keys import install
from clusteradm.inventory import Host
from clusteradm.transport.connection import Connection
from clusteradm.transport.connections import Connections
from clusteradm.transport.errors import LoginRefused, Refused, place_of
from clusteradm.transport.fanout import Outcome, fan_out
from clusteradm.transport.keys import public_line
from clusteradm.transport.password import BY_HAND, Password, PasswordLogin, PasswordsOffered

# Where `mdt`, the board tool of Mendel Linux, keeps the key that it gives to boards.
MDT_KEY = Path("~/.config/mdt/keys/mdt.key")

ADMIN_KEY, MDT, PASSWORD, LOCAL = "admin key", "mdt key", "password", "local"


def enrol(
    connections: Connections, hosts: Sequence[Host], ask: Callable[[Sequence[Host]], Password] | None
) -> Outcome[str]:
    """Install on every host the public half of the key that the inventory names for it; the login that worked on each.

    ADMIN_KEY: the key was there. MDT, PASSWORD: this login worked, and the key is in its authorized_keys now.
    `ask` is called once, with the hosts that accept no key; None: no password is tried.
    LOCAL: it is the machine that clusteradm runs on, which needs no key.
    Raises UsageError, before any connection, where a key is missing.
    """
    hosts = [connections.resolved(host) for host in hosts]
    work = _Enrolment(connections, _lines(hosts))
    outcome = connections.each(hosts, work.by_key)
    shut = [host for host in hosts if _is_shut(host, outcome)]
    if shut and ask is not None:
        password = ask(shut)
        second = fan_out(shut, lambda host: work.by_password(host, password), forks=connections.forks)
        outcome = Outcome(
            {**outcome.ok, **second.ok},
            {name: error for name, error in outcome.failed.items() if name not in second.ok} | second.failed,
        )
    return outcome


def takes_passwords(connections: Connections, host: Host) -> bool:
    """Whether the host's SSH server offers logins by password. Raises HostUnreachable."""
    question = PasswordsOffered(connections.resolved(host))
    connections.visit(host, question).close()
    return question.offered


def _lines(hosts: Iterable[Host]) -> dict[str, str]:
    """The public key of each host's admin key, by the file's name; every defect at once."""
    lines: dict[str, str] = {}
    problems: list[str] = []
    hosts = [host for host in hosts if not host.is_local]
    unnamed = [host.name for host in hosts if host.key_file is None]
    if unnamed:
        problems.append(
            f"no key is named for {', '.join(unnamed)}\n"
            "  make one (ssh-keygen -t ed25519 -f ~/.ssh/clusteradm), and name it in the inventory, under all: vars:\n"
            "    ansible_ssh_private_key_file: ~/.ssh/clusteradm"
        )
    for file in sorted({host.key_file for host in hosts if host.key_file is not None}):
        try:
            lines[file] = public_line(file)
        except UsageError as error:
            problems.append(str(error))
    if problems:
        raise UsageError("\n".join(problems))
    return lines


def _is_shut(host: Host, outcome: Outcome[str]) -> bool:
    """Whether the host itself, and not a gateway on the way, refused every key."""
    error = outcome.failed.get(host.name)
    return isinstance(error, LoginRefused) and error.where == place_of(host)


class _Enrolment:
    """The logins of one enrolment, for one host at a time."""

    def __init__(self, connections: Connections, lines: dict[str, str]) -> None:
        self._connections = connections
        self._lines = lines
        self._mdt_key = MDT_KEY.expanduser()

    def by_key(self, host: Host) -> str:
        """Log in with the admin's key, or else that of mdt. Raises LoginRefused where the host accepts neither."""
        try:
            self._connections.connection(host)
            return LOCAL if host.is_local else ADMIN_KEY
        except LoginRefused as error:
            if error.where != place_of(host):
                raise
        tried = f"the admin key {host.key_file}"
        if self._mdt_key.exists() and str(self._mdt_key) != host.key_file:
            other = dataclasses.replace(host, vars={**host.vars, "ansible_ssh_private_key_file": str(self._mdt_key)})
            try:
                connection = self._connections.visit(other)
            except Refused as error:
                tried += f" and mdt's key {self._mdt_key}"
                if not isinstance(error, LoginRefused):
                    tried += f" ({error.what})"
            else:
                self._install(host, connection)
                return MDT
        raise LoginRefused(
            f"it refuses {tried}",
            where=place_of(host),
            next_step=f"where it takes a password: clusteradm enroll --ask-pass; else {BY_HAND}",
        )

    def by_password(self, host: Host, password: Password) -> str:
        """Log in with the password, where the host accepts one."""
        with password.attempt_on(host.name) as text:
            connection = self._connections.visit(host, PasswordLogin(host, text))
        self._install(host, connection)
        return PASSWORD

    def _install(self, host: Host, connection: Connection) -> None:
        """Add the key's line, and verify by a new login that the host accepts it. Closes the connection."""
        try:
            install(connection, self._lines[str(host.key_file)])
        finally:
            connection.close()
        try:
            self._connections.connection(host)
        except LoginRefused as error:
            # Not LoginRefused: another login would change nothing.
            raise Refused(
                "the key is in ~/.ssh/authorized_keys, and yet the host refuses it",
                where=place_of(host),
                next_step="it says why: journalctl -u ssh; sshd wants a home directory that nobody else may write",
            ) from error
