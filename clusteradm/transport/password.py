"""A password that was typed once: one host gets it before the others, and none that refused it gets it again."""

from __future__ import annotations

import contextlib
import getpass
import threading
from collections.abc import Iterator

import paramiko

from clusteradm.inventory import Host
from clusteradm.transport.errors import Refused, place_of


class WrongPassword(Refused):
    """The host refuses the password, or it was not tried because another host refused it."""


class Password:
    """One password for many hosts, kept in memory only and not part of this object's repr.

    A typing error must not use up an attempt on every host (some lock an account after three). Until one host has
    accepted the password it is tried on one host at a time, and after the first refusal on no other.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._turn = threading.Lock()
        self._accepted = False
        self._refused: list[str] = []

    @contextlib.contextmanager
    def attempt_on(self, host: str) -> Iterator[str]:
        """The text, for one attempt on one host; the body raises WrongPassword if the host refuses it.

        Raises WrongPassword if it must not be tried. May wait for the attempt on the first host to end.
        """
        self._turn.acquire()
        first = not self._accepted
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
            self._accepted = True
        finally:
            if first:
                self._turn.release()


def user_of(host: Host) -> str:
    """The login name: the inventory's, else that of the local account, as with ssh."""
    return host.user or getpass.getuser()


def _methods(transport: paramiko.Transport, user: str) -> set[str]:
    """The authentication methods that the host offers; empty if it needs none."""
    try:
        transport.auth_none(user)
    except paramiko.BadAuthenticationType as error:
        return set(error.allowed_types)
    return set()


BY_HAND = "connect a Mendel board by USB and run `mdt pushkey`, or add the public key on its serial console"
# Paramiko's message for a refusal without further reason.
_PLAIN = "Authentication failed"
_BY_PASSWORD = {"password", "keyboard-interactive"}


class PasswordLogin:
    """Login with a password, in one attempt, only on a host that offers it. A strategy for Paramiko's connect."""

    def __init__(self, host: Host, text: str) -> None:
        self._host, self._user, self._text = host, user_of(host), text
        self._answered = self._unknown_prompt = False

    def authenticate(self, transport: paramiko.Transport) -> None:
        """Log in. Raises Refused if the host takes no password or wants more than that, WrongPassword."""
        place = place_of(self._host)
        methods = _methods(transport, self._user)
        try:
            if "password" in methods:
                transport.auth_password(self._user, self._text, fallback=False)
            elif "keyboard-interactive" in methods:
                transport.auth_interactive(self._user, self._answer)
            elif methods:
                raise Refused("it accepts none of the keys and takes no password", where=place, next_step=BY_HAND)
        except paramiko.AuthenticationException as error:
            if self._unknown_prompt:
                raise Refused("it asks for more than a password", where=place, next_step=BY_HAND) from None
            if "timeout" in str(error).lower():
                # Nothing was refused, and yet the host may have counted it: neither it nor another gets it again.
                raise WrongPassword(
                    "it takes the password, but gives no answer in time",
                    where=place,
                    next_step="it is not tried again; the host is busy, or starting: wait, or --connect-timeout 60",
                ) from None
            # Whatever ended the attempt, the host may have counted it.
            reason = str(error).rstrip(".")
            raise WrongPassword(
                f"it refuses the password of {self._user}" + (f": {reason}" if reason != _PLAIN else ""),
                where=place,
                next_step="it is not tried again; run the command again to type another",
            ) from None
        if not transport.is_authenticated():
            raise Refused("it asks for more than a password", where=place, next_step=BY_HAND)

    def _answer(self, title: str, instructions: str, questions: list[tuple[str, bool]]) -> list[str]:
        if not questions:
            return []
        # A prompt whose answer is echoed is not for a password, and a second prompt is for something else.
        if self._answered or len(questions) > 1 or questions[0][1]:
            self._unknown_prompt = True
            raise paramiko.AuthenticationException
        self._answered = True
        return [self._text]


class PasswordsOffered:
    """Whether a host offers logins by password, found without logging in. A strategy for Paramiko's connect."""

    def __init__(self, host: Host) -> None:
        self._user = user_of(host)
        self.offered = False

    def authenticate(self, transport: paramiko.Transport) -> None:
        """Set `offered`; the login itself always fails."""
        self.offered = bool(_methods(transport, self._user) & _BY_PASSWORD)
