"""State of a run: each host's results, facts and position in the current play; hosts wait for each other on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from clusteradm.inventory import Host
from clusteradm.playbook.model import Play

# A host's position before it has gathered its facts.
BEGINNING = -1


class Pending(Exception):
    """A template needs the result of a task that has not run yet, on this host or another one."""

    def __init__(self, name: str, host: str, position: int) -> None:
        super().__init__(f'"{name}" of {host} is not known yet')
        self.name = name
        self.host = host
        self.position = position


class Cancelled(Exception):
    """The run was interrupted: the host stops at its current task."""


@dataclass
class HostState:
    """State of one host.

    `facts`: by name without `ansible_`; `results`: registered and set variables; `notified`: numbers of handlers;
    `position`: all steps of the play before it are done; `alive`: still part of the run; `left_at`: the step of the
    current play at which it left; `fatal`: its failure ends the run; `changes_pending`: in check mode, an earlier task
    would have changed something, or could not tell.
    """

    host: Host
    facts: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    notified: set[int] = field(default_factory=set)
    position: int = BEGINNING
    alive: bool = True
    left_at: int | None = None
    fatal: bool = False
    changes_pending: bool = False

    @property
    def name(self) -> str:
        return self.host.name


class RunState:
    """State of all hosts and the current play, shared by the hosts' threads.

    `members`: the hosts of the current batch of the play; `all_members`: those that the play is for, also those that
    failed before.
    """

    def __init__(self, hosts: Iterable[Host]) -> None:
        self.hosts: dict[str, HostState] = {host.name: HostState(host) for host in hosts}
        self.play: Play | None = None
        self.members: tuple[str, ...] = ()
        self.all_members: tuple[str, ...] = ()
        self.cancelled = False
        self._run_once: dict[int, str] = {}
        self._changed = threading.Condition()

    def begin_play(self, play: Play, members: Iterable[str], all_members: Iterable[str] = ()) -> None:
        """Start a play, or its next batch of hosts, before their threads run. `all_members`: default `members`."""
        self.play = play
        self.members = tuple(members)
        self.all_members = tuple(all_members) or self.members
        self._run_once = {}
        for name in self.members:
            state = self.hosts[name]
            state.position = BEGINNING
            state.notified = set()

    def hosts_left(self, of: Iterable[str] | None = None) -> list[str]:
        """The play's hosts, or those of one batch, that are still part of the run."""
        return [name for name in (self.all_members if of is None else of) if self.hosts[name].alive]

    def host_of_run_once(self, position: int) -> str:
        """The host that does a run_once step for all: the first that is left at the first call."""
        with self._changed:
            return self._run_once.setdefault(position, self.hosts_left(self.members)[0])

    def is_over(self, position: int | None = None) -> bool:
        """Whether the hosts that left before a step (None: at any) end the play, and with it the run, for all."""
        left = [
            state
            for state in (self.hosts[name] for name in self.members)
            if state.left_at is not None and (position is None or state.left_at < position)
        ]
        if any(state.fatal for state in left) or (left and len(left) == len(self.members)):
            return True
        limit = self.play.max_fail_percentage if self.play else None
        return limit is not None and len(left) * 100 > limit * len(self.members)

    def advance(self, state: HostState, position: int) -> None:
        """The host has done every step before `position`."""
        with self._changed:
            state.position = max(state.position, position)
            self._changed.notify_all()

    def leave(self, state: HostState, position: int, *, fatal: bool) -> None:
        """The host leaves the run at a step of the play. `fatal`: its failure ends the run for all."""
        with self._changed:
            state.alive = False
            state.left_at = position
            state.fatal = fatal
            self._changed.notify_all()

    def cancel(self) -> None:
        """Interrupt the run: every waiting thread wakes up with Cancelled."""
        with self._changed:
            self.cancelled = True
            self._changed.notify_all()

    def wait(self, until: Callable[[], bool], timeout: float | None = None) -> None:
        """Block until the condition is true, at most `timeout` seconds. Raises Cancelled if the run is interrupted."""
        with self._changed:
            self._changed.wait_for(lambda: self.cancelled or until(), timeout)
        if self.cancelled:
            raise Cancelled

    def reached(self, host: str, position: int) -> bool:
        """Whether the host has done the step at `position`, or never will."""
        state = self.hosts[host]
        return state.position > position or not state.alive

    def result(self, name: str, host: str, position: int) -> tuple[bool, Any]:
        """Whether `host` has a registered or set variable `name`, and its value, for a task at `position`.

        Raises Pending if an earlier step of the current play defines it and has not run yet.
        """
        state = self.hosts[host]
        for step in self.play.registrations.get(name, ()) if self.play and host in self.members else ():
            if step < position and not self.reached(host, step):
                raise Pending(name, host, step)
        if name in state.results:
            return True, state.results[name]
        return False, None

    def facts(self, host: str) -> Mapping[str, Any]:
        """The facts of a host; raises Pending if the current play is about to gather them."""
        state = self.hosts[host]
        if self.play and self.play.gather_facts and host in self.members and not self.reached(host, BEGINNING):
            raise Pending("ansible_facts", host, BEGINNING)
        return state.facts
