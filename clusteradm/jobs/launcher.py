"""Launcher of a job's ranks: clusteradm's own queue on the head, or Slurm."""

from __future__ import annotations

import re

from clusteradm.errors import UsageError
from clusteradm.inventory import Cluster
from clusteradm.inventory.slurm import SLURM
from clusteradm.node.spec.wire.job import SlurmOrder
from clusteradm.node.spec.wire.job_names import SLURM_NAME


def order(
    cluster: Cluster,
    launcher: str | None = None,
    *,
    partition: str | None = None,
    account: str | None = None,
    wait: bool = False,
) -> SlurmOrder | None:
    """What Slurm is asked for; None where it has no part in the job. What is None is as the inventory says.

    Raises UsageError for names that Slurm does not know, and for a partition or an account without Slurm.
    """
    for option, name in (("--partition", partition), ("--account", account)):
        if name is not None and not re.fullmatch(SLURM_NAME, name):
            raise UsageError(f"{option}: {name!r} is no name that Slurm has", next_step="sinfo and sacctmgr show them")
    if (launcher or cluster.setting("cluster_launcher")) != SLURM:
        if partition or account:
            option = "--partition" if partition else "--account"
            raise UsageError(f"{option} is Slurm's, and the job does without Slurm", next_step="add: --launcher slurm")
        return None
    return SlurmOrder(
        partition or cluster.setting("cluster_slurm_partition"),
        account or cluster.setting("cluster_slurm_account"),
        whole=wait,
    )
