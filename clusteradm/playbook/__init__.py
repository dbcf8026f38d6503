"""Playbooks in Ansible's syntax: read, rendered, cut into batches, run on all hosts at the same time.

Imports go one way: read and run -> render -> the data modules (model, tags, result, state). preview and template_use
stand on top: they read a playbook and render one of its templates as a run would.
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
