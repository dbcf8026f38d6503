"""Playbooks in Ansible's syntax: read, rendered, cut into batches, run on every host at once."""

from clusteradm.playbook.event import Event, HostRecap, Recap
from clusteradm.playbook.jinja import Templates
from clusteradm.playbook.model import Place, Play, Playbook, Task
from clusteradm.playbook.reader import read
from clusteradm.playbook.retry import RetryFile
from clusteradm.playbook.run import Run
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
    "read",
]
