"""A playbook as read: plays, and tasks with their places in the files. Nothing is rendered yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from clusteradm.inventory import Cluster
from clusteradm.playbook.tags import Tags

# The modules that close or reopen the host's connection.
CONNECTION_MODULES = ("reboot", "wait_for_connection")

# A `when`, `changed_when` or `failed_when`: constants, or expressions that must all be true.
Conditions = tuple[bool | str, ...]


def constant(conditions: Conditions | None) -> bool | None:
    """The value of conditions that are all constants; None if there are none, or if one is an expression."""
    if conditions is None or not all(isinstance(condition, bool) for condition in conditions):
        return None
    return all(conditions)


@dataclass(frozen=True)
class Place:
    """A place in a file. `line` counts from 1."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Task:
    """One task, or one handler. `module`: short name; `args`: its options, not rendered.

    `become_user` None: the login user. `retries`: attempts after the first; `delay`: seconds between two.
    """

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
    tags: frozenset[str] = frozenset()
    become_user: str | None = "root"
    delegate_to: str | None = None
    run_once: bool = False
    any_errors_fatal: bool = False
    until: Conditions = ()
    retries: int | str = 3
    delay: float | str = 5

    @property
    def folder(self) -> Path:
        """The folder in which relative sources of files and templates are looked up."""
        return self.place.file.parent

    @property
    def defines(self) -> tuple[str, ...]:
        """The variables that the task registers or sets."""
        facts = tuple(self.args) if self.module == "set_fact" else ()
        return (self.register, *facts) if self.register else facts

    @property
    def answers_to(self) -> tuple[str, ...]:
        """The names by which a handler is notified."""
        return (self.name, *self.listen)

    @property
    def is_alone(self) -> bool:
        """Whether it cannot be part of a batch: it has `until`, is delegated, or reopens the connection."""
        return bool(self.until) or self.delegate_to is not None or self.module in CONNECTION_MODULES

    @property
    def needs_admin(self) -> bool:
        """Whether changed_when or failed_when has to be evaluated on the admin machine, with the result."""
        conditions = (self.changed_when, self.failed_when)
        return any(each is not None and constant(each) is None for each in conditions)


@dataclass(frozen=True)
class Step:
    """A task at its position in the play. `handler`: number of the handler that it is; None for a task."""

    index: int
    task: Task
    handler: int | None = None

    @property
    def is_handler(self) -> bool:
        return self.handler is not None


@dataclass(frozen=True)
class Play:
    """One play. `vars`: its own; `file_vars`: those of its vars_files, which take precedence.

    `serial`: sizes of the batches of hosts, the last repeated; a string is a percentage.
    `max_fail_percentage`: more failed hosts than this end the play, and with it the run.
    """

    name: str
    hosts: str
    place: Place
    strategy: str = "linear"
    gather_facts: bool = True
    vars: Mapping[str, Any] = field(default_factory=dict)
    file_vars: Mapping[str, Any] = field(default_factory=dict)
    pre_tasks: tuple[Task, ...] = ()
    tasks: tuple[Task, ...] = ()
    handlers: tuple[Task, ...] = ()
    serial: tuple[int | str, ...] = ()
    max_fail_percentage: float | None = None

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The tasks in order, with all handlers at every place where they are flushed: section ends, meta tasks."""
        found: list[Step] = []
        for section in (self.pre_tasks, self.tasks):
            for task in section:
                if task.module == "meta":
                    self._flush(found)
                else:
                    found.append(Step(len(found), task))
            self._flush(found)
        return tuple(found)

    def _flush(self, steps: list[Step]) -> None:
        if steps and not (steps[-1].is_handler and steps[-1].handler == len(self.handlers) - 1):
            for number, handler in enumerate(self.handlers):
                steps.append(Step(len(steps), handler, number))

    def notified_by(self, task: Task) -> list[int]:
        """The numbers of the handlers that the task notifies: all that listen to a name, and the last so named."""
        found = set()
        for name in task.notify:
            found |= {number for number, handler in enumerate(self.handlers) if name in handler.listen}
            named = [number for number, handler in enumerate(self.handlers) if handler.name == name]
            found |= set(named[-1:])
        return sorted(found)

    @cached_property
    def registrations(self) -> Mapping[str, tuple[int, ...]]:
        """Variable to positions of the steps that register or set it, in order."""
        found: dict[str, list[int]] = {}
        for step in self.steps:
            for name in step.task.defines:
                found.setdefault(name, []).append(step.index)
        return {name: tuple(positions) for name, positions in found.items()}

    def only(self, tags: Tags) -> Play:
        """The play without the tasks that the tags exclude. Handlers stay: they run only when notified."""
        return replace(
            self,
            pre_tasks=tuple(task for task in self.pre_tasks if tags.choose(task.tags)),
            tasks=tuple(task for task in self.tasks if tags.choose(task.tags)),
        )


@dataclass(frozen=True)
class Playbook:
    """The plays of a playbook and of those that it imports, in order, and the cluster that it was read for."""

    path: Path
    cluster: Cluster
    plays: tuple[Play, ...]

    def only(self, tags: Tags) -> Playbook:
        """The playbook without the tasks that the tags exclude. Raises UsageError for a tag that no task has."""
        tasks = (task for play in self.plays for task in (*play.pre_tasks, *play.tasks))
        tags.check(frozenset().union(*(task.tags for task in tasks)))
        return replace(self, plays=tuple(play.only(tags) for play in self.plays))
