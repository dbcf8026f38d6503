"""The Edge TPUs that the inventory declares (cluster_tpus) beside those that are there."""

from __future__ import annotations

from collections.abc import Iterator

from clusteradm.health.finding import Finding, warning
from clusteradm.health.reading import Reading
from clusteradm.health.survey import Survey
from clusteradm.inventory import Cluster

CHECK = "expect"


def compare(cluster: Cluster, found: Survey) -> Iterator[Finding]:
    """A finding for every host that has more than declared. One that is missing is ABSENT, whether asked for or not."""
    for host in cluster.hosts.values():
        cards = Reading(found.documents.get(host.name)).part("tpu").values("pci")
        if cards is None:
            continue
        declared, there = cluster.setting("cluster_tpus", host), len(cards)
        tpus = f"{there} Edge TPU{'s' * (there != 1)}"
        if declared is None and there:
            cause = f"it has {tpus}, and the inventory does not say how many it should have"
            yield warning(host.name, CHECK, "UNDECLARED", cause, f"write cluster_tpus: {there} for it in the inventory")
        elif declared is not None and there > declared:
            cause = f"it has {tpus}, and the inventory says {declared} (cluster_tpus)"
            remedy = f"if they belong there, write cluster_tpus: {there} for it in the inventory; else take them out"
            yield warning(host.name, CHECK, "SURPLUS", cause, remedy)
