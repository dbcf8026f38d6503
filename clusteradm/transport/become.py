"""sudo with a password: told through standard input, once, and in no command line, environment or log."""

from __future__ import annotations

import secrets
import shlex
import threading
from collections.abc import Sequence

import paramiko

from clusteradm.errors import HostUnreachable
from clusteradm.inventory import Host
from clusteradm.transport.connection import Connection
from clusteradm.transport.password import Password, WrongPassword
from clusteradm.transport.stream import ChannelStream

# What sudo says of a user whose password was right.
_NOT_ALLOWED = ("is not in the sudoers file", "is not allowed to")


class SudoPasswords:
    """The password of sudo on each host: the inventory's, which comes first as with Ansible, or the one asked for."""

    def __init__(self, asked: Password | None) -> None:
        self._asked = asked
        self._lock = threading.Lock()
        self._known: dict[str, Password] = {}

    def of(self, host: Host) -> Password | None:
        text = host.sudo_password
        if text is None:
            return self._asked
        with self._lock:
            return self._known.setdefault(text, Password(text))


def as_root(
    name: str, connection: Connection, words: Sequence[str], password: Password | None, timeout: float
) -> ChannelStream:
    """Start a program as root through the connection to the host `name`; what it says, and what it is told.

    `password`: what sudo is told where it asks for one. Raises WrongPassword where it refuses that; HostUnreachable.
    """
    sudo = Sudo(words, password) if password is not None and connection.user != "root" else None
    command = shlex.join(words)
    if sudo is not None:
        command = sudo.command
    elif connection.user != "root":
        command = f"sudo -n -- {command}"
    try:
        channel = connection.transport.open_session(timeout=timeout)
        channel.exec_command(command)
    except (OSError, EOFError, AttributeError, paramiko.SSHException) as error:
        # AttributeError: the connection has been closed, and has no transport any more.
        raise HostUnreachable(f"connection lost: {error}", where=name) from error
    stream = ChannelStream(channel, lambda: connection.alive)
    try:
        if sudo is not None:
            sudo.answer(name, stream, timeout)
    except BaseException:
        stream.close()
        raise
    return stream


class Sudo:
    """One run of a program through sudo, which asks for a password or does not."""

    def __init__(self, words: Sequence[str], password: Password) -> None:
        # Nobody else can have written these words to the program's standard error.
        token = secrets.token_hex(8)
        self._question, self._started = f"clusteradm-asks-{token}", f"clusteradm-runs-{token}"
        self._password = password
        # -k: no ticket of an earlier login spares the question, none is left for a later one, and a wrong password
        # shows itself on the first host that is asked. -S: the question goes to standard error, and the answer is read
        # from standard input up to its newline; the rest is the program's.
        self.command = (
            f"sudo -k -S -p {self._question} -- sh -c 'echo {self._started} >&2; exec \"$@\"' sh {shlex.join(words)}"
        )

    def answer(self, host: str, stream: ChannelStream, timeout: float) -> None:
        """Answer sudo, if it asks, once. Raises WrongPassword, and HostUnreachable where the host is gone.

        What goes wrong otherwise (no sudo, no rights) shows in the conversation with the program that does not start.
        """
        try:
            self._answer(host, stream, timeout)
        except TimeoutError:
            raise HostUnreachable(f"sudo gives no answer within {timeout:.0f} s", where=host) from None
        except OSError as error:
            raise HostUnreachable(f"connection lost: {error}", where=host) from error

    def _answer(self, host: str, stream: ChannelStream, timeout: float) -> None:
        signs = (self._question.encode(), self._started.encode())
        if stream.stderr_until(signs, timeout) != signs[0]:
            return
        with self._password.told_to(host) as text:
            stream.write(text.encode() + b"\n")
            heard = stream.stderr_until(signs, timeout)
            if heard == signs[1]:
                return
            words = stream.stderr_tail() if heard is None else ""
            if heard is None and stream.exit_status() is None:
                raise HostUnreachable("connection lost", where=host)
            if any(sign in words for sign in _NOT_ALLOWED):
                return
            raise WrongPassword(
                f"sudo refuses the password{': ' + words if words else ''}",
                where=host,
                next_step="it is not tried again; check it on the host: sudo -k; sudo true",
            )
