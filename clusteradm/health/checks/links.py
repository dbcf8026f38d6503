"""Links of the private network: speed, path to the head, and addresses that two machines have."""

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
    """Link speeds (Mbit/s) of all machines of this one's model, itself included, as far as the kernel knows them."""
    models = {name: Reading(document).part("system").text("model") for name, document in documents.items()}
    found = [_link(documents[name]).integer("speed") for name, model in models.items() if model == models[host.name]]
    return [speed for speed in found if speed is not None and speed > 0]


def judge(host: Host, link: Reading, alike: Collection[int], busy: str = "") -> Iterator[Finding]:
    """One finding. `alike`: the result of `speeds`; `busy`: how busy the host is, in words, if it is."""
    speed, head, interface = link.integer("speed"), link.part("head"), link.text("interface")
    loss, milliseconds = head.number("loss"), head.number("milliseconds")
    # The most frequent speed; the fastest one of equally frequent ones.
    usual = max(alike, key=lambda each: (list(alike).count(each), each), default=0)
    parts = [f"{speed} Mbit/s"] if speed is not None and speed > 0 else []
    parts += [] if milliseconds is None else [f"{milliseconds:g} ms to the head"]
    detail = ", ".join(parts)
    if loss == 1:
        yield error(host.name, CHECK, "NO_HEAD", "the head does not answer over the cluster's network", CABLE)
    elif loss is not None and loss > 0:
        yield warning(host.name, CHECK, "LOSSY", f"{loss:.0%} of the packets to the head are lost", CABLE)
    elif head.boolean("whole") is False:
        cause = f"packets of {link.integer('mtu')} bytes do not arrive at the head in one piece"
        yield error(host.name, CHECK, "MTU", cause, "give every interface and the switch the same MTU", detail=detail)
    elif link.text("duplex") == "half":
        yield warning(host.name, CHECK, "HALF_DUPLEX", f"{interface} runs half duplex", CABLE, detail=detail)
    elif speed is not None and 0 < speed < usual:
        cause = f"{interface} runs at {speed} Mbit/s, others like it at {usual}"
        yield warning(host.name, CHECK, "SLOWER", cause, CABLE, detail=detail)
    elif milliseconds is not None and milliseconds > SLOW_MILLISECONDS:
        cause = f"an echo from the head takes {milliseconds:g} ms"
        if busy:
            remedy = "wait, and ask again; top on the host says what keeps it busy"
            yield warning(host.name, CHECK, "BUSY", f"{cause}, while the host is busy ({busy})", remedy)
            return
        yield warning(host.name, CHECK, "LATE", cause, f"{CABLE}; and what else is on that network")
    else:
        yield ok(host.name, CHECK, detail or "n/a")


def twins(hosts: Iterable[Host], documents: Mapping[str, object]) -> Iterator[Finding]:
    """One finding for each MAC address and each host's address that a second machine has.

    Its subject is the host whose address it is; the cause names the other machine.
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
    """Findings about hosts of the cluster that have this host's address on one of their own interfaces."""
    for other in hosts:
        if other.name == host.name:
            continue
        for interface, about in Reading(documents.get(other.name)).part("network").parts_by_name("interfaces").items():
            for address in about.texts("addresses") or ():
                if address.partition("/")[0] == host.cluster_ip:
                    cause = f"{other.name} has its address {host.cluster_ip}, too (on {interface})"
                    remedy = f"on {other.name}: ip address del {address} dev {interface}; and find what put it there"
                    yield error(host.name, CHECK, "SAME_ADDRESS", cause, remedy)


def _strangers(
    host: Host, macs: Mapping[str, str], owners: Mapping[str, str], documents: Mapping[str, object]
) -> Iterator[Finding]:
    """Findings about machines that answer for the host's address, by the neighbour tables of the other hosts."""
    if host.name not in macs:
        return
    # On one network Linux answers on any of its interfaces for any of its addresses.
    interfaces = Reading(documents[host.name]).part("network").parts_by_name("interfaces").values()
    own = {macs[host.name], *((about.text("mac") or "").lower() for about in interfaces)}
    for observer in macs:
        seen = (_link(documents[observer]).part("neighbours").text(host.cluster_ip) or "").lower()
        if observer != host.name and seen and seen not in own:
            who = f"{owners[seen]} has" if seen in owners else "another machine has"
            cause = f"for {observer}, {host.cluster_ip} is at {seen}, not at its {macs[host.name]}: {who} its address"
            remedy = f"find it: the switch knows the port of {seen}; then give it another address"
            yield error(host.name, CHECK, "SAME_ADDRESS", cause, remedy)


def _link(document: object) -> Reading:
    return Reading(document).part("links")
