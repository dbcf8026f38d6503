"""Playbooks in Ansible's syntax: read, rendered, cut into batches, run on all hosts at the same time.

The sub-packages import one way: run -> read -> render -> the modules here that hold data (model, tags, result, state).
preview and template_use render one template as a run would, through all of them.
"""

from clusteradm.playbook.model import Place, Play, Playbook, Task
from clusteradm.playbook.read.reader import load
from clusteradm.playbook.render.jinja import Templates
from clusteradm.playbook.run.event import (
    Event,
    HostLost,
    HostRecap,
    HostWaiting,
    PlayStarted,
    Recap,
    TaskFinished,
    TaskOutput,
    TaskStarted,
)
from clusteradm.playbook.run.playbook_run import PlaybookRun
from clusteradm.playbook.run.retry import RetryFile
from clusteradm.playbook.tags import Tags

__all__ = [
    "Event",
    "HostLost",
    "HostRecap",
    "HostWaiting",
    "Place",
    "Play",
    "PlayStarted",
    "Playbook",
    "PlaybookRun",
    "Recap",
    "RetryFile",
    "Tags",
    "Task",
    "TaskFinished",
    "TaskOutput",
    "TaskStarted",
    "Templates",
    "load",
]
