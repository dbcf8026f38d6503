"""sudo with a password: written once to its standard input, and to no command line, environment or log."""

from __future__ import annotations

import secrets
import shlex
import threading
from collections.abc import Sequence
from typing import Protocol

from clusteradm.errors import HostUnreachable
from clusteradm.inventory import Host
from clusteradm.transport.password import Password, WrongPassword
from clusteradm.transport.stream import ShellStream

# sudo's messages about a user whose password is right but who may not use sudo.
_NOT_ALLOWED = ("is not in the sudoers file", "is not allowed to")


class Shells(Protocol):
    """A connection that starts shell commands as `user`."""

    @property
    def user(self) -> str: ...

    def session(self, command: str, timeout: float) -> ShellStream: ...


class SudoPasswords:
    """sudo's password on each host: the inventory's, which comes first as in Ansible, or the one that was typed."""

    def __init__(self, asked: Password | None) -> None:
        self._asked = asked
        self._lock = threading.Lock()
        self._known: dict[str, Password] = {}

    def of(self, host: Host) -> Password | None:
        """The host's password; None if there is none."""
        text = host.sudo_password
        if text is None:
            return self._asked
        with self._lock:
            return self._known.setdefault(text, Password(text))


def as_root(
    name: str, connection: Shells, words: Sequence[str], password: Password | None, timeout: float
) -> ShellStream:
    """Start a program as root over the connection to the host `name`; returns its standard streams.

    `password`: sudo's, sent if sudo asks for one. Raises WrongPassword if sudo refuses it, HostUnreachable.
    """
    sudo = Sudo(words, password) if password is not None and connection.user != "root" else None
    command = shlex.join(words)
    if sudo is not None:
        command = sudo.command
    elif connection.user != "root":
        command = f"sudo -n -- {command}"
    stream = as_user(name, connection, command, timeout)
    try:
        if sudo is not None:
            sudo.answer(name, stream, timeout)
    except BaseException:
        stream.close()
        raise
    return stream


def as_user(name: str, connection: Shells, command: str, timeout: float) -> ShellStream:
    """Start a shell command as the login's user over the connection to the host `name`. Raises HostUnreachable."""
    try:
        return connection.session(command, timeout)
    except Exception as error:
        # Of any kind: Paramiko passes on whatever its reader made of the host's bytes, and a connection that was
        # closed meanwhile has no transport.
        raise HostUnreachable(f"connection lost: {error}", where=name) from error


class Sudo:
    """One program started through sudo, which may or may not ask for a password."""

    def __init__(self, words: Sequence[str], password: Password) -> None:
        # Random, so that nothing else on the program's standard error is taken for sudo's prompt.
        token = secrets.token_hex(8)
        self._question, self._started = f"clusteradm-asks-{token}", f"clusteradm-runs-{token}"
        self._password = password
        # -k: cached credentials are neither used nor left behind, so a wrong password shows on the first host.
        # -S: the prompt goes to standard error, the password is read from standard input up to the newline; what
        # follows is the program's input.
        self.command = (
            f"sudo -k -S -p {self._question} -- sh -c 'echo {self._started} >&2; exec \"$@\"' sh {shlex.join(words)}"
        )

    def answer(self, host: str, stream: ShellStream, timeout: float) -> None:
        """Answer sudo's prompt once, if it comes. Raises WrongPassword, and HostUnreachable if the host is gone.

        Other failures (no sudo, no rights) appear when the caller reads from the program, which did not start.
        """
        try:
            self._answer(host, stream, timeout)
        except TimeoutError:
            raise HostUnreachable(f"sudo gives no answer within {timeout:.0f} s", where=host) from None
        except OSError as error:
            raise HostUnreachable(f"connection lost: {error}", where=host) from error

    def _answer(self, host: str, stream: ShellStream, timeout: float) -> None:
        signs = (self._question.encode(), self._started.encode())
        if stream.stderr_until(signs, timeout) != signs[0]:
            return
        with self._password.attempt_on(host) as text:
            stream.write(text.encode() + b"\n")
            heard = stream.stderr_until(signs, timeout)
            if heard == signs[1]:
                return
            stderr = stream.stderr_tail() if heard is None else ""
            if heard is None and stream.exit_status() is None:
                raise HostUnreachable("connection lost", where=host)
            if any(sign in stderr for sign in _NOT_ALLOWED):
                return
            raise WrongPassword(
                f"sudo refuses the password{': ' + stderr if stderr else ''}",
                where=host,
                next_step="it is not tried again; check it on the host: sudo -k; sudo true",
            )
