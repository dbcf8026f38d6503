"""Health of a cluster: probes collected into a survey, judged into findings (state, cause, remedy), usable TPUs."""

from clusteradm.health.collector import collect
from clusteradm.health.finding import Finding, Severity
from clusteradm.health.fixes import fixes
from clusteradm.health.judgement import judge
from clusteradm.health.survey import FOR_JOBS, LIGHT, Survey
from clusteradm.health.tpu import Tpu
from clusteradm.health.usable import blocks_jobs, may_pass, slots

__all__ = [
    "FOR_JOBS",
    "LIGHT",
    "Finding",
    "Severity",
    "Survey",
    "Tpu",
    "blocks_jobs",
    "collect",
    "fixes",
    "judge",
    "may_pass",
    "slots",
]
