"""SSH options of `ansible_ssh_common_args`: a proxy command, or jump hosts."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from clusteradm.errors import UsageError
from clusteradm.inventory.cluster import Host


@dataclass(frozen=True)
class Jump:
    """A jump host. `user`, `port` None: ssh's default."""

    user: str | None
    host: str
    port: int | None = None

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{user}{host}" if self.port is None else f"{user}{host}:{self.port}"


@dataclass(frozen=True)
class SshOptions:
    """SSH options of one host. `proxy_command`: with %h, %n, %p and %r filled in; `jumps`: the nearest first."""

    proxy_command: str | None = None
    jumps: tuple[Jump, ...] = ()


_JUMP = re.compile(r"(?:ssh://)?(?:([^@/]+)@)?(\[[^\]]+\]|[^:@/\[\]]+)(?::([0-9]{1,5}))?/?")


def options_of(host: Host) -> SshOptions:
    """Parse the host's SSH options; of ssh_config, what these leave out. Raises UsageError for an unsupported one."""
    if host.is_local:
        return SshOptions()
    try:
        words = shlex.split(host.ssh_common_args)
    except ValueError as error:
        raise _refusal(host, str(error)) from None
    command, jumps = "", ""
    while words:
        word = words.pop(0)
        if word in ("-o", "-J") and words:
            word += words.pop(0)
        # ssh takes "Name=value", "Name value" and "Name = value".
        name, _, value = re.sub(r"\s*=\s*|\s+", "=", word[2:].strip(), count=1).partition("=")
        if word.startswith("-J"):
            jumps = word[2:]
        elif word.startswith("-o") and name.lower() == "proxycommand":
            command = value
        elif word.startswith("-o") and name.lower() == "proxyjump":
            jumps = value
        elif word != "-C" and not (word.startswith("-o") and name.lower() in _HARMLESS):
            raise _refusal(host, f"{word} is not supported")
    # Whichever of the two is given first, here or else in ssh_config, decides.
    if not command and not jumps and host.reach:
        command, jumps = host.reach.proxy_command or "", host.reach.proxy_jump or ""
    if command and command.lower() != "none":
        return SshOptions(proxy_command=_filled_in(command, host))
    parts = [part.strip() for part in jumps.split(",") if part.strip() and part.strip().lower() != "none"]
    return SshOptions(jumps=tuple(_jump(part, host) for part in parts))


def _jump(text: str, host: Host) -> Jump:
    found = _JUMP.fullmatch(text)
    if not found:
        raise _refusal(host, f"{text} is not a jump host ([user@]host[:port])")
    return Jump(found[1], found[2].strip("[]"), int(found[3]) if found[3] else None)


def _filled_in(command: str, host: Host) -> str:
    values = {"%h": host.address, "%n": host.destination, "%p": str(host.port), "%r": host.user or "", "%%": "%"}

    def one(found: re.Match[str]) -> str:
        if found[0] not in values:
            raise _refusal(host, f"{found[0]} in ProxyCommand is not supported")
        return values[found[0]]

    return re.sub(r"%.?", one, command)


def _refusal(host: Host, what: str) -> UsageError:
    return UsageError(
        f"ansible_ssh_common_args of {host.name}: {what}",
        next_step="supported: -o ProxyCommand=... (with %h, %n, %p and %r), -o ProxyJump=... and -J",
    )


# Options that are accepted and ignored: clusteradm does the same, or has options of its own.
_HARMLESS = {"controlmaster", "controlpersist", "controlpath", "connecttimeout", "connectionattempts", "batchmode"}
_HARMLESS |= {"stricthostkeychecking", "userknownhostsfile", "serveraliveinterval", "serveralivecountmax", "loglevel"}
_HARMLESS |= {"tcpkeepalive", "compression", "identitiesonly", "preferredauthentications", "passwordauthentication"}
