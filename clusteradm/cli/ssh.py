"""Log in to a host by ssh, or run a command there, as the inventory says: address, port, user, key, jump hosts and
known host keys. A host whose key is not known is refused.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from clusteradm.cli import context
from clusteradm.errors import UsageError
from clusteradm.inventory import Host
from clusteradm.transport.known_hosts import KnownHosts
from clusteradm.transport.ssh_config import with_config

EXAMPLES = """\
examples:
  clusteradm ssh coral-3
  clusteradm ssh coral-3 -- journalctl -k --since -1h
  clusteradm ssh -t coral-3 -- sudo nano /etc/hosts

exit status: ssh's own
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `clusteradm ssh`."""
    parser.add_argument("host", metavar="HOST", help="a host of the inventory")
    parser.add_argument("words", nargs="*", default=[], metavar="COMMAND", help="a command; after -- if it has options")
    parser.add_argument("-t", "--tty", action="store_true", help="give the command a terminal")
    group = parser.add_argument_group("connection")
    context.add_inventory_argument(group)
    group.add_argument("--known-hosts", metavar="FILE", help="host keys (default: known_hosts beside the inventory)")


def run(args: argparse.Namespace) -> int:
    """Become ssh. Raises UsageError."""
    cluster = context.open_cluster(args)
    host = cluster.host(args.host)
    words = shell(args.words) if host.is_local else None
    if words is None:
        known = Path(args.known_hosts) if args.known_hosts else cluster.known_hosts
        reached = with_config(host)
        if not KnownHosts(known).of(reached.address, reached.port):
            raise UsageError(
                "its host key is not known",
                where=host.name,
                next_step=f"look at it, and accept it: clusteradm enroll --limit {host.name}",
            )
        words = ssh(host, known, args.words, tty=args.tty)
    try:
        os.execvp(words[0], words)  # noqa: S606 - its words are the inventory's and the person's, for no shell
    except OSError as error:
        raise UsageError(
            f"{words[0]} cannot be run: {error.strerror}", next_step="apt-get install openssh-client"
        ) from None


def ssh(host: Host, known_hosts: Path, command: Sequence[str] = (), *, tty: bool = False) -> list[str]:
    """The words of an ssh command to the host. ssh reads ssh_config itself."""
    # Quoted for ssh, where % begins a token.
    path = str(known_hosts.absolute()).replace("%", "%%")
    words = ["ssh", "-o", f'UserKnownHostsFile="{path}"', "-o", "StrictHostKeyChecking=yes"]
    if "ansible_port" in host.vars:
        words += ["-p", str(host.port)]
    if "ansible_user" in host.vars:
        words += ["-l", str(host.user)]
    if host.key_file:
        words += ["-i", host.key_file]
    words += shlex.split(host.ssh_common_args)
    words += ["-t"] if tty else []
    return [*words, "--", host.destination, *command]


def shell(command: Sequence[str]) -> list[str]:
    """The words of a shell on this machine, which is the host."""
    user_shell = os.environ.get("SHELL") or "/bin/sh"
    return [user_shell, "-c", " ".join(command)] if command else [user_shell, "-l"]
