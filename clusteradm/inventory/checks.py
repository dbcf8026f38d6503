"""Checks of an inventory before any connection: its head, the addresses, and the value of every variable."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from clusteradm.errors import Problem, UsageError
from clusteradm.inventory.cluster import Place
from clusteradm.inventory.kinds import is_host_name
from clusteradm.inventory.ssh_options import options_of
from clusteradm.inventory.variables import CONNECTION, VARIABLES, complaint
from clusteradm.nearest import nearest

if TYPE_CHECKING:
    from clusteradm.inventory.cluster import Cluster, Host, Origin

_CHECKED = {**VARIABLES, **CONNECTION}
# Any two names that begin with cluster_ are similar.
_CLUSTER_CUTOFF = 0.6
# An unknown ansible_ variable is an error only if it is very similar to a known one: Ansible has many more.
_ANSIBLE_CUTOFF = 0.9


def check(cluster: Cluster, *, whole: bool) -> list[Problem]:
    """Every defect of the inventory. `whole`: reading found no error, so that what is not there is missing."""
    problems = set(_values(cluster))
    if whole:
        problems |= set(_roles(cluster)) | set(_missing(cluster))
    for host in cluster.hosts.values():
        problems |= set(_host(host, cluster))
    problems |= set(_twice(cluster)) | set(_local(cluster)) | set(_same_everywhere(cluster))
    return sorted(problems)


def _at(host: Host, name: str, message: str) -> Problem:
    """A problem at the line of a host's variable, or at the host's own line if the variable is not set."""
    origin = host.origins.get(name)
    return Problem(origin.file, origin.line, message) if origin else Problem(*host.place, message)


def _roles(cluster: Cluster) -> Iterator[Problem]:
    nowhere = Place(str(cluster.path), 1)
    heads = [cluster.hosts[name] for name in cluster.members("head")]
    group = cluster.groups.get("head")
    if not heads:
        yield Problem(*(group.place if group else nowhere), "no head: one host must be in the group `head`")
    elif len(heads) > 1:
        names = ", ".join(host.name for host in heads)
        yield Problem(*heads[1].place, f"{len(heads)} heads: {names}; the group `head` has one host")
    compute = cluster.groups.get("compute")
    if heads and not cluster.members("compute") and cluster.setting("cluster_head_computes", heads[0]) is False:
        message = "no host computes: the group `compute` is empty and the head does not compute"
        yield Problem(*(compute.place if compute else nowhere), message)
    if len(heads) == 1 and "compute" in heads[0].groups:
        message = (
            f"{heads[0].name} is the head and in the group `compute`, where it would mount its own export; "
            "take it out: cluster_head_computes says whether the head computes (it does unless that is false)"
        )
        yield Problem(*_place_in(cluster, "compute", heads[0]), message)
    for host in cluster.hosts.values():
        if not {"head", "compute"} & set(host.groups):
            yield Problem(*host.place, f"{host.name} is neither in the group `head` nor in `compute`")


def _place_in(cluster: Cluster, group: str, host: Host) -> Place:
    """The place that puts a host into a group, directly or through a group in it."""
    inside = [group]
    for name in inside:
        inside += [child for child in cluster.groups[name].children if child not in inside]
        if host.name in cluster.groups[name].places:
            return cluster.groups[name].places[host.name]
    return host.place


def _values(cluster: Cluster) -> Iterator[Problem]:
    """Unknown names and wrong values, also in groups without hosts."""
    for group in cluster.groups.values():
        yield from _variables(group.vars, group.origins)
    for host in cluster.hosts.values():
        yield from _variables(host.vars, host.origins)


def _variables(values: Mapping[str, Any], origins: Mapping[str, Origin]) -> Iterator[Problem]:
    for name, value in values.items():
        message = None
        if name in _CHECKED:
            message = complaint(_CHECKED[name], value)
        elif name.startswith("cluster_"):
            message = f"unknown variable {name}{nearest(name, VARIABLES, _CLUSTER_CUTOFF)}"
        elif name.startswith("ansible_"):
            near = nearest(name, CONNECTION, _ANSIBLE_CUTOFF)
            message = f"unknown variable {name}{near}" if near else None
        if message:
            yield Problem(origins[name].file, origins[name].line, message)


def _missing(cluster: Cluster) -> Iterator[Problem]:
    for host in cluster.hosts.values():
        for variable in VARIABLES.values():
            if not variable.optional and variable.name not in host.vars:
                message = f"{host.name} has no {variable.name}: {variable.meaning}"
                yield Problem(*host.place, message)


def _host(host: Host, cluster: Cluster) -> Iterator[Problem]:
    """Defects of one host's name, and of its values together."""
    if not is_host_name(host.name):
        message = f"{host.name} cannot be a machine's name (letters, digits, hyphens), which bootstrap sets to it"
        yield Problem(*host.place, message)
    if _valid(host, "cluster_ip") and _valid(host, "cluster_subnet"):
        address = ipaddress.IPv4Address(host.cluster_ip)
        subnet = ipaddress.IPv4Network(str(host.vars["cluster_subnet"]))
        if address not in subnet:
            message = f"cluster_ip {address} of {host.name} is not in cluster_subnet {subnet}"
            yield _at(host, "cluster_ip", message)
        elif address in (subnet.network_address, subnet.broadcast_address):
            message = f"cluster_ip {address} of {host.name} is the network or broadcast address of {subnet}"
            yield _at(host, "cluster_ip", message)
    user = cluster.setting("cluster_user", host)
    if user == host.user:
        message = (
            f"cluster_user {user} is the login user of {host.name}, who may use sudo there; "
            "ranks run as a user without rights"
        )
        yield _at(host, "cluster_user", message)
    if all(_valid(host, name) for name in CONNECTION if name in host.vars):
        try:
            options_of(host)
        except UsageError as error:
            yield _at(host, "ansible_ssh_common_args", f"{error.what}; {error.next_step}")


