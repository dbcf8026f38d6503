"""The private network as links: speed, the way to the head, and whether two machines answer for one address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from clusteradm.health.finding import Finding, doubtful, ill, well
from clusteradm.inventory import Host

CHECK = "link"
# Through a switch a round trip takes well below a millisecond.
SLOW_MILLISECONDS = 10.0
CABLE = "the cable, the switch's port, and that both ends negotiate"


def speeds(documents: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Host -> the speed of its link in Mbit/s, where the kernel knows it."""
    found = {name: document.get("links", {}).get("speed") for name, document in documents.items()}
    return {name: speed for name, speed in found.items() if isinstance(speed, int) and speed > 0}


def judge(host: Host, link: Mapping[str, Any], others: Mapping[str, int]) -> Iterator[Finding]:
    """The host's link. `others`: the speed (Mbit/s) of each host's, this one's included."""
    speed, head = link["speed"], link["head"]
    fastest = max(others.values(), default=0)
    detail = _detail(speed, head)
    if head is not None and (head["loss"] is None or head["loss"] == 1):
        yield ill(host.name, CHECK, "NO_HEAD", "the head does not answer over the cluster's network", CABLE)
    elif head is not None and head["loss"] > 0:
        yield doubtful(host.name, CHECK, "LOSSY", f"{head['loss']:.0%} of the packets to the head are lost", CABLE)
    elif head is not None and head["whole"] is False:
        cause = f"packets of {link['mtu']} bytes do not arrive at the head in one piece"
        yield ill(host.name, CHECK, "MTU", cause, "give every interface and the switch the same MTU", detail=detail)
    elif link["duplex"] == "half":
        yield doubtful(host.name, CHECK, "HALF_DUPLEX", f"{link['interface']} runs half duplex", CABLE, detail=detail)
    elif speed is not None and 0 < speed < fastest:
        cause = f"{link['interface']} runs at {speed} Mbit/s, others at {fastest}"
        yield doubtful(host.name, CHECK, "SLOWER", cause, CABLE, detail=detail)
    elif head is not None and (head["milliseconds"] or 0) > SLOW_MILLISECONDS:
        cause = f"an echo from the head takes {head['milliseconds']} ms"
        yield doubtful(host.name, CHECK, "LATE", cause, f"{CABLE}; and what else is on that network")
    else:
        yield well(host.name, CHECK, detail or "n/a")


def _detail(speed: int | None, head: Mapping[str, Any] | None) -> str:
    parts = [f"{speed} Mbit/s"] if speed is not None and speed > 0 else []
    if head is not None and head["milliseconds"] is not None:
        parts.append(f"{head['milliseconds']} ms to the head")
    return ", ".join(parts)


def twins(hosts: Iterable[Host], documents: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Machines that stand for one another: the same MAC twice, or a stranger that answers for a host's address."""
    links = {host.name: documents[host.name]["links"] for host in hosts if _has_link(documents.get(host.name))}
    owners: dict[str, str] = {}
    for name, link in links.items():
        mac = str(link["mac"]).lower()
        if mac in owners:
            cause = f"{owners[mac]} and {name} have the same MAC address {mac}: a switch takes the two for one"
            yield ill(name, CHECK, "SAME_MAC", cause, "give one of them another: bootstrap says how")
        owners.setdefault(mac, name)
    for host in hosts:
        if host.name not in links:
            continue
        own = str(links[host.name]["mac"]).lower()
        for seer, link in links.items():
            seen = link["neighbours"].get(host.cluster_ip)
            if seer != host.name and seen and seen != own:
                cause = f"for {seer}, {host.cluster_ip} is at {seen}, not at its {own}: another machine has its address"
                remedy = f"find it: the switch knows the port of {seen}; then give it another address"
                yield ill(host.name, CHECK, "SAME_ADDRESS", cause, remedy)
                break


def _has_link(document: Mapping[str, Any] | None) -> bool:
    return document is not None and "error" not in document.get("links", {"error": ""})
