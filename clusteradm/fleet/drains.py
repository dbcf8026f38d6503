"""Hosts and TPUs that people have taken out of service: no job gets a slot there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from clusteradm.errors import ClusteradmError, UsageError
from clusteradm.health import Tpu, collect
from clusteradm.health.tpu import facts as tpu_facts
from clusteradm.inventory import Cluster
from clusteradm.transport import Connections


@dataclass(frozen=True)
class Drain:
    """One host, or one of its TPUs. `since`: seconds since 1970, by the head's clock."""

    host: str
    pci_address: str | None
    reason: str
    by: str
    since: int

    @property
    def subject(self) -> str:
        """As a person names it: HOST, or HOST:PCI-ADDRESS."""
        return f"{self.host}:{self.pci_address}" if self.pci_address else self.host


class Drains:
    """What is drained, as the head keeps it."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._cluster: Cluster = connections.cluster

    def all(self) -> tuple[Drain, ...]:
        """Everything that is drained, in the order of its names. Raises HostUnreachable, HostFailed."""
        return self._ask()

    def drain(self, subjects: Iterable[str], *, reason: str, by: str) -> tuple[Drain, ...]:
        """Take hosts or TPUs out of service; returns all that are. Raises UsageError for what is not there."""
        names = [self._subject(text, gone=False) for text in subjects]
        return self._ask(drain={name: {"reason": reason, "by": by} for name in names})

    def undrain(self, subjects: Iterable[str]) -> tuple[Drain, ...]:
        """Bring them back; returns what is still drained. Raises UsageError for what is not drained."""
        there = {drain.subject for drain in self.all()}
        names = [self._subject(text, gone=True) for text in subjects]
        for name in names:
            if name not in there:
                drained = f"drained: {', '.join(sorted(there))}" if there else "nothing is drained"
                raise UsageError(f"{name} is not drained", next_step=drained)
        return self._ask(undrain=names)

    def _ask(self, **fields: object) -> tuple[Drain, ...]:
        head = self._cluster.head
        self._connections.open([head])
        reply = self._connections.node(head).call("drains", timeout=30.0, **fields)
        return tuple(_drain(subject, about) for subject, about in sorted(reply["drains"].items()))

    def _subject(self, text: str, *, gone: bool) -> str:
        """What a person means by HOST, HOST:PCI-ADDRESS or HOST:apex_N. `gone`: the TPU need not be there any more."""
        host, _, tpu = text.partition(":")
        machine = self._cluster.host(host)
        if not tpu:
            return host
        if gone and ":" in tpu:
            return f"{host}:{tpu}"
        found = collect(self._connections, [machine], sections=("tpu",))
        if host not in found.documents:
            raise UsageError(f"{host} does not answer, so its TPUs are not known", next_step=f"drain all of it: {host}")
        facts = tpu_facts.read(found.documents[host])
        names = {card.address: card.address for card in facts.cards}
        names |= {device.name: address for address, device in facts.devices.items()}
        if tpu not in names:
            raise UsageError(f"{host} has no TPU {tpu!r}", next_step=f"it has: {', '.join(names) or 'none'}")
        return f"{host}:{names[tpu]}"


def in_service(slots: Mapping[str, tuple[Tpu, ...]], drains: Iterable[Drain]) -> dict[str, tuple[Tpu, ...]]:
    """The TPUs of each host that are not drained."""
    out = {(drain.host, drain.pci_address) for drain in drains}
    return {
        host: tuple(tpu for tpu in tpus if not {(host, None), (host, tpu.pci_address)} & out)
        for host, tpus in slots.items()
    }


def _drain(subject: str, about: Mapping[str, object]) -> Drain:
    host, _, address = subject.partition(":")
    try:
        return Drain(host, address or None, str(about["reason"]), str(about["by"]), int(str(about["since"])))
    except (KeyError, TypeError, ValueError):
        raise ClusteradmError(f"the head's list of drains is damaged at {subject}") from None