def _valid(host: Host, name: str) -> bool:
    return name in host.vars and complaint(_CHECKED[name], host.vars[name]) is None


def _twice(cluster: Cluster) -> Iterator[Problem]:
    reached: dict[tuple[str, int], Host] = {}
    private: dict[str, Host] = {}
    for host in cluster.hosts.values():
        if _valid(host, "cluster_ip"):
            other = private.setdefault(host.cluster_ip, host)
            if other is not host:
                message = f"cluster_ip {host.cluster_ip} of {host.name} is already that of {other.name}"
                yield _at(host, "cluster_ip", message)
        if all(_valid(host, name) for name in ("ansible_host", "ansible_port") if name in host.vars):
            # Hosts behind one address may differ in their port.
            other = reached.setdefault((host.address, host.port), host)
            if other is not host:
                what = "ansible_host" if host.port == other.port == 22 else f"port {host.port} of ansible_host"
                message = f"{what} {host.address} of {host.name} is already that of {other.name}"
                yield _at(host, "ansible_host", message)


def _local(cluster: Cluster) -> Iterator[Problem]:
    hosts = [host for host in cluster.hosts.values() if host.is_local]
    for host in hosts[1:]:
        message = f"{host.name} and {hosts[0].name} are both this machine: one host has ansible_connection: local"
        yield _at(host, "ansible_connection", message)


def _same_everywhere(cluster: Cluster) -> Iterator[Problem]:
    for variable in VARIABLES.values():
        if variable.scope == "host":
            continue
        values: dict[str, Host] = {}
        for host in cluster.hosts.values():
            # If it is not set it has its default; a missing mandatory one is reported by _missing.
            if variable.optional or variable.name in host.vars:
                values.setdefault(repr(cluster.setting(variable.name, host)), host)
        if len(values) > 1:
            host = next(one for one in reversed(values.values()) if variable.name in one.vars)
            message = f"{variable.name} must be the same on every host; set it once under all: vars:"
            yield _at(host, variable.name, message)
