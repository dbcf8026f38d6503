"""Collector: runs the probes on every host at once and returns a survey."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from clusteradm.errors import ClusteradmError, HostUnreachable
from clusteradm.health.reading import Reading
from clusteradm.health.survey import Survey
from clusteradm.inventory import Cluster, Host
from clusteradm.node.spec.wire.node import ClusterProbe, Hello, Probe
from clusteradm.transport import Connections

# A section may take a minute to start, and the longest has 80 s then (clusteradm/node/probe/sections.py).
PROBE_SECONDS = 150.0
CLUSTER_PROBE_SECONDS = 180.0


def collect(
    connections: Connections,
    hosts: Iterable[Host],
    *,
    sections: Sequence[str] = (),
    together: bool = False,
    guest: str = "",
    seconds: float = PROBE_SECONDS,
    progress: Callable[[str], None] = lambda text: None,
) -> Survey:
    """Survey of `hosts`: the named sections of each probe, all if none is named.

    `together`: then also run the cluster probe on the head, over the hosts that answered. `guest`: the name of
    conversations of its own, where those with the hosts are in use. `seconds`: for an answer. A host that fails becomes
    an entry of `Survey.errors`; nothing is raised for it.
    """
    chosen = list(hosts)
    cluster = connections.cluster
    survey = Survey()
    began = time.monotonic()

    def one(host: Host) -> dict[str, Any]:
        node = connections.node(host, guest)
        before = time.time()
        clock = node.call(Hello(), timeout=seconds).time
        after = time.time()
        request = Probe(tuple(sections), _options(cluster, host))
        document = node.call(request, timeout=seconds).document
        document["clock"] = {"skew": clock - (before + after) / 2, "doubt": (after - before) / 2}
        return document

    outcome = connections.each(chosen, one, on_done=lambda host: progress(f"{host.name} answered"))
    survey.documents.update(outcome.ok)
    for name, error in outcome.failed.items():
        kind = "UNREACHABLE" if isinstance(error, HostUnreachable) else "FAILED"
        survey.errors[name] = (kind, error.what, error.next_step or "see what the host says, by ssh or on its console")
    head = cluster.head
    if together and head.name in survey.documents:
        progress(f"{head.name}: MPI and the share, from every host")
        try:
            request = _cluster_probe(cluster, survey, chosen)
            survey.cluster = connections.node(head).call(request, timeout=CLUSTER_PROBE_SECONDS).document
        except ClusteradmError as error:
            survey.cluster_error = error.what
    survey.taken, survey.seconds = time.time(), time.monotonic() - began
    return survey


def _options(cluster: Cluster, host: Host) -> dict[str, Any]:
    """Options of a host's probe."""
    return {
        "user": cluster.setting("cluster_user", host),
        "shared": cluster.setting("cluster_shared", host),
        "names": [member.name for member in cluster.hosts.values()],
        "interface": host.cluster_interface,
        "address": host.cluster_ip,
        "subnet": cluster.setting("cluster_subnet", host),
        "head": None if host.is_head else cluster.head.cluster_ip,
    }


def _cluster_probe(cluster: Cluster, survey: Survey, hosts: Iterable[Host]) -> ClusterProbe:
    """Request to the head: the hosts that answered, and those of them that can write to the share."""
    names = [host.name for host in hosts if host.name in survey.documents]
    uses = {name: Reading(survey.documents[name]).part("share").part("use").boolean("ok") for name in names}
    return ClusterProbe(
        user=cluster.setting("cluster_user"),
        shared=cluster.setting("cluster_shared"),
        hosts=tuple(names),
        # A process that writes to a mount whose server is gone would hold up all of MPI.
        writers=tuple(name for name in names if uses[name]),
    )
