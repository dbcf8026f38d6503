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
    """The slots that a job may use. `drained`: of its hosts; `left_out`: a line for each other host or TPU, `taken`:
    for each TPU that is in use."""

    usable: tuple[Slot, ...]
    drained: tuple[Drain, ...]
    left_out: tuple[str, ...]
    cpu: bool = False  # one rank a host on its CPU, instead of its TPUs
    taken: tuple[str, ...] = ()

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
                "  clusteradm job list what other jobs have: --wait queues behind them,\n"
                "  and clusteradm serve up --tpus N leaves to jobs all but N of each host",
            )


def find(
    connections: Connections, hosts: Sequence[Host], *, cpu: bool = False, wait: bool = False, busy: bool = False
) -> Slots:
    """Ask the hosts for the slots of a job. `wait`: with the TPUs that other jobs have; `busy`: that anybody has, of
    those that Slurm may give.

    Raises HostUnreachable, HostFailed for a head that fails.
    """
    asked = Drains(connections)
    drains = asked.all()
    drained = {drain.host for drain in drains if drain.pci_address is None}
    in_use = [host for host in hosts if host.name not in drained]
    survey = health.collect(connections, in_use, sections=health.FOR_JOBS)
    findings = health.judge(connections.cluster, survey)
    slow = {finding.host for finding in findings if health.may_pass(finding)}
    if slow:
        again = health.collect(connections, [host for host in in_use if host.name in slow], sections=health.FOR_JOBS)
        survey.documents.update(again.documents)
        findings = health.judge(connections.cluster, survey)
    able = health.slots(survey, findings, of_jobs=wait, of_others=busy)
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
    free, findings = in_service(able, drains), list(findings)
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
        taken=() if cpu else tuple(taken(findings, able)),
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
        elif finding.check == "tpu" and not cpu and finding.cause and address not in _addresses(able[host]):
            what = f"{finding.state}: {finding.cause}"
            yield f"{finding.subject} is left out: {what}" if address else f"{host} lacks an Edge TPU: {what}"


def taken(findings: Iterable[Finding], able: Mapping[str, tuple[Tpu, ...]]) -> Iterator[str]:
    """The TPUs without a fault that are not free: other jobs have them."""
    for finding in findings:
        host, _, address = finding.subject.partition(" ")
        well = finding.check == "tpu" and address and not finding.cause and host in able
        if well and address not in _addresses(able[host]):
            yield f"{finding.subject} is left out: {finding.detail}"


def _addresses(tpus: Iterable[Tpu]) -> list[str]:
    return [tpu.pci_address for tpu in tpus]
