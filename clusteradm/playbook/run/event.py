"""What a run tells while it runs, and what it says at its end. The run itself never prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from clusteradm.playbook.model import Place
from clusteradm.playbook.result import Status

Kind = Literal[
    "play",  # a play begins: `text` is its name, `hosts` are those that take part
    "start",  # a host begins a task
    "line",  # `text`: output of a task that is still running
    "result",  # a task's `status` and `result` on a host
    "waiting",  # `text`: the host does not work on the task yet, and why
    "lost",  # `text`: the host is out: unreachable, or failed outside of a task
]


@dataclass(frozen=True)
class Event:
    """One thing that happened. `result` is masked where the task says no_log. `check`: the task ran in check mode."""

    kind: Kind
    host: str = ""
    play: str = ""
    task: str = ""
    module: str = ""
    place: Place | None = None
    status: Status | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    ignored: bool = False
    check: bool = False
    text: str = ""
    hosts: tuple[str, ...] = ()


@dataclass
class HostRecap:
    """The counts of one host, as Ansible counts: `ok` includes `changed`. `unknown`: only a run can tell."""

    ok: int = 0
    changed: int = 0
    unreachable: int = 0
    failed: int = 0
    skipped: int = 0
    ignored: int = 0
    unknown: int = 0
    # Where the host stopped, and why; empty for a host that came to the end.
    stopped_at: str = ""
    reason: str = ""

    def count(self, status: Status, ignored: bool) -> None:
        """Count one task."""
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
    """The end of a run. `interrupted`: hosts and the tasks that they did not complete, empty for a run to the end."""

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
        """Whether, after a check, a run would change something, or might."""
        return any(host.changed or host.unknown for host in self.hosts.values())
