"""Probe data -> findings: one state, one cause, one remedy; and the TPUs that a job may use."""

from clusteradm.health.finding import Finding, Severity
from clusteradm.health.fixes import fixes
from clusteradm.health.survey import FOR_JOBS, LIGHT, Survey, blocks_jobs, judge, slots, survey
from clusteradm.health.tpu.state import Tpu

__all__ = [
    "FOR_JOBS",
    "LIGHT",
    "Finding",
    "Severity",
    "Survey",
    "Tpu",
    "blocks_jobs",
    "fixes",
    "judge",
    "slots",
    "survey",
]
