"""Slots of a job: the TPUs that it may use, and the reasons why others are left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from clusteradm import health
from clusteradm.errors import HostFailed
from clusteradm.fleet.drains import Drain, Drains, in_service
from clusteradm.health import Finding, Tpu
from clusteradm.inventory import Host
from clusteradm.node.spec.wire.job import Slot
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
                next_step="clusteradm health says what is wrong, clusteradm drain what is out of service, "
                "clusteradm job list what other jobs have: --wait queues behind them",
            )


def find(connections: Connections, hosts: Sequence[Host], *, cpu: bool = False, wait: bool = False) -> Slots:
    """Ask the hosts for the slots of a job. `wait`: with the TPUs that other jobs have.

    Raises HostUnreachable, HostFailed for a head that fails.
    """
    drains = Drains(connections).all()
    drained = {drain.host for drain in drains if drain.pci_address is None}
    asked = [host for host in hosts if host.name not in drained]
    survey = health.collect(connections, asked, sections=health.FOR_JOBS)
    findings = health.judge(connections.cluster, survey)
    slow = {finding.host for finding in findings if health.may_pass(finding)}
    if slow:
        again = health.collect(connections, [host for host in asked if host.name in slow], sections=health.FOR_JOBS)
        survey.documents.update(again.documents)
        findings = health.judge(connections.cluster, survey)
    able = health.slots(survey, findings, of_jobs=wait)
    return choose([host.name for host in hosts], drains, findings, able, cpu=cpu)


def choose(
    hosts: Sequence[str],
    drains: Sequence[Drain],
    findings: Iterable[Finding],
    able: Mapping[str, tuple[Tpu, ...]],
    *,
    cpu: bool = False,
) -> Slots:
    """The slots of these hosts, in their order. `able`: hosts fit for a job, with their healthy and free TPUs."""
    free, findings = in_service(able, drains), list(findings)
    drained = {drain.host for drain in drains if drain.pci_address is None}
    return Slots(
        usable=tuple(
            Slot(host, (None,) if cpu else tuple(tpu.pci_address for tpu in free[host]))
            for host in hosts
            if host in free and host not in drained and (cpu or free[host])
        ),
        drained=tuple(drain for drain in drains if drain.host in hosts),
        left_out=tuple(left_out(findings, able, cpu=cpu)),
        cpu=cpu,
        taken=() if cpu else tuple(taken(findings, able)),
    )


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
