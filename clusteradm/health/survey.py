"""Collects what the probes say, from every host at once; a saved survey is judged as a fresh one is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from clusteradm.errors import ClusteradmError, HostUnreachable, UsageError
from clusteradm.health import consequence
from clusteradm.health.checks import board, drift, links, mpi, nfs
from clusteradm.health.finding import Finding, ill, well
from clusteradm.health.reading import Reading
from clusteradm.health.tpu import state as tpu
from clusteradm.health.tpu.state import Tpu
from clusteradm.inventory import Cluster, Host
from clusteradm.node.spec.wire.node import ClusterProbe, Hello, Probe
from clusteradm.transport import Connections, gateways_of

PROBE_SECONDS = 100.0
# What the document of a whole survey has for every host.
SECTIONS = {"clock", "network", "runtime", "share", "system", "tpu"}

# What may be asked again and again beside a job: everything but what opens TPUs and starts processes on every host.
LIGHT = ("system", "machine", "tpu", "network", "links", "share", "export", "runtime")

# What a job has to know.
FOR_JOBS = ("tpu", "share")


@dataclass
class Survey:
    """`documents`: per host; `errors`: host -> (kind, text, remedy) of who gave none.

    `cluster`: the head's cluster probe.

    `cluster_error`: why there is none, where it was tried.

    `taken`: when it was complete, in seconds since 1970 (0: an old one does not say); `seconds`: how long it took.
    """

    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    cluster: dict[str, Any] | None = None
    errors: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    cluster_error: str = ""
    taken: float = 0.0
    seconds: float = 0.0

    def only(self, hosts: Iterable[Host]) -> Survey:
        """What it says of these hosts. Raises UsageError where that is nothing, as of another cluster's survey."""
        names = {host.name for host in hosts}
        documents = {name: document for name, document in self.documents.items() if name in names}
        errors = {name: error for name, error in self.errors.items() if name in names}
        if not documents and not errors:
            there = ", ".join([*self.documents, *self.errors]) or "no host"
            raise UsageError(f"the survey says nothing of the hosts asked for; it is of {there}")
        return replace(self, documents=documents, errors=errors)


def survey(
    connections: Connections,
    hosts: Iterable[Host],
    *,
    sections: Sequence[str] = (),
    together: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> Survey:
    """Ask every host for the named sections of its probe (all, if none is named).

    `together`: then also the cluster probes on the head, over the hosts that answered.
    """
    chosen = list(hosts)
    cluster = connections.cluster
    found = Survey()
    began = time.monotonic()

    def one(host: Host) -> dict[str, Any]:
        node = connections.node(host)
        before = time.time()
        clock = node.call(Hello(), timeout=PROBE_SECONDS).time
        after = time.time()
        request = Probe(tuple(sections), _options(cluster, host))
        document = node.call(request, timeout=PROBE_SECONDS).document
        document["clock"] = {"skew": clock - (before + after) / 2, "doubt": (after - before) / 2}
        return document

    outcome = connections.each(chosen, one, on_done=lambda host: progress(f"{host.name} answered"))
    # In the inventory's order, not in that of their answers.
    found.documents.update({host.name: outcome.ok[host.name] for host in chosen if host.name in outcome.ok})
    for name, error in outcome.failed.items():
        kind = "UNREACHABLE" if isinstance(error, HostUnreachable) else "FAILED"
        found.errors[name] = (kind, error.what, error.next_step or "see what the host says, by ssh or on its console")
    head = cluster.head
    if together and head.name in found.documents:
        progress(f"{head.name}: MPI and the share, from every host")
        try:
            request = _together(cluster, found, chosen)
            found.cluster = connections.node(head).call(request, timeout=180.0).document
        except ClusteradmError as error:
            found.cluster_error = error.what
    found.taken, found.seconds = time.time(), time.monotonic() - began
    return found


def _options(cluster: Cluster, host: Host) -> dict[str, Any]:
    return {
        "user": cluster.setting("cluster_user", host),
        "shared": cluster.setting("cluster_shared", host),
        "names": [member.name for member in cluster.hosts.values()],
        "interface": host.cluster_interface,
        "address": host.cluster_ip,
        "subnet": cluster.setting("cluster_subnet", host),
        "head": None if host.is_head else cluster.head.cluster_ip,
    }


def _together(cluster: Cluster, found: Survey, hosts: Iterable[Host]) -> ClusterProbe:
    """What the head's cluster probe is asked: every host that answered, and which of them can use the share."""
    names = [host.name for host in hosts if host.name in found.documents]
    uses = {name: Reading(found.documents[name]).part("share").part("use").truth("ok") for name in names}
    return ClusterProbe(
        user=cluster.setting("cluster_user"),
        shared=cluster.setting("cluster_shared"),
        hosts=tuple(names),
        # A process that writes to a mount whose server is gone would hold up all of MPI.
        writers=tuple(name for name in names if uses[name]),
    )


def judge(cluster: Cluster, found: Survey) -> list[Finding]:
    """Every finding of a survey, host by host in the inventory's order. No survey makes it raise."""
    findings: list[Finding] = []
    hosts = [host for host in cluster.hosts.values() if host.name in found.documents or host.name in found.errors]
    across = [
        *links.twins(hosts, found.documents),
        *drift.judge(found.documents),
        *(mpi.judge(hosts, found.cluster) if found.cluster is not None else ()),
    ]
    for host in hosts:
        if host.name in found.errors:
            kind, text, remedy = found.errors[host.name]
            findings.append(ill(host.name, "ssh", kind, text, remedy))
        else:
            findings.append(well(host.name, "ssh", "ok"))
            findings += board.judge(cluster, host, found.documents)
        findings += [finding for finding in across if finding.host == host.name]
        if host.name in found.documents:
            expected = cluster.setting("cluster_tpus", host)
            findings += tpu.judge(
                host.name, expected if isinstance(expected, int) else None, found.documents[host.name]
            )
    if found.cluster_error:
        cause = f"the cluster probe failed: {found.cluster_error}"
        remedy = "try on it, as the cluster user: mpirun --hostfile /etc/clusteradm/hostfile hostname"
        findings.append(ill(cluster.head.name, mpi.CHECK, "FAILED", cause, remedy))
    return consequence.trace(cluster.head.name, findings, _behind_head(cluster))


def _behind_head(cluster: Cluster) -> set[str]:
    """The hosts that the admin reaches only by way of the head."""
    head = {cluster.head.name, cluster.head.address, cluster.head.cluster_ip}
    return {
        host.name for host in cluster.hosts.values() if any(gateway.address in head for gateway in gateways_of(host))
    }


def slots(found: Survey, findings: Iterable[Finding]) -> dict[str, tuple[Tpu, ...]]:
    """Where a job may put its ranks: hosts that answered and can use the share, each with its healthy and free TPUs.

    `findings`: those of the survey, which needs FOR_JOBS at least. A rank on a host that cannot use the share would
    hold up all of MPI.
    """
    unfit = {each.host for each in findings if bars(each)}
    return {name: tpu.healthy(name, document) for name, document in found.documents.items() if name not in unfit}


def bars(finding: Finding) -> bool:
    """Whether no job can run on the host that has it."""
    return not finding.ok and (finding.check == "ssh" or (finding.check == nfs.CHECK and finding.state in nfs.UNFIT))
