"""What health may mend by itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from clusteradm import shipped
from clusteradm.health.finding import error, ok
from clusteradm.health.fixes import FIXES, fixes
from clusteradm.inventory import load
from clusteradm.playbook import load as load_playbook


def test_only_what_is_safe_is_mended() -> None:
    findings = [
        error("w1", "nfs", "STALE", "", ""),
        error("w1 0001:01:00.0", "tpu", "NO_PERMISSION", "", ""),
        error("w2 0001:01:00.0", "tpu", "WEDGED", "", ""),
        ok("w3", "clock"),
    ]
    assert fixes(findings) == {"w1": frozenset({"mount", "tpu", "user"})}


def test_every_tag_is_one_of_bootstraps() -> None:
    cluster = load(Path(__file__).resolve().parents[3] / "inventory/lab.yml")
    plays = load_playbook(shipped.PLAYBOOKS / "bootstrap.yml", cluster).plays
    tags = {tag for play in plays for task in play.tasks for tag in task.tags}
    assert tags == {tag for wanted in FIXES.values() for tag in wanted}


def test_an_effect_cannot_be_repaired_before_its_cause() -> None:
    stale = error("w1", "nfs", "STALE", "c", "r")
    assert fixes([stale]) == {"w1": {"mount"}}
    assert fixes([dataclasses.replace(stale, because="head export: NOT_SERVING")]) == {}
