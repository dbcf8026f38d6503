"""Cluster, Group and Host: the data of an inventory, merged by Ansible's precedence, not rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from clusteradm.errors import UsageError
from clusteradm.inventory import patterns
from clusteradm.inventory.ranges import fold
from clusteradm.inventory.variables import SUDO_PASSWORDS, VARIABLES
from clusteradm.nearest import nearest


@dataclass(frozen=True)
class Origin:
    """Source of a value. `scope`: "all", "group NAME" or "host NAME"; `line` counts from 1."""

    file: str
    line: int
    scope: str


class Place(NamedTuple):
    """A place in a file of the inventory. `line` counts from 1; 0: none."""

    file: str
    line: int


NOWHERE = Place("", 0)


@dataclass(frozen=True)
class Group:
    """A group: direct members and children, and its own variables.

    `place`: its first occurrence; `places`: each host's first occurrence in it.
    """

    name: str
    hosts: tuple[str, ...]
    children: tuple[str, ...]
    vars: Mapping[str, Any]
    origins: Mapping[str, Origin] = field(default_factory=dict)
    place: Place = NOWHERE
    places: Mapping[str, Place] = field(default_factory=dict)


@dataclass(frozen=True)
class Reach:
    """What the admin's ssh_config says of a host; the inventory comes before it. None: nothing.

    `key_files`: those that there are; `agent`: whether the agent's keys are offered besides. `proxy_jump`: as ssh's.
    """

    address: str | None = None
    port: int | None = None
    user: str | None = None
    key_files: tuple[str, ...] = ()
    agent: bool = True
    proxy_command: str | None = None
    proxy_jump: str | None = None


@dataclass(frozen=True)
class Host:
    """One machine. `groups`: all its groups but "all"; `vars`: merged, not rendered; `place`: its first mention.

    `reach`: what the inventory leaves to ssh_config (transport/ssh_config.py); None: not looked up.
    """

    name: str
    groups: tuple[str, ...]
    vars: Mapping[str, Any]
    origins: Mapping[str, Origin]
    place: Place = NOWHERE
    reach: Reach | None = None

    @property
    def is_local(self) -> bool:
        """Whether it is the machine that clusteradm runs on, which needs no SSH."""
        return self.vars.get("ansible_connection") == "local"

    @property
    def destination(self) -> str:
        """The name that the inventory gives to ssh: an address, or an alias of ssh_config."""
        return str(self.vars.get("ansible_host", self.name))

    @property
    def address(self) -> str:
        """Address or name at which the admin machine reaches the host."""
        return (self.reach and self.reach.address) or self.destination

    @property
    def port(self) -> int:
        return int(self.vars.get("ansible_port") or (self.reach and self.reach.port) or 22)

    @property
    def user(self) -> str | None:
        """The login name; None: ssh's default."""
        user = self.vars.get("ansible_user", self.reach and self.reach.user)
        return None if user is None else str(user)

    @property
    def python(self) -> str:
        """The host's Python; "python3" from the PATH where Ansible would search for one (`auto`)."""
        python = str(self.vars.get("ansible_python_interpreter", "python3"))
        return "python3" if python.startswith("auto") else python

    @property
    def key_file(self) -> str | None:
        """The private key that the inventory names; else the first of ssh_config."""
        path = self.vars.get("ansible_ssh_private_key_file")
        if path is None:
            return self.reach.key_files[0] if self.reach and self.reach.key_files else None
        return str(Path(str(path)).expanduser())

    @property
    def sudo_password(self) -> str | None:
        """sudo's password from the inventory; None if it has none."""
        return next((str(self.vars[name]) for name in reversed(SUDO_PASSWORDS) if name in self.vars), None)

    @property
    def ssh_common_args(self) -> str:
        return str(self.vars.get("ansible_ssh_common_args", ""))

    @property
    def cluster_ip(self) -> str:
        return str(self.vars["cluster_ip"])

    @property
    def cluster_interface(self) -> str:
        return str(self.vars["cluster_interface"])

    @property
    def is_head(self) -> bool:
        return "head" in self.groups


@dataclass(frozen=True)
class Cluster:
    """A whole inventory: one head and its compute nodes. `path`: its file, or its folder."""

    path: Path
    groups: Mapping[str, Group]
    hosts: Mapping[str, Host]

    def host(self, name: str) -> Host:
        """The host of that name. Raises UsageError with the most similar name and all hosts that there are."""
        if name not in self.hosts:
            raise UsageError(
                f"no such host: {name}{nearest(name, self.hosts, 0.6)}",
                next_step=f"hosts: {' '.join(fold(self.hosts))}",
            )
        return self.hosts[name]

    @property
    def known_hosts(self) -> Path:
        """Default file of the hosts' keys: beside the inventory, as Ansible reads every file in a folder."""
        return self.named_path.parent / "known_hosts"

    @property
    def package_lock(self) -> Path:
        """The packages that were accepted for the cluster (fetch/lock.py): beside the inventory, as the host keys."""
        return self.named_path.parent / "clusteradm.lock"

    @property
    def named_path(self) -> Path:
        """The path with a name of its own: `.` and `..` are resolved, so that what is beside it is not within it."""
        return self.path if self.path.name not in ("", "..") else self.path.resolve()

    @property
    def head(self) -> Host:
        return next(host for host in self.hosts.values() if host.is_head)

    @property
    def compute(self) -> tuple[Host, ...]:
        return tuple(host for host in self.hosts.values() if "compute" in host.groups)

    @property
    def workers(self) -> tuple[Host, ...]:
        """The hosts that run ranks: the head if it computes, then the compute nodes."""
        head = (self.head,) if self.setting("cluster_head_computes") else ()
        return head + tuple(host for host in self.compute if not host.is_head)

    def members(self, group: str) -> tuple[str, ...]:
        """The names of the hosts of a group and of its descendants, in file order."""
        return tuple(name for name, host in self.hosts.items() if group == "all" or group in host.groups)

    def select(self, pattern: str) -> tuple[Host, ...]:
        """The hosts that match an Ansible pattern, in file order. Raises UsageError if a part of it matches nothing."""
        # Every cluster has `head` and `compute`: a single board has an empty `compute`, also if it is not written.
        names = {**dict.fromkeys(self.groups), "all": None, "head": None, "compute": None}
        groups = {name: self.members(name) for name in names}
        return tuple(self.hosts[name] for name in patterns.select(pattern, self.hosts, groups))

    def setting(self, name: str, host: Host | None = None) -> Any:
        """The value of a `cluster_` variable for a host (default: the head), or the variable's default."""
        if name not in VARIABLES:
            raise UsageError(f"no such variable: {name}{nearest(name, VARIABLES)}")
        return (host or self.head).vars.get(name, VARIABLES[name].default)
