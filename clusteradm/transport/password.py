"""A password that a person typed once: one host hears it before the others, and none that refused it hears it again."""

from __future__ import annotations

import contextlib
import getpass
import threading
from collections.abc import Iterator

import paramiko

from clusteradm.inventory import Host
from clusteradm.transport.trouble import Refused, place_of


class WrongPassword(Refused):
    """The host refuses the password, or was not asked because another one refused it."""


class Password:
    """One password for many hosts. It is in memory only, and in nobody's representation of this object.

    A typing error must not use up an attempt on every host (some lock an account after three): until one host has taken
    the password, the hosts are asked one at a time, and the first that refuses it is the last.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._turn = threading.Lock()
        self._taken = False
        self._refused: list[str] = []

    @contextlib.contextmanager
    def told_to(self, host: str) -> Iterator[str]:
        """The text, for one attempt on one host: the body raises WrongPassword where the host refuses it.

        Raises WrongPassword where it must not be tried. May wait for the attempt on the first host to end.
        """
        self._turn.acquire()
        first = not self._taken
        if not first:
            self._turn.release()
        try:
            if host in self._refused:
                raise WrongPassword("the password was refused before, and is not tried again", where=host)
            if first and self._refused:
                raise WrongPassword(
                    f"the password was not tried, because {self._refused[0]} refused it",
                    where=host,
                    next_step="type it again; where the hosts have different passwords, name one group with --limit",
                )
            try:
                yield self._text
            except WrongPassword:
                self._refused.append(host)
                raise
            self._taken = True
        finally:
            if first:
                self._turn.release()


def user_of(host: Host) -> str:
    """Who logs in: the inventory's user, or that of this account, as with ssh."""
    return host.user or getpass.getuser()


def _methods(transport: paramiko.Transport, user: str) -> set[str]:
    """The ways to log in that the host offers; none where it lets the user in as it is."""
    try:
        transport.auth_none(user)
    except paramiko.BadAuthenticationType as error:
        return set(error.allowed_types)
    return set()


BY_HAND = "connect a Mendel board by USB and run `mdt pushkey`, or add the public key on its serial console"
# Paramiko's word for a plain refusal.
_PLAIN = "Authentication failed"
_BY_PASSWORD = {"password", "keyboard-interactive"}


class PasswordLogin:
    """Logs in with a password, once, and sends it only to a host that takes one. A strategy for Paramiko's connect."""

    def __init__(self, host: Host, text: str) -> None:
        self._host, self._user, self._text = host, user_of(host), text
        self._answered = self._puzzled = False

    def authenticate(self, transport: paramiko.Transport) -> None:
        """Raises Refused where the host takes no password or wants more than that, WrongPassword."""
        place = place_of(self._host)
        methods = _methods(transport, self._user)
        try:
            if "password" in methods:
                transport.auth_password(self._user, self._text, fallback=False)
            elif "keyboard-interactive" in methods:
                transport.auth_interactive(self._user, self._answer)
            elif methods:
                raise Refused("it knows none of the keys, and takes no password", where=place, next_step=BY_HAND)
        except paramiko.AuthenticationException as error:
            if self._puzzled:
                raise Refused("it asks for more than a password", where=place, next_step=BY_HAND) from None
            # Whatever ended the attempt: nobody can say that the host did not count it.
            words = str(error).rstrip(".")
            raise WrongPassword(
                f"it refuses the password of {self._user}" + (f": {words}" if words != _PLAIN else ""),
                where=place,
                next_step="it is not tried again; run the command again to type another",
            ) from None
        if not transport.is_authenticated():
            raise Refused("it asks for more than a password", where=place, next_step=BY_HAND)

    def _answer(self, title: str, instructions: str, questions: list[tuple[str, bool]]) -> list[str]:
        if not questions:
            return []
        # What may be seen while it is typed is no password, and a second question is one for something else.
        if self._answered or len(questions) > 1 or questions[0][1]:
            self._puzzled = True
            raise paramiko.AuthenticationException
        self._answered = True
        return [self._text]


class PasswordsOffered:
    """Finds out whether a host would take a password, and does not log in. A strategy for Paramiko's connect."""

    def __init__(self, host: Host) -> None:
        self._user = user_of(host)
        self.offered = False

    def authenticate(self, transport: paramiko.Transport) -> None:
        """Always logs in as nobody."""
        self.offered = bool(_methods(transport, self._user) & _BY_PASSWORD)
