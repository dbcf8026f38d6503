"""A playbook as it was read: plays, and tasks with their places. Nothing in it is rendered yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from clusteradm.inventory import Cluster
from clusteradm.playbook.tags import Tags

# The modules that end the connection of the host itself.
CONNECTION_MODULES = ("reboot", "wait_for_connection")

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
    """One task, or one handler. `module` is the short name; `args` are its options, not rendered.

    `become_user` None: whoever logs in. `retries`: attempts after the first; `delay`: seconds between them.
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
        """Relative sources of files and templates are looked up here."""
        return self.place.file.parent

    @property
    def defines(self) -> tuple[str, ...]:
        """The variables that other tasks find afterwards."""
        facts = tuple(self.args) if self.module == "set_fact" else ()
        return (self.register, *facts) if self.register else facts

    @property
    def answers_to(self) -> tuple[str, ...]:
        """The names by which a handler is notified."""
        return (self.name, *self.listen)

    @property
    def is_alone(self) -> bool:
        """Whether it is no part of a batch: repeated, done by another host, or about the connection itself."""
        return bool(self.until) or self.delegate_to is not None or self.module in CONNECTION_MODULES

    @property
    def is_judged(self) -> bool:
        """Whether it takes the admin, and the result, to say if the task changed something or failed."""
        conditions = (self.changed_when, self.failed_when)
        return any(each is not None and constant(each) is None for each in conditions)


@dataclass(frozen=True)
class Step:
    """A task, or a handler, at its position in the play. `handler`: the number of the handler that it runs."""

    index: int
    task: Task
    handler: int | None = None

    @property
    def is_handler(self) -> bool:
        return self.handler is not None


@dataclass(frozen=True)
class Play:
    """One play. `vars` are the play's own, `file_vars` those of its vars_files (which win).

    `serial`: sizes of the batches of hosts, the last for all that follow; a text is a percentage.
    `max_fail_percentage`: more failed hosts than this end the play, and the run.
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
        """The tasks in order. All handlers stand wherever they are flushed: after each section, and at meta tasks."""
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
        """The numbers of the handlers that the task notifies: those that listen, and the last one of each name."""
        found = set()
        for name in task.notify:
            found |= {number for number, handler in enumerate(self.handlers) if name in handler.listen}
            named = [number for number, handler in enumerate(self.handlers) if handler.name == name]
            found |= set(named[-1:])
        return sorted(found)

    @cached_property
    def registrations(self) -> Mapping[str, tuple[int, ...]]:
        """Variable -> positions of the steps that register or set it, in order."""
        found: dict[str, list[int]] = {}
        for step in self.steps:
            for name in step.task.defines:
                found.setdefault(name, []).append(step.index)
        return {name: tuple(positions) for name, positions in found.items()}

    def only(self, tags: Tags) -> Play:
        """The play without the tasks that the tags leave out. Handlers stay: nobody notifies them by chance."""
        return replace(
            self,
            pre_tasks=tuple(task for task in self.pre_tasks if tags.choose(task.tags)),
            tasks=tuple(task for task in self.tasks if tags.choose(task.tags)),
        )


@dataclass(frozen=True)
class Playbook:
    """A whole run's plays, those of imported playbooks in their places, and the cluster that it was read for."""

    path: Path
    cluster: Cluster
    plays: tuple[Play, ...]

    def only(self, tags: Tags) -> Playbook:
        """The playbook without the tasks that the tags leave out."""
        return replace(self, plays=tuple(play.only(tags) for play in self.plays))
