"""What `ansible_ssh_common_args` says that Fabric must be told: a proxy command, or hosts to jump over."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from clusteradm.errors import UsageError
from clusteradm.inventory import Host


@dataclass(frozen=True)
class SshOptions:
    """`proxy_command`: with %h, %p and %r already filled in. `jumps`: [user@]host[:port], the nearest first."""

    proxy_command: str | None = None
    jumps: tuple[str, ...] = ()


def options_of(host: Host) -> SshOptions:
    """Read the host's ssh options. Raises UsageError for one that clusteradm would silently not obey."""
    try:
        words = shlex.split(host.ssh_common_args)
    except ValueError as error:
        raise UsageError(f"ansible_ssh_common_args of {host.name}: {error}") from None
    command, jumps = None, ""
    while words:
        word = words.pop(0)
        if word in ("-o", "-J") and words:
            word += words.pop(0)
        name, _, value = word[2:].partition("=")
        if word.startswith("-J"):
            jumps = word[2:]
        elif word.startswith("-o") and name.lower() == "proxycommand":
            command = value
        elif word.startswith("-o") and name.lower() == "proxyjump":
            jumps = value
        elif not (word.startswith("-o") and name.lower() in _HARMLESS):
            raise UsageError(
                f"ansible_ssh_common_args of {host.name}: {word} is not supported",
                next_step="supported: -o ProxyCommand=..., -o ProxyJump=... and -J",
            )
    if command and command.lower() != "none":
        for sign, text in (("%h", host.address), ("%p", str(host.port)), ("%r", host.user or ""), ("%%", "%")):
            command = command.replace(sign, text)
        return SshOptions(proxy_command=command)
    return SshOptions(jumps=tuple(part for part in jumps.split(",") if part and part.lower() != "none"))


# What ssh is often told here and clusteradm does anyway, or in a way of its own.
_HARMLESS = {"controlmaster", "controlpersist", "controlpath", "connecttimeout", "batchmode", "stricthostkeychecking"}
_HARMLESS |= {"userknownhostsfile", "serveraliveinterval", "serveralivecountmax", "compression", "loglevel"}
