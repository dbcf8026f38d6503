"""Probe data -> findings: one state, one cause, one remedy; and the TPUs that a job may use."""

from clusteradm.health.finding import Finding, Severity
from clusteradm.health.survey import Survey, judge, slots, survey
from clusteradm.health.tpu import Tpu

__all__ = ["Finding", "Severity", "Survey", "Tpu", "judge", "slots", "survey"]
