"""Judgement of a survey: every check of every host, and the findings caused by another grouped under it."""

from __future__ import annotations

from clusteradm.health import causes, tpu
from clusteradm.health.checks import drift, expect, host, links, mpi
from clusteradm.health.finding import Finding, error, ok
from clusteradm.health.survey import Survey
from clusteradm.inventory import Cluster
from clusteradm.transport import gateways_of


def judge(cluster: Cluster, survey: Survey, *, undeclared: bool = False) -> list[Finding]:
    """Every finding of a survey, host by host in the inventory's order. Raises nothing, whatever the survey holds.

    `undeclared`: add a finding for each host with TPUs that the inventory does not declare.
    """
    findings: list[Finding] = []
    hosts = [each for each in cluster.hosts.values() if each.name in survey.documents or each.name in survey.errors]
    across = [
        *links.twins(hosts, survey.documents),
        *drift.judge(survey.documents, cluster.head.name),
        *(mpi.judge(hosts, survey.cluster, survey.documents) if survey.cluster is not None else ()),
    ]
    for each in hosts:
        if each.name in survey.errors:
            kind, text, remedy = survey.errors[each.name]
            findings.append(error(each.name, "ssh", kind, text, remedy))
        else:
            findings.append(ok(each.name, "ssh", "ok"))
            findings += host.judge(cluster, each, survey.documents)
        findings += [finding for finding in across if finding.host == each.name]
        if each.name in survey.documents:
            expected = cluster.setting("cluster_tpus", each)
            document = survey.documents[each.name]
            findings += tpu.judge(each.name, expected if isinstance(expected, int) else None, document)
    if survey.cluster_error:
        cause = f"the cluster probe failed: {survey.cluster_error}"
        remedy = "try on it, as the cluster user: mpirun --hostfile /etc/clusteradm/hostfile hostname"
        findings.append(error(cluster.head.name, mpi.CHECK, "FAILED", cause, remedy))
    found = causes.trace(cluster.head.name, findings, _behind_head(cluster))
    return [*found, *expect.judge(cluster, survey.documents)] if undeclared else found


def _behind_head(cluster: Cluster) -> set[str]:
    """Names of the hosts that the admin machine reaches only through the head."""
    head = {cluster.head.name, cluster.head.address, cluster.head.cluster_ip}
    return {
        each.name for each in cluster.hosts.values() if any(gateway.address in head for gateway in gateways_of(each))
    }
