"""Measurement that is repeated beside running jobs: what the exporter exports, and top shows."""

from __future__ import annotations

import argparse
import dataclasses

from clusteradm import health
from clusteradm.cli.health import judged
from clusteradm.cli.health_forms.figures import of_jobs
from clusteradm.cli.health_forms.report import HealthReport
from clusteradm.inventory import Cluster
from clusteradm.jobs import Jobs
from clusteradm.jobs.running import running
from clusteradm.transport import Connections


def measure(args: argparse.Namespace, connections: Connections, cluster: Cluster) -> HealthReport:
    """Findings and figures of the hosts that the command line selects, and of the running jobs, if the head is one."""
    hosts = cluster.select(args.limit) if args.limit else tuple(cluster.hosts.values())
    report = judged(args, cluster, health.collect(connections, hosts, sections=health.LIGHT))
    if cluster.head not in hosts or cluster.head.name in report.unanswered:
        return report
    return dataclasses.replace(report, figures=(*report.figures, *of_jobs(running(Jobs(connections, cluster)))))
