"""A playbook as it was read: plays, and tasks with their places. Nothing in it is rendered yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from clusteradm.inventory import Cluster

# A `when`, `changed_when` or `failed_when`: constants, or expressions that must all be true.
Conditions = tuple[bool | str, ...]


def constant(conditions: Conditions | None) -> bool | None:
    """What conditions are without looking at anything; None where there are none, or where that takes an answer."""
    if conditions is None or not all(isinstance(condition, bool) for condition in conditions):
        return None
    return all(conditions)


@dataclass(frozen=True)
class Place:
    """Where something is written. `line` counts from 1."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Task:
    """One task, or one handler. `module` is the short name; `args` are its options, not rendered."""

    name: str
    module: str
    args: Mapping[str, Any]
    place: Place
    when: Conditions = ()
    loop: Any = None
    label: str | None = None
    register: str | None = None
    notify: tuple[str, ...] = ()
    listen: tuple[str, ...] = ()
    changed_when: Conditions | None = None
    failed_when: Conditions | None = None
    check_mode: bool | None = None
    ignore_errors: bool = False
    no_log: bool = False
    vars: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Relative sources of files and templates are looked up here."""
        return self.place.file.parent

    @property
    def answers_to(self) -> tuple[str, ...]:
        """The names by which a handler is notified."""
        return (self.name, *self.listen)

    @property
    def is_judged(self) -> bool:
        """Whether it takes the admin, and the result, to say if the task changed something or failed."""
        conditions = (self.changed_when, self.failed_when)
        return any(each is not None and constant(each) is None for each in conditions)


@dataclass(frozen=True)
class Step:
    """A task, or a handler, at its position in the play."""

    index: int
    task: Task
    is_handler: bool = False


@dataclass(frozen=True)
class Play:
    """One play. `vars` are the play's own, `file_vars` those of its vars_files (which win)."""

    name: str
    hosts: str
    place: Place
    strategy: str = "linear"
    gather_facts: bool = True
    vars: Mapping[str, Any] = field(default_factory=dict)
    file_vars: Mapping[str, Any] = field(default_factory=dict)
    tasks: tuple[Task, ...] = ()
    handlers: tuple[Task, ...] = ()

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The tasks in order, then the handlers."""
        order = [(task, False) for task in self.tasks] + [(handler, True) for handler in self.handlers]
        return tuple(Step(index, task, is_handler) for index, (task, is_handler) in enumerate(order))

    @cached_property
    def registrations(self) -> Mapping[str, tuple[int, ...]]:
        """Variable -> positions of the steps that register it, in order."""
        found: dict[str, list[int]] = {}
        for step in self.steps:
            if step.task.register:
                found.setdefault(step.task.register, []).append(step.index)
        return {name: tuple(positions) for name, positions in found.items()}


@dataclass(frozen=True)
class Playbook:
    """A whole run's plays, those of imported playbooks in their places, and the cluster that it was read for."""

    path: Path
    cluster: Cluster
    plays: tuple[Play, ...]
