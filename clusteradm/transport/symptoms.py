"""Table from the symptom of a failed connection to its cause and next step: every command says the same of one fact.

A symptom is read from what Paramiko and the system raise, from the last line of a proxy command, and from what the host
itself said before it hung up (sshd's own words, which tell more than the failure).
"""

from __future__ import annotations

import enum
import errno
import re
import socket
from dataclasses import dataclass
from typing import TypeAlias

import paramiko
from paramiko.ssh_exception import NoValidConnectionsError

from clusteradm.transport.packets import Heard


class Symptom(enum.Enum):
    """Where an attempt to connect ended."""

    SILENT = enum.auto()
    NOBODY = enum.auto()
    HUNG_UP = enum.auto()
    NO_NAME = enum.auto()
    NO_SSH = enum.auto()
    PROXY = enum.auto()
    OTHER = enum.auto()
    STARTING = enum.auto()
    CROWDED = enum.auto()
    SLOW_LOGIN = enum.auto()
    DROPPED = enum.auto()
    TOO_MANY_KEYS = enum.auto()
    REFUSED = enum.auto()


@dataclass(frozen=True)
class Cause:
    """What to say of a symptom; `{user}` and `{seconds}` are filled in. `final`: the host refuses, and trying again
    would change nothing."""

    what: str
    next_step: str
    final: bool = False


_POWER = "check its power and its cable, and ansible_host and ansible_port"
_CONSOLE = "on its console: systemctl status ssh; if that is active, check ansible_host and ansible_port"

CAUSES: dict[Symptom, Cause] = {
    Symptom.SILENT: Cause("no answer within {seconds} s", _POWER),
    Symptom.NOBODY: Cause("nothing listens there", _CONSOLE),
    Symptom.HUNG_UP: Cause("it closed the connection before it sent anything", _CONSOLE),
    Symptom.NO_NAME: Cause("no such name", "correct ansible_host, or give the name an address (/etc/hosts)"),
    Symptom.NO_SSH: Cause("something answers there, but no SSH server does", _POWER),
    Symptom.PROXY: Cause("its proxy command failed", "try that command by itself; check ansible_host and ansible_port"),
    Symptom.OTHER: Cause("no connection", _POWER),
    Symptom.STARTING: Cause(
        "it is starting or stopping, and lets in nobody but root yet",
        "wait a minute; if it stays so, on its console: systemctl --failed, and systemctl list-jobs",
    ),
    Symptom.CROWDED: Cause(
        "its SSH server takes no more connections at the moment",
        "wait a minute, or connect to fewer hosts at a time (--forks); on it: MaxStartups and PerSourcePenalties",
    ),
    Symptom.SLOW_LOGIN: Cause(
        "it takes the connection, but the login did not end within {seconds} s",
        "it is busy, or starting: wait, or give it longer (--connect-timeout 60); on its console: top",
    ),
    Symptom.DROPPED: Cause(
        "it closed the connection during the login",
        "on its console: journalctl -u ssh says why",
    ),
    Symptom.TOO_MANY_KEYS: Cause(
        "it ended the login after too many keys that are not its own",
        "name the right one: ansible_ssh_private_key_file, with its FILE.pub beside it; `ssh-add -l` lists the agent's",
        final=True,
    ),
    Symptom.REFUSED: Cause(
        "login refused for user {user}",
        "check ansible_user and ansible_ssh_private_key_file; `clusteradm enroll` puts that key there",
        final=True,
    ),
}

# Words that are known, by where they stand: elsewhere the same words may be part of a notice to everybody.
_Words: TypeAlias = tuple[tuple[Symptom, str], ...]
_STARTING = (Symptom.STARTING, r"System is (booting up|going down)|not permitted to log in (yet|anymore)")
_CROWDED = (Symptom.CROWDED, r"Exceeded MaxStartups|Not allowed at this time")
# The reason of a disconnection: sshd's, and Paramiko's where that is the server.
_IN_GOODBYE: _Words = (
    (Symptom.TOO_MANY_KEYS, r"Too many authentication failures|No more auth methods"),
    _STARTING,
    _CROWDED,
)
# The banner of a login that breaks off: systemd's and PAM's texts (pam_nologin, pam_unix, pam_faillock).
_IN_BANNER: _Words = (_STARTING, (Symptom.REFUSED, r"Your account has expired;|The account is locked due to"))
# What comes instead of the SSH server's identification.
_IN_PREAMBLE: _Words = (_CROWDED,)
# ssh and nc as proxy commands, and gateways.
_ON_THE_WAY: _Words = (
    _STARTING,
    _CROWDED,
    (Symptom.NOBODY, r"Connection refused"),
    (
        Symptom.NO_NAME,
        r"(Name or service|nodename nor servname).* not known|Could not resolve|No address associated"
        r"|failure in name resolution",
    ),
    (
        Symptom.SILENT,
        r"No route to host|Host is down|(Network|Host|Destination)( is| host| net)? unreachable"
        r"|(Connection|Operation)( to \S+ port \d+)? timed out|connect to .* timed out",
    ),
)
_SILENT_ERRORS = frozenset({errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ETIMEDOUT, errno.ENETDOWN})
# Paramiko's messages where the peer has given no reason.
_PLAIN = ("Authentication failed",)


