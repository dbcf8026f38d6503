"""Edge TPUs on the bus that the inventory does not declare (cluster_tpus)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from clusteradm.health.finding import Finding, warning
from clusteradm.health.reading import Reading
from clusteradm.inventory import Cluster

CHECK = "expect"


def judge(cluster: Cluster, documents: Mapping[str, object]) -> Iterator[Finding]:
    """One finding for each host with more TPUs than declared. A missing TPU is ABSENT, a finding of the check `tpu`."""
    for host in cluster.hosts.values():
        cards = Reading(documents.get(host.name)).part("tpu").values("pci")
        if cards is None:
            continue
        declared, there = cluster.setting("cluster_tpus", host), len(cards)
        tpus = f"{there} Edge TPU{'s' * (there != 1)}"
        if declared is None and there:
            cause = f"it has {tpus}, and the inventory does not say how many it should have"
            remedy = f"write cluster_tpus: {there} for it in the inventory"
            yield warning(host.name, CHECK, "UNDECLARED", cause, remedy)
        elif declared is not None and there > declared:
            cause = f"it has {tpus}, and the inventory says {declared} (cluster_tpus)"
            remedy = f"if they belong there, write cluster_tpus: {there} for it in the inventory; else take them out"
            yield warning(host.name, CHECK, "SURPLUS", cause, remedy)
