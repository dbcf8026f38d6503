"""What must hold of an inventory before any connection: head, addresses, and every `cluster_` variable."""

from __future__ import annotations

import difflib
import ipaddress
from typing import TYPE_CHECKING

from clusteradm.errors import Problem
from clusteradm.inventory.variables import VARIABLES, complaint

if TYPE_CHECKING:
    from clusteradm.inventory.cluster import Cluster, Host


def check(cluster: Cluster) -> list[Problem]:
    """Every defect of the cluster that the file describes."""
    problems = _roles(cluster)
    for host in cluster.hosts.values():
        problems += _variables(host, cluster)
    problems += _twice(cluster, "cluster_ip")
    problems += _twice(cluster, "ansible_host")
    problems += _same_everywhere(cluster)
    return problems


def _place(host: Host, name: str, cluster: Cluster) -> tuple[str, int]:
    origin = host.origins.get(name)
    return (origin.file, origin.line) if origin else (str(cluster.path), 0)


def _roles(cluster: Cluster) -> list[Problem]:
    file = str(cluster.path)
    heads = cluster.members("head")
    problems = []
    if not heads:
        problems.append(Problem(file, 0, "no head: one host must be in the group `head`"))
    elif len(heads) > 1:
        problems.append(Problem(file, 0, f"{len(heads)} heads: {', '.join(heads)}; the group `head` has one host"))
    if not cluster.members("compute") and not (heads and cluster.setting("cluster_head_computes")):
        problems.append(Problem(file, 0, "nobody computes: the group `compute` is empty and the head does not compute"))
    for host in cluster.hosts.values():
        if not {"head", "compute"} & set(host.groups):
            problems.append(Problem(file, 0, f"{host.name} is neither in the group `head` nor in `compute`"))
    return problems


def _variables(host: Host, cluster: Cluster) -> list[Problem]:
    problems = []
    for name, value in host.vars.items():
        if not name.startswith("cluster_"):
            continue
        if name not in VARIABLES:
            near = difflib.get_close_matches(name, VARIABLES, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.append(Problem(*_place(host, name, cluster), f"unknown variable {name}{hint}"))
            continue
        wrong = complaint(VARIABLES[name], value)
        if wrong:
            problems.append(Problem(*_place(host, name, cluster), wrong))
    for variable in VARIABLES.values():
        if not variable.optional and variable.name not in host.vars:
            problems.append(Problem(str(cluster.path), 0, f"{host.name} has no {variable.name}: {variable.meaning}"))
    if not problems and "cluster_ip" in host.vars and "cluster_subnet" in host.vars:
        subnet = ipaddress.ip_network(str(host.vars["cluster_subnet"]), strict=False)
        if ipaddress.ip_address(host.cluster_ip) not in subnet:
            message = f"cluster_ip {host.cluster_ip} of {host.name} is not in cluster_subnet {subnet}"
            problems.append(Problem(*_place(host, "cluster_ip", cluster), message))
    return problems


def _twice(cluster: Cluster, name: str) -> list[Problem]:
    owners: dict[tuple[str, int], Host] = {}
    problems = []
    for host in cluster.hosts.values():
        if name not in host.vars:
            continue
        # Behind one address, hosts may be told apart by their port.
        key = (str(host.vars[name]), host.port if name == "ansible_host" else 0)
        if key in owners:
            message = f"{name} {key[0]} of {host.name} is already that of {owners[key].name}"
            problems.append(Problem(*_place(host, name, cluster), message))
        owners.setdefault(key, host)
    return problems


def _same_everywhere(cluster: Cluster) -> list[Problem]:
    problems = []
    for variable in VARIABLES.values():
        if variable.scope == "host":
            continue
        values = {repr(host.vars.get(variable.name)): host for host in cluster.hosts.values()}
        if len(values) > 1:
            host = list(values.values())[-1]
            message = f"{variable.name} must be the same on every host; set it once under all: vars:"
            problems.append(Problem(*_place(host, variable.name, cluster), message))
    return problems
