"""Who launches a job: as the options and the inventory say, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clusteradm.errors import UsageError
from clusteradm.inventory import Cluster, Host
from clusteradm.inventory.slurm import is_options
from clusteradm.jobs import launcher
from clusteradm.node.spec.wire.job import SlurmOrder


def cluster(**settings: Any) -> Cluster:
    return Cluster(Path("inventory.yml"), {}, {"head": Host("head", ("head",), settings, {})})


def test_by_default_slurm_has_no_part_in_it() -> None:
    assert launcher.order(cluster()) is None
    assert launcher.order(cluster(cluster_launcher="slurm"), "direct") is None


def test_as_the_options_say_or_the_inventory() -> None:
    assert launcher.order(cluster(), "slurm", wait=True) == SlurmOrder(None, None, True)
    site = cluster(cluster_launcher="slurm", cluster_slurm_partition="tpu", cluster_slurm_account="lab")
    assert launcher.order(site) == SlurmOrder("tpu", "lab", False)
    assert launcher.order(site, partition="big", account="me") == SlurmOrder("big", "me", False)


@pytest.mark.parametrize("name", ["--nice", "-p", "a b", "a,b", "a;b", "", "x" * 65, "a\n", "ä"])
def test_what_slurm_can_have_no_name_for_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is no name that Slurm has"):
        launcher.order(cluster(), "slurm", partition=name)


def test_a_partition_without_slurm_is_refused() -> None:
    with pytest.raises(UsageError, match="--account is Slurm's, and the job does without Slurm"):
        launcher.order(cluster(), account="lab")


@pytest.mark.parametrize(
    "options",
    [
        {"PriorityType": "priority/multifactor", "SlurmdTimeout": 120},
        {"SchedulerParameters": "bf_interval=5,sched_interval=10", "TaskPlugin": "task/affinity"},
        {},
    ],
)
def test_parameters_that_an_inventory_may_set(options: dict[str, Any]) -> None:
    assert is_options(options)


@pytest.mark.parametrize(
    "options",
    [
        {"Prolog": "/tmp/x"},
        {"PrologSlurmctld": "/tmp/x"},
        {"healthcheckprogram": "/tmp/x"},
        {"MailProg": "/tmp/x"},
        {"Include": "/etc/other"},
        {"SlurmUser": "root"},
        {"AuthType": "auth/none"},
        {"NodeName": "w9"},
        {"DisableRootJobs\nProlog": "x"},
        {"SlurmdTimeout": "1\nProlog=/tmp/x"},
        {"SlurmdTimeout": "a b"},
        {"SlurmdTimeout": "1#"},
        {"SlurmdTimeout": True},
        {"SlurmdTimeout": ["1"]},
        {1: "x"},
        ["SlurmdTimeout"],
        {f"A{'b' * number}": 1 for number in range(200)},
    ],
)
def test_parameters_that_it_may_not(options: object) -> None:
    assert not is_options(options)
