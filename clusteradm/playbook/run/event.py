"""Events of a run, in order per host, and the recap at its end. The run itself never prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from clusteradm.playbook.model import Place
from clusteradm.playbook.result import Status


@dataclass(frozen=True)
class PlayStarted:
    """A play begins on a batch of hosts, perhaps of none.

    `number`: its place among all `plays`, from 1; `tasks`: how many it has, without handlers.
    """

    play: str
    hosts: tuple[str, ...]
    number: int = 1
    plays: int = 1
    tasks: int = 0


@dataclass(frozen=True)
class TaskStarted:
    """A host begins a task."""

    host: str
    play: str
    task: str


@dataclass(frozen=True)
class TaskOutput:
    """A line of output of a task that is still running."""

    host: str
    play: str
    task: str
    text: str


@dataclass(frozen=True)
class TaskFinished:
    """A task has ended on a host.

    `result`: as Ansible's module returns it, censored under no_log; `ignored`: a failure would be (ignore_errors);
    `check`: the task ran in check mode; `module`, `place`: empty where no task of a file is behind it (facts, python3).
    """

    host: str
    play: str
    task: str
    status: Status
    result: Mapping[str, Any]
    module: str = ""
    place: Place | None = None
    ignored: bool = False
    check: bool = False


@dataclass(frozen=True)
class HostWaiting:
    """A host makes no progress for now: an earlier run is still busy there, or it is being reconnected to."""

    host: str
    play: str
    task: str
    reason: str


@dataclass(frozen=True)
class HostLost:
    """A host leaves the run outside of a task's failure. `task`: its current one, "" before the first."""

    host: str
    play: str
    task: str
    reason: str


Event: TypeAlias = PlayStarted | TaskStarted | TaskOutput | TaskFinished | HostWaiting | HostLost


@dataclass
class HostRecap:
    """Task counts of one host, as Ansible's: `ok` includes `changed`. `unknown`: check mode could not tell.

    `stopped_at`, `reason`: the task at which the host left the run, and why; empty if it completed the run.
    """

    ok: int = 0
    changed: int = 0
    unreachable: int = 0
    failed: int = 0
    skipped: int = 0
    ignored: int = 0
    unknown: int = 0
    stopped_at: str = ""
    reason: str = ""

    def count(self, status: Status, ignored: bool) -> None:
        """Count one task's result."""
        if status == "failed" and ignored:
            self.ok += 1
            self.ignored += 1
        elif status == "changed":
            self.ok += 1
            self.changed += 1
        else:
            setattr(self, status, getattr(self, status) + 1)


@dataclass
class Recap:
    """Counts of all hosts. `interrupted`: after Ctrl-C, host -> the task that it did not complete; else empty."""

    hosts: dict[str, HostRecap]
    interrupted: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return any(host.failed for host in self.hosts.values())

    @property
    def unreachable(self) -> bool:
        return any(host.unreachable for host in self.hosts.values())

    @property
    def pending(self) -> bool:
        """After a run in check mode: whether a real run would, or might, change something."""
        return any(host.changed or host.unknown for host in self.hosts.values())
