"""Drains: hosts and TPUs that people have taken out of service, where no job gets a slot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from clusteradm.errors import UsageError
from clusteradm.health import Finding, Survey, Tpu, collect
from clusteradm.health.tpu import facts as tpu_facts
from clusteradm.inventory import Cluster
from clusteradm.node.spec.wire.fleet import BY_JOB, ChangeDrains, DrainEntry, DrainReason
from clusteradm.node.spec.wire.serving import BoardTpus
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
    """The list of drains, which the head keeps."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._cluster: Cluster = connections.cluster
        # As DrainTable's, since the head was last asked.
        self.serving: tuple[BoardTpus, ...] | None = None

    def all(self) -> tuple[Drain, ...]:
        """Everything that is drained, in the order of its names. Raises HostUnreachable, HostFailed."""
        return self._ask(ChangeDrains())

    def drain(self, subjects: Iterable[str], *, reason: str, by: str) -> tuple[Drain, ...]:
        """Take hosts or TPUs out of service; returns all that are. Raises UsageError for what is not there."""
        names = [self._subject(text, gone=False) for text in subjects]
        return self._ask(ChangeDrains(drain={name: DrainReason(reason, by) for name in names}))

    def undrain(self, subjects: Iterable[str]) -> tuple[Drain, ...]:
        """Return them to service; the result is what is still drained. Raises UsageError for what is not drained."""
        there = {drain.subject for drain in self.all()}
        names = [self._subject(text, gone=True) for text in subjects]
        for name in names:
            if name not in there:
                drained = f"drained: {', '.join(sorted(there))}" if there else "nothing is drained"
                raise UsageError(f"{name} is not drained", next_step=drained)
        return self._ask(ChangeDrains(undrain=tuple(names)))

    def return_well(self, survey: Survey, findings: Iterable[Finding]) -> tuple[Drain, ...]:
        """Return the TPUs to service that a job has drained and that were tried and found well by now; these.

        `findings`: of the survey, which has to have the trials of the TPUs.
        """
        ill = {finding.subject for finding in findings if not finding.ok}
        well = []
        for drain in self.all():
            host, address = drain.host, drain.pci_address
            if not (drain.by.startswith(BY_JOB) and address and host in survey.documents):
                continue
            attempt = tpu_facts.read(survey.documents[host]).attempts.get(address)
            if f"{host} {address}" not in ill and attempt is not None and attempt.ok:
                well.append(drain)
        if well:
            self._ask(ChangeDrains(undrain=tuple(drain.subject for drain in well)))
        return tuple(well)

    def _ask(self, request: ChangeDrains) -> tuple[Drain, ...]:
        head = self._cluster.head
        self._connections.open([head])
        request = replace(request, shared=self._cluster.setting("cluster_shared"))
        reply = self._connections.node(head).call(request, timeout=30.0)
        self.serving = reply.serving
        return tuple(_drain(subject, entry) for subject, entry in sorted(reply.drains.items()))

    def _subject(self, text: str, *, gone: bool) -> str:
        """The drain's subject for HOST, HOST:PCI-ADDRESS or HOST:apex_N. `gone`: the TPU need not be there any more."""
        host, colon, tpu = text.partition(":")
        machine = self._cluster.host(host)
        if not colon:
            return host
        if not tpu:
            raise UsageError(f"{text} names no TPU", next_step=f"all of the host is: {host}")
        if gone and ":" in tpu:
            return f"{host}:{tpu}"
        found = collect(self._connections, [machine], sections=("tpu",))
        if host not in found.documents:
            raise UsageError(f"{host} does not answer, so its TPUs are not known", next_step=f"drain all of it: {host}")
        names = tpu_facts.read(found.documents[host]).addresses
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


def _drain(subject: str, entry: DrainEntry) -> Drain:
    host, _, address = subject.partition(":")
    return Drain(host, address or None, entry.reason, entry.by, entry.since)
