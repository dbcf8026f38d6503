"""The admin's key pair: the private key to log in with, the public key for the hosts."""

from __future__ import annotations

import contextlib
import functools
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import paramiko
from paramiko.pkey import UnknownKeyType

from clusteradm.errors import UsageError
from clusteradm.transport.errors import Refused


@functools.lru_cache(maxsize=64)
def private_key(file: str, changed: int) -> paramiko.PKey | None:
    """The key in a file last changed at `changed` (ns); None if it has a passphrase. Raises OSError, Refused.

    Paramiko, given only the file's name, tries every kind of key and reports the last kind instead of the refused
    login. Cached, because many hosts share one key and to load an RSA key takes tens of milliseconds.
    """
    try:
        return paramiko.PKey.from_path(file)
    except (TypeError, paramiko.PasswordRequiredException):
        return None
    except (ValueError, paramiko.SSHException, UnknownKeyType) as error:
        raise Refused(
            f"{file} is no readable private key: {error}", next_step="correct ansible_ssh_private_key_file"
        ) from error


def public_line(file: str) -> str:
    """The public key of a private key file, as a line of authorized_keys. Raises UsageError.

    Made from the private key if that can be read; FILE.pub beside it may belong to another key.
    """
    try:
        key = private_key(file, Path(file).stat().st_mtime_ns)
    except FileNotFoundError:
        raise UsageError(
            "there is no such key", where=file, next_step=f"make one: ssh-keygen -t ed25519 -f {shlex.quote(file)}"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=file) from None
    except Refused as error:
        raise UsageError(error.what, next_step=error.next_step) from error
    beside = _public_file(file)
    if key is not None:
        same = beside is not None and beside[:2] == (key.get_name(), key.get_base64())
        return " ".join(beside if beside is not None and same else (key.get_name(), key.get_base64(), "clusteradm"))
    if beside is None:
        quoted = shlex.quote(file)
        raise UsageError(
            "the key has a passphrase, and there is no public key beside it",
            where=file,
            next_step=f"write it: ssh-keygen -y -f {quoted} > {quoted}.pub",
        )
    with contextlib.closing(paramiko.Agent()) as agent:
        if agent_key(agent, file) is None:
            raise UsageError(
                "the key has a passphrase, and ssh-agent does not hold it",
                where=file,
                next_step=f"ssh-add {shlex.quote(file)}",
            )
    return " ".join(beside)


class ConfiguredKeys:
    """Login with the keys of ssh_config, then those of ssh-agent, as ssh does. A strategy for Paramiko's connect."""

    def __init__(self, user: str, files: Sequence[str], *, agent: bool) -> None:
        """`agent`: whether the agent's other keys are offered as well (ssh's IdentitiesOnly no)."""
        self._user = user
        self._files = files
        self._agent = agent

    def authenticate(self, transport: paramiko.Transport) -> None:
        """Log in. Raises what Paramiko raises where no key is accepted, or where there is none."""
        refused: Exception = paramiko.SSHException("No authentication methods available")
        with contextlib.closing(paramiko.Agent()) as agent:
            for key in self._keys(agent):
                try:
                    transport.auth_publickey(self._user, key)
                except paramiko.AuthenticationException as error:
                    refused = error
                if transport.is_authenticated():
                    return
        raise refused

    def _keys(self, agent: paramiko.Agent) -> Iterator[paramiko.PKey]:
        offered: set[bytes] = set()
        for key in (*map(functools.partial(_readable, agent), self._files), *(agent.get_keys() if self._agent else ())):
            if key is not None and key.asbytes() not in offered:
                offered.add(key.asbytes())
                yield key


def _readable(agent: paramiko.Agent, file: str) -> paramiko.PKey | None:
    """The key of a file, through the agent where it has a passphrase; None where neither has it."""
    with contextlib.suppress(OSError, Refused):
        return private_key(file, Path(file).stat().st_mtime_ns) or agent_key(agent, file)
    return None


def _public_file(file: str) -> tuple[str, str, str] | None:
    """Type, base64 and comment of FILE.pub; None if there is none."""
    with contextlib.suppress(OSError):
        words = Path(f"{file}.pub").read_text(encoding="utf-8", errors="replace").split(None, 2)
        if len(words) >= 2:
            return words[0], words[1], words[2].strip() if len(words) > 2 else "clusteradm"
    return None


def agent_key(agent: paramiko.Agent, file: str) -> paramiko.PKey | None:
    """The agent's key that belongs to this file, or None. Without FILE.pub it cannot be identified."""
    public = _public_file(file)
    for key in agent.get_keys():
        if public is not None and (key.get_name(), key.get_base64()) == public[:2]:
            return key
    return None
