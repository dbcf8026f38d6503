"""Playbooks in Ansible's syntax: read, rendered, cut into batches, run on every host at once."""

from clusteradm.playbook.model import Place, Play, Playbook, Task
from clusteradm.playbook.read.reader import load
from clusteradm.playbook.render.jinja import Templates
from clusteradm.playbook.run.event import Event, HostRecap, Recap
from clusteradm.playbook.run.retry import RetryFile
from clusteradm.playbook.run.run import Run
from clusteradm.playbook.tags import Tags

__all__ = [
    "Event",
    "HostRecap",
    "Place",
    "Play",
    "Playbook",
    "Recap",
    "RetryFile",
    "Run",
    "Tags",
    "Task",
    "Templates",
    "load",
]
