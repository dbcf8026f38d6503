"""A new inventory as text: what was asked for, with comments that say what each value is."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from clusteradm.errors import UsageError
from clusteradm.inventory.kinds import is_host_name
from clusteradm.inventory.ranges import expand

LOCAL = "local"
_MOST_HOSTS = 250


@dataclass(frozen=True)
class NewHost:
    """A host to write. `address`: where the admin reaches it; LOCAL: it is this machine."""

    name: str
    address: str


@dataclass(frozen=True)
class Kind:
    """A kind of machines: the defaults of its questions. `prefix`: of the hosts' names."""

    prefix: str
    user: str | None
    interface: str
    tpus: int
    about: str


KINDS = {
    "dev-board": Kind("coral", "mendel", "eth0", 1, "Coral Dev Boards (Mendel Linux)"),
    "pc": Kind("pc", None, "enp2s0", 8, "PCs (Debian) with Edge TPU modules on PCIe"),
}


@dataclass(frozen=True)
class Skeleton:
    """The answers that make an inventory. `user` None: ssh's default; `key`: the private key, None: not named."""

    head: NewHost
    compute: Sequence[NewHost] = field(default_factory=tuple)
    cluster: str = "cluster"
    user: str | None = None
    key: str | None = None
    subnet: str = "10.20.0.0/24"
    interface: str = "eth0"
    tpus: int = 1

    def text(self) -> str:
        """The file. Raises UsageError where the subnet has no room for the hosts."""
        network = ipaddress.IPv4Network(self.subnet)
        free = (str(address) for address in network.hosts())
        hosts = [self.head, *self.compute]
        # A host that is reached in the private network itself keeps the address that it has there.
        taken = {host.address for host in hosts if _is_in(host.address, network)}
        lines = {}
        for host in hosts:
            address = host.address if host.address in taken else next((one for one in free if one not in taken), None)
            if address is None:
                raise UsageError(
                    f"{self.subnet} has no room for {len(hosts)} hosts", next_step="name a larger --subnet"
                )
            where = {"ansible_connection": LOCAL} if host.address == LOCAL else {"ansible_host": host.address}
            lines[host.name] = f"        {_yaml(host.name)}: {_yaml({**where, 'cluster_ip': address})}"
        return _TEXT.format(
            cluster=_yaml(self.cluster),
            user=f"ansible_user: {_yaml(self.user)}" if self.user else "# ansible_user: mendel",
            key=f"ansible_ssh_private_key_file: {_yaml(self.key)}"
            if self.key
            else "# ansible_ssh_private_key_file: ~/.ssh/clusteradm",
            subnet=self.subnet,
            interface=_yaml(self.interface),
            tpus=self.tpus,
            head=lines.pop(self.head.name),
            compute="\n".join(["hosts:", *lines.values()]) if lines else "hosts: {}",
        )


def hosts(words: Sequence[str], prefix: str, first: int) -> list[NewHost]:
    """The hosts that words stand for: [NAME=]ADDRESS each, ranges in them. Unnamed ones are PREFIX-0, PREFIX-1, ...;
    this machine keeps its name.

    `first`: the number of the first of these. Raises UsageError.
    """
    found: list[NewHost] = []
    for word in words:
        name, _, address = word.rpartition("=")
        try:
            names, addresses = list(expand(name)) if name else [], list(expand(address))
        except ValueError as error:
            raise UsageError(f"{word}: {error}") from None
        if len(found) + len(addresses) > _MOST_HOSTS:
            raise UsageError(f"more than {_MOST_HOSTS} hosts")
        if not names and addresses == [LOCAL]:
            names = _own_name()
        names = names or [f"{prefix}-{first + len(found) + number}" for number in range(len(addresses))]
        if len(names) != len(addresses):
            raise UsageError(f"{word}: {len(names)} names for {len(addresses)} addresses")
        found += [NewHost(*pair) for pair in zip(names, addresses, strict=True)]
    return found


def _own_name() -> list[str]:
    """This machine's name, as bootstrap would give it another; none where that cannot be a host's name."""
    name = socket.gethostname().split(".")[0]
    return [name] if is_host_name(name) and name != "localhost" else []


def _is_in(address: str, network: ipaddress.IPv4Network) -> bool:
    try:
        return ipaddress.IPv4Address(address) in network
    except ValueError:
        return False


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000)
    return text.removesuffix("...\n").strip()


_TEXT = """\
# Inventory of clusteradm, in Ansible's format. Written by `clusteradm inventory init`; edit it as you like.
# Every variable, its default and its meaning: docs/variables.md. What is wrong in it: clusteradm inventory --list
all:
  vars:
    cluster_name: {cluster}
    # The user that you log in as, with sudo. Without it, ssh decides.
    {user}
    # Your private key. `clusteradm enroll` puts its public half on the hosts.
    {key}
    # The private network, which bootstrap sets up: MPI and NFS run in it.
    cluster_subnet: {subnet}
    # Its interface on each host; write it at a host where it differs.
    cluster_interface: {interface}
    # Edge TPUs of each host; `clusteradm health` misses one that is not there. 0 for a host without any.
    cluster_tpus: {tpus}
  children:
    # The name of a host becomes its host name: bootstrap sets it.
    # ansible_host: where you reach the host; an alias of ssh_config will do. cluster_ip: its address in the private
    # network. The head exports the shared file system and starts the jobs; its own TPUs compute too
    # (cluster_head_computes: false if not).
    head:
      hosts:
{head}
    compute:
      {compute}
"""
