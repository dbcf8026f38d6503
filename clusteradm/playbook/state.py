"""What the run knows of each host while a play is under way: results, facts, how far it is, and who waits for whom."""

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
        super().__init__(f'"{name}" of {host} is not there yet')
        self.name = name
        self.host = host
        self.position = position


class Cancelled(Exception):
    """The run was interrupted: this host stops where it is."""


@dataclass
class HostState:
    """One host in the run. `facts`: named without `ansible_`. `position`: every step of the play before it is done.

    `notified`: numbers of handlers. `ended_at`: the step of the current play at which the host left the run.
    """

    host: Host
    facts: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    notified: set[int] = field(default_factory=set)
    position: int = BEGINNING
    alive: bool = True
    ended_at: int | None = None
    fatal: bool = False
    # In check mode: an earlier task would have changed something, or could not tell.
    disturbed: bool = False

    @property
    def name(self) -> str:
        return self.host.name


class Board:
    """The states of all hosts, shared by their threads. `changed` wakes whoever waits for another host."""

    def __init__(self, hosts: Iterable[Host]) -> None:
        self.states: dict[str, HostState] = {host.name: HostState(host) for host in hosts}
        self.play: Play | None = None
        self.members: tuple[str, ...] = ()
        self.everyone: tuple[str, ...] = ()
        self.cancelled = False
        self._once: dict[int, str] = {}
        self._changed = threading.Condition()

    def begin(self, play: Play, members: Iterable[str], everyone: Iterable[str] = ()) -> None:
        """Start a play on these hosts, of `everyone` whom it is about where that is more. Nobody is running yet."""
        self.play = play
        self.members = tuple(members)
        self.everyone = tuple(everyone) or self.members
        self._once = {}
        for name in self.members:
            state = self.states[name]
            state.position = BEGINNING
            state.notified = set()

    def hosts_left(self, of: Iterable[str] | None = None) -> list[str]:
        """The play's hosts, or those of one batch, that have neither failed nor been lost."""
        return [name for name in (self.everyone if of is None else of) if self.states[name].alive]

    def once(self, position: int) -> str:
        """The host that does a run_once step for all: the first that is left when the first one asks."""
        with self._changed:
            return self._once.setdefault(position, self.hosts_left(self.members)[0])

    def broken(self, position: int | None = None) -> bool:
        """Whether what happened before a step (or at all) ends the play for every host, and with it the run."""
        ended = [
            state
            for state in (self.states[name] for name in self.members)
            if state.ended_at is not None and (position is None or state.ended_at < position)
        ]
        if any(state.fatal for state in ended) or (ended and len(ended) == len(self.members)):
            return True
        limit = self.play.max_fail_percentage if self.play else None
        return limit is not None and len(ended) * 100 > limit * len(self.members)

    def advance(self, state: HostState, position: int) -> None:
        """The host has done every step before `position`."""
        with self._changed:
            state.position = max(state.position, position)
            self._changed.notify_all()

    def end(self, state: HostState, position: int, *, fatal: bool) -> None:
        """The host takes no further part in the run, from a step of the play on. `fatal`: nor does any other."""
        with self._changed:
            state.alive = False
            state.ended_at = position
            state.fatal = fatal
            self._changed.notify_all()

    def cancel(self) -> None:
        """Wake every waiting thread: the run was interrupted."""
        with self._changed:
            self.cancelled = True
            self._changed.notify_all()

    def wait(self, until: Callable[[], bool], timeout: float | None = None) -> None:
        """Block until the condition holds, at most `timeout` seconds. Raises Cancelled if the run is interrupted."""
        with self._changed:
            self._changed.wait_for(lambda: self.cancelled or until(), timeout)
        if self.cancelled:
            raise Cancelled

    def reached(self, host: str, position: int) -> bool:
        """Whether the host has done the step at `position`, or never will."""
        state = self.states[host]
        return state.position > position or not state.alive

    def result(self, name: str, host: str, position: int) -> tuple[bool, Any]:
        """Whether `host` has registered `name`, and what; as a task at `position` of the current play may see it.

        Raises Pending if an earlier step registers it and has not run yet.
        """
        state = self.states[host]
        for step in self.play.registrations.get(name, ()) if self.play and host in self.members else ():
            if step < position and not self.reached(host, step):
                raise Pending(name, host, step)
        if name in state.results:
            return True, state.results[name]
        return False, None

    def facts(self, host: str) -> Mapping[str, Any]:
        """The facts of a host; raises Pending if the current play is about to gather them."""
        state = self.states[host]
        if self.play and self.play.gather_facts and host in self.members and not self.reached(host, BEGINNING):
            raise Pending("ansible_facts", host, BEGINNING)
        return state.facts
