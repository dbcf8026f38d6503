"""Private network of a host: its interface, its address, and the addresses that the hosts' names resolve to."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping

from clusteradm.health.finding import BOOTSTRAP, Finding, error, ok
from clusteradm.health.reading import Reading
from clusteradm.inventory import Cluster, Host

CHECK = "network"


def judge(cluster: Cluster, host: Host, network: Reading) -> Iterator[Finding]:
    """One finding."""
    name, prefix = host.cluster_interface, ipaddress.ip_network(cluster.setting("cluster_subnet")).prefixlen
    wanted = f"{host.cluster_ip}/{prefix}"
    interfaces = network.parts_by_name("interfaces")
    interface = interfaces.get(name)
    if interface is None:
        cause = f"there is no interface {name} (there are: {', '.join(interfaces)})"
        yield error(host.name, CHECK, "NO_INTERFACE", cause, "correct cluster_interface in the inventory")
    elif interface.text("state") == "down":
        # Checked before the address, which NetworkManager and networkd remove some seconds after the carrier is lost.
        yield error(host.name, CHECK, "DOWN", f"{name} has no carrier", "check the cable and the switch")
    elif wanted not in (has := interface.texts("addresses") or ()):
        cause = f"{name} has {', '.join(has) or 'no address'}, not {wanted}"
        yield error(host.name, CHECK, "NO_ADDRESS", cause, BOOTSTRAP)
    elif other := _overlap(cluster, host, network, interfaces):
        subnet = cluster.setting("cluster_subnet")
        cause = f"{other} is in cluster_subnet ({subnet}), too: what is for the other hosts goes out there"
        remedy = f"take that address off {other.split()[0]}; or choose another cluster_subnet, and {BOOTSTRAP}"
        yield error(host.name, CHECK, "OVERLAP", cause, remedy, detail=f"{name} {wanted}")
    else:
        yield _names(cluster, host, network.part("resolved"), f"{name} {wanted}")


def _overlap(cluster: Cluster, host: Host, network: Reading, interfaces: Mapping[str, Reading]) -> str:
    """Another interface with a network within the cluster's, as "usb0 10.0.0.7/24"; the rule is prepare.yml's.

    An interface with a way out may be the one by which the admin reaches the host.
    """
    subnet = ipaddress.ip_network(cluster.setting("cluster_subnet"))
    onward = network.texts("onward")
    if onward is None:  # surveys of earlier versions
        return ""
    for name, about in interfaces.items():
        for address in about.texts("addresses") or ():
            try:
                inside = ipaddress.IPv4Interface(address).network
            except ValueError:
                continue
            within = inside.prefixlen >= subnet.prefixlen and inside.network_address in subnet
            if within and name not in (host.cluster_interface, *onward):
                return f"{name} {address}"
    return ""


def _names(cluster: Cluster, host: Host, resolved: Reading, detail: str) -> Finding:
    for name, member in cluster.hosts.items():
        found = resolved.texts(name)
        if found is not None and found != (member.cluster_ip,):
            cause = f"the name {name} resolves to {', '.join(found) or 'nothing'}, not to {member.cluster_ip}"
            return error(host.name, CHECK, "NAMES", cause, BOOTSTRAP, detail=detail)
    return ok(host.name, CHECK, detail)