@dataclass(frozen=True)
class Diagnosis:
    """A symptom, and what was seen of it; `detail` is empty where the symptom says all."""

    symptom: Symptom
    detail: str = ""


def diagnose(error: Exception, heard: Heard, proxy_stderr: str = "") -> Diagnosis:
    """The symptom of a failed attempt to connect.

    `heard`: what the host said; `proxy_stderr`: the last line of the proxy command's standard error.
    """
    if found := _in_words(heard.goodbye, _IN_GOODBYE):
        return Diagnosis(found, _quoted(heard.goodbye))
    if heard.at_login and isinstance(error, (paramiko.SSHException, EOFError, ConnectionError)):
        return _at_login(error, heard)
    said = heard.goodbye or heard.preamble
    if found := _in_words(heard.preamble, _IN_PREAMBLE):
        return Diagnosis(found, _quoted(said))
    if proxy_stderr:
        found = _in_words(proxy_stderr, _ON_THE_WAY) or Symptom.PROXY
        return Diagnosis(found, f"its proxy command says: {proxy_stderr}")
    diagnosis = _before_login(error)
    if said and diagnosis.symptom in (Symptom.HUNG_UP, Symptom.NO_SSH, Symptom.OTHER):
        return Diagnosis(diagnosis.symptom, _quoted(said))
    return diagnosis


def _in_words(text: str, known: _Words) -> Symptom | None:
    return next((symptom for symptom, pattern in known if re.search(pattern, text, re.IGNORECASE)), None)


def _quoted(text: str) -> str:
    return f'it says "{text}"' if text else ""


def _at_login(error: Exception, heard: Heard) -> Diagnosis:
    text = str(error).rstrip(".")
    if heard.goodbye:
        return Diagnosis(Symptom.REFUSED, _quoted(heard.goodbye))
    if "timeout" in text.lower():
        # A proxy command may live on when the host has hung up (nc waits for the end of both directions).
        found = _in_words(heard.banner, _IN_BANNER)
        return Diagnosis(found, _quoted(heard.banner)) if found else Diagnosis(Symptom.SLOW_LOGIN)
    ended = "No existing session" in text  # while there were more keys to try
    if not ended and "EOF" not in text and isinstance(error, paramiko.AuthenticationException):
        return Diagnosis(Symptom.REFUSED, "" if text in _PLAIN else text)
    # sshd lets PAM say why before it hangs up. The words of others may be PAM's or a notice to everybody: they are
    # shown, and decide nothing.
    if found := _in_words(heard.banner, _IN_BANNER):
        return Diagnosis(found, _quoted(heard.banner))
    return Diagnosis(Symptom.TOO_MANY_KEYS) if ended else Diagnosis(Symptom.DROPPED, _quoted(heard.banner))


def _before_login(error: BaseException) -> Diagnosis:
    if isinstance(error, NoValidConnectionsError):
        return _before_login(next(iter(error.errors.values())))
    if isinstance(error, socket.gaierror):
        return Diagnosis(Symptom.NO_NAME, error.strerror or "")
    # "No existing session": Paramiko's message for a handshake that did not end in time.
    if isinstance(error, TimeoutError) or "No existing session" in str(error):
        return Diagnosis(Symptom.SILENT)
    if isinstance(error, ConnectionRefusedError):
        return Diagnosis(Symptom.NOBODY)
    if isinstance(error, paramiko.ChannelException):
        return Diagnosis(
            _in_words(error.text, _ON_THE_WAY) or Symptom.OTHER, f"its gateway cannot reach it: {error.text}"
        )
    if isinstance(error, paramiko.SSHException) and "protocol" in str(error):
        # Paramiko raises "Error reading SSH protocol banner" for all three; the cause is the context.
        if isinstance(error.__context__, (TimeoutError, EOFError, ConnectionError)):
            return _before_login(error.__context__)
        return Diagnosis(Symptom.NO_SSH)
    if isinstance(error, OSError) and error.errno in _SILENT_ERRORS:
        return Diagnosis(Symptom.SILENT, error.strerror or "")
    if isinstance(error, (EOFError, ConnectionError)):
        return Diagnosis(Symptom.HUNG_UP)
    if isinstance(error, OSError) and error.strerror:
        return Diagnosis(Symptom.OTHER, error.strerror)
    return Diagnosis(Symptom.OTHER, str(error) or type(error).__name__)
