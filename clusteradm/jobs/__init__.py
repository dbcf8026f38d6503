"""Inference jobs: what to infer, the job on the head, and what it measured."""

from clusteradm.jobs.inputs import HeadInputs, LocalInputs, resolve
from clusteradm.jobs.job import Jobs, Slot, Update
from clusteradm.jobs.report import Report, build

__all__ = ["HeadInputs", "Jobs", "LocalInputs", "Report", "Slot", "Update", "build", "resolve"]
