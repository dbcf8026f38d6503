"""Measurement that is repeated beside running jobs and requests: what the exporter exports, and top shows."""

from __future__ import annotations

import argparse
import dataclasses

from clusteradm import health
from clusteradm.cli.health import judged
from clusteradm.cli.health_forms.figures import Figure, of_jobs
from clusteradm.cli.health_forms.report import HealthReport
from clusteradm.cli.health_forms.serving import of_serving
from clusteradm.errors import HostFailed, HostUnreachable
from clusteradm.inventory import Cluster
from clusteradm.jobs import Jobs
from clusteradm.jobs.running import running
from clusteradm.serving import Serving
from clusteradm.transport import Connections

# A host that freezes is not to hold up the figures of the others until its connection is lost. What is asked takes a
# Dev Board some seconds.
_ANSWER_SECONDS = 20.0


def measure(args: argparse.Namespace, connections: Connections, cluster: Cluster) -> HealthReport:
    """Findings and figures of the hosts that the command line selects; of running jobs and the endpoint, if the head is
    one of them."""
    hosts = cluster.select(args.limit) if args.limit else tuple(cluster.hosts.values())
    report = judged(args, cluster, health.collect(connections, hosts, sections=health.LIGHT, seconds=_ANSWER_SECONDS))
    if cluster.head not in hosts or cluster.head.name in report.unanswered:
        return report
    more = (*of_jobs(running(Jobs(connections, cluster))), *_endpoint(connections, cluster))
    return dataclasses.replace(report, figures=(*report.figures, *more))


def _endpoint(connections: Connections, cluster: Cluster) -> list[Figure]:
    """Figures of the endpoint; none where the cluster does not serve, or the head does not answer any more."""
    endpoint = Serving(connections, cluster)
    try:
        return list(of_serving(endpoint.status())) if endpoint.show().ready else []
    except (HostUnreachable, HostFailed):
        return []
