"""bootstrap.yml by clusteradm leads to a cluster at which ansible-playbook finds nothing to change."""

from __future__ import annotations

import pytest
from agreement import Results, run_ansible

from clusteradm import shipped
from clusteradm.lab import Lab

pytestmark = pytest.mark.lab

BOOTSTRAP = shipped.PLAYBOOKS / "bootstrap.yml"


def changed(results: Results) -> list[str]:
    return [
        " / ".join(key) for key, found in results.items() for one in found if one["_status"] in ("changed", "failed")
    ]


def test_after_clusteradm_ansible_changes_nothing(cluster_lab: Lab) -> None:
    results, stats = run_ansible(cluster_lab.inventory, BOOTSTRAP)
    assert changed(results) == []
    assert len(stats) == 4
    for host, counts in stats.items():
        assert (counts["changed"], counts["failures"], counts["unreachable"]) == (0, 0, 0), host
        assert counts["ok"] > 20, host
