"""Inference jobs: their inputs, their plan, the job on the head, its results and its report."""

from clusteradm.jobs.inputs import HeadInputs, LocalInputs, resolve
from clusteradm.jobs.job import Jobs, Update
from clusteradm.jobs.plan import Plan
from clusteradm.jobs.report import JobReport, build
from clusteradm.jobs.results import Results, writable

__all__ = [
    "HeadInputs",
    "JobReport",
    "Jobs",
    "LocalInputs",
    "Plan",
    "Results",
    "Update",
    "build",
    "resolve",
    "writable",
]
