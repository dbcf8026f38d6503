"""Slots of a job: the TPUs that it may use, and the reasons why others are left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from clusteradm import health
from clusteradm.errors import HostFailed
from clusteradm.fleet.drains import Drain, Drains, in_service
from clusteradm.health import Finding, Tpu
from clusteradm.inventory import Host
from clusteradm.node.spec.wire.job import Slot
from clusteradm.node.spec.wire.serving import BoardTpus
from clusteradm.transport import Connections


@dataclass(frozen=True)
class Slots:
    """The slots that a job may use. `drained`: of its hosts; `left_out`: a line for each other host or TPU."""

    usable: tuple[Slot, ...]
    drained: tuple[Drain, ...]
    left_out: tuple[str, ...]
    cpu: bool = False  # one rank a host on its CPU, instead of its TPUs

    @property
    def count(self) -> int:
        """The most ranks that fit."""
        return sum(len(slot.tpus) for slot in self.usable)

    def check(self) -> None:
        """Raise HostFailed where there is no slot at all."""
        if not self.usable:
            raise HostFailed(
                f"no host {'answers' if self.cpu else 'has an Edge TPU that is healthy, free'} and in service",
                next_step="clusteradm health says what is wrong, clusteradm drain what is out of service,\n"
                "  and clusteradm serve up --tpus N leaves to jobs all but N of each host",
            )


def find(connections: Connections, hosts: Sequence[Host], *, cpu: bool = False) -> Slots:
    """Ask the hosts for the slots of a job. Raises HostUnreachable, HostFailed for a head that fails."""
    asked = Drains(connections)
    drains = asked.all()
    drained = {drain.host for drain in drains if drain.pci_address is None}
    in_use = [host for host in hosts if host.name not in drained]
    survey = health.collect(connections, in_use, sections=health.FOR_JOBS)
    findings = health.judge(connections.cluster, survey)
    able = health.slots(survey, findings)
    serving = {} if asked.serving is None else held(asked.serving, able)
    return choose([host.name for host in hosts], drains, findings, able, cpu=cpu, serving=serving)


def held(boards: Iterable[BoardTpus], able: Mapping[str, tuple[Tpu, ...]]) -> dict[str, frozenset[str]]:
    """The PCI addresses that serving holds, by host: those it was given, or all of them."""
    given = {board.host: frozenset(filter(None, board.tpus)) for board in boards}
    return {host: given.get(host, frozenset(tpu.pci_address for tpu in tpus)) for host, tpus in able.items()}


def choose(
    hosts: Sequence[str],
    drains: Sequence[Drain],
    findings: Iterable[Finding],
    able: Mapping[str, tuple[Tpu, ...]],
    *,
    cpu: bool = False,
    serving: Mapping[str, frozenset[str]] = MappingProxyType({}),
) -> Slots:
    """The slots of these hosts, in their order. `able`: hosts fit for a job, with their healthy and free TPUs;
    `serving`: the PCI addresses that serving holds, by host."""
    free = in_service(able, drains)
    if not cpu:
        free = {
            host: tuple(tpu for tpu in tpus if tpu.pci_address not in serving.get(host, ()))
            for host, tpus in free.items()
        }
    drained = {drain.host for drain in drains if drain.pci_address is None}
    return Slots(
        usable=tuple(
            Slot(host, (None,) if cpu else tuple(tpu.pci_address for tpu in free[host]))
            for host in hosts
            if host in free and host not in drained and (cpu or free[host])
        ),
        drained=tuple(drain for drain in drains if drain.host in hosts),
        left_out=(*left_out(findings, able, cpu=cpu), *(() if cpu else _serve(hosts, able, serving))),
        cpu=cpu,
    )


def _serve(
    hosts: Sequence[str], able: Mapping[str, tuple[Tpu, ...]], serving: Mapping[str, frozenset[str]]
) -> Iterator[str]:
    for host in hosts:
        for tpu in able.get(host, ()):
            if tpu.pci_address in serving.get(host, ()):
                yield f"{host} {tpu.pci_address} is left out: it serves"


def left_out(findings: Iterable[Finding], able: Mapping[str, tuple[Tpu, ...]], *, cpu: bool) -> Iterator[str]:
    """The reasons why the job does without a host, or without a TPU."""
    for finding in findings:
        host, _, address = finding.subject.partition(" ")
        if host not in able:
            if health.blocks_jobs(finding):
                yield f"{host} is left out: {finding.state}: {finding.cause}"
        elif finding.check == "tpu" and not cpu and address not in [tpu.pci_address for tpu in able[host]]:
            # A TPU without a fault that is not free is another job's.
            what = f"{finding.state}: {finding.cause}" if finding.cause else finding.detail
            yield f"{finding.subject} is left out: {what}" if address else f"{host} lacks an Edge TPU: {what}"
