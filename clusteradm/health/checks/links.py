"""The private network as links: speed, the way to the head, and whether two machines answer for one address."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from clusteradm.health.finding import Finding, error, ok, warning
from clusteradm.health.reading import Reading
from clusteradm.inventory import Host

CHECK = "link"
# Through a switch a round trip takes well below a millisecond.
SLOW_MILLISECONDS = 10.0
CABLE = "the cable, the switch's port, and that both ends negotiate"


def speeds(host: Host, documents: Mapping[str, object]) -> list[int]:
    """The speeds (Mbit/s) of the links of all machines of this one's model, where the kernel knows them."""
    models = {name: Reading(document).part("system").text("model") for name, document in documents.items()}
    found = [_link(documents[name]).whole("speed") for name, model in models.items() if model == models[host.name]]
    return [speed for speed in found if speed is not None and speed > 0]


def judge(host: Host, link: Reading, alike: Collection[int]) -> Iterator[Finding]:
    """The host's link. `alike`: the speeds (Mbit/s) of all machines of its model, this one's included."""
    speed, head, interface = link.whole("speed"), link.part("head"), link.text("interface")
    loss, milliseconds = head.real("loss"), head.real("milliseconds")
    # What most have; of several that as many have, the fastest.
    usual = max(alike, key=lambda each: (list(alike).count(each), each), default=0)
    parts = [f"{speed} Mbit/s"] if speed is not None and speed > 0 else []
    parts += [] if milliseconds is None else [f"{milliseconds:g} ms to the head"]
    detail = ", ".join(parts)
    if loss == 1:
        yield error(host.name, CHECK, "NO_HEAD", "the head does not answer over the cluster's network", CABLE)
    elif loss is not None and loss > 0:
        yield warning(host.name, CHECK, "LOSSY", f"{loss:.0%} of the packets to the head are lost", CABLE)
    elif head.truth("whole") is False:
        cause = f"packets of {link.whole('mtu')} bytes do not arrive at the head in one piece"
        yield error(host.name, CHECK, "MTU", cause, "give every interface and the switch the same MTU", detail=detail)
    elif link.text("duplex") == "half":
        yield warning(host.name, CHECK, "HALF_DUPLEX", f"{interface} runs half duplex", CABLE, detail=detail)
    elif speed is not None and 0 < speed < usual:
        cause = f"{interface} runs at {speed} Mbit/s, others like it at {usual}"
        yield warning(host.name, CHECK, "SLOWER", cause, CABLE, detail=detail)
    elif milliseconds is not None and milliseconds > SLOW_MILLISECONDS:
        cause = f"an echo from the head takes {milliseconds:g} ms"
        yield warning(host.name, CHECK, "LATE", cause, f"{CABLE}; and what else is on that network")
    else:
        yield ok(host.name, CHECK, detail or "n/a")


def twins(hosts: Iterable[Host], documents: Mapping[str, object]) -> Iterator[Finding]:
    """Machines that stand for one another: the same MAC twice, or another machine that has a host's address.

    The finding is of the host whose MAC or address it is; the cause names who has it too.
    """
    chosen = list(hosts)
    macs = {host.name: mac.lower() for host in chosen if (mac := _link(documents.get(host.name)).text("mac"))}
    owners: dict[str, str] = {}
    for name, mac in macs.items():
        if mac in owners:
            cause = f"{owners[mac]} and {name} have the same MAC address {mac}: a switch takes the two for one"
            yield error(name, CHECK, "SAME_MAC", cause, "give one of them another: bootstrap says how")
        owners.setdefault(mac, name)
    for host in chosen:
        yield from [*_other_owners(host, chosen, documents), *_strangers(host, macs, owners, documents)][:1]


def _other_owners(host: Host, hosts: Iterable[Host], documents: Mapping[str, object]) -> Iterator[Finding]:
    """Hosts of the cluster that say themselves that they have this one's address."""
    for other in hosts:
        if other.name == host.name:
            continue
        for interface, about in Reading(documents.get(other.name)).part("network").named("interfaces").items():
            for address in about.texts("addresses") or ():
                if address.partition("/")[0] == host.cluster_ip:
                    cause = f"{other.name} has its address {host.cluster_ip}, too (on {interface})"
                    remedy = f"on {other.name}: ip address del {address} dev {interface}; and find what put it there"
                    yield error(host.name, CHECK, "SAME_ADDRESS", cause, remedy)


def _strangers(
    host: Host, macs: Mapping[str, str], owners: Mapping[str, str], documents: Mapping[str, object]
) -> Iterator[Finding]:
    """Machines that answer for the host's address, as the others' kernels have learnt it."""
    if host.name not in macs:
        return
    # On one wire Linux answers by any of its interfaces for any of its addresses.
    interfaces = Reading(documents[host.name]).part("network").named("interfaces").values()
    own = {macs[host.name], *((about.text("mac") or "").lower() for about in interfaces)}
    for seer in macs:
        seen = (_link(documents[seer]).part("neighbours").text(host.cluster_ip) or "").lower()
        if seer != host.name and seen and seen not in own:
            who = f"{owners[seen]} has" if seen in owners else "another machine has"
            cause = f"for {seer}, {host.cluster_ip} is at {seen}, not at its {macs[host.name]}: {who} its address"
            remedy = f"find it: the switch knows the port of {seen}; then give it another address"
            yield error(host.name, CHECK, "SAME_ADDRESS", cause, remedy)


def _link(document: object) -> Reading:
    return Reading(document).part("links")
