"""Run of a playbook on a cluster: play after play, one thread per host, events to one callback."""

from __future__ import annotations

import functools
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from clusteradm.errors import UsageError
from clusteradm.inventory import Host
from clusteradm.playbook.model import Play, Playbook
from clusteradm.playbook.render.jinja import Templates
from clusteradm.playbook.run.event import (
    Event,
    HostLost,
    HostRecap,
    PlayStarted,
    Recap,
    TaskFinished,
    TaskOutput,
    TaskStarted,
)
from clusteradm.playbook.run.files import Files, wanted
from clusteradm.playbook.run.host_run import ENDED, HostRun, Shared
from clusteradm.playbook.run.planner import Planner
from clusteradm.playbook.state import RunState

if TYPE_CHECKING:
    from clusteradm.transport import Connections

INSTALL_PYTHON = "Install python3"
# How long an interrupted run waits for its batches to stop.
_CANCEL_SECONDS = 5.0


class PlaybookRun:
    """One run of a playbook. `limit`: an Ansible host pattern; `check`: change nothing; `diff`: results have diffs."""

    def __init__(
        self,
        playbook: Playbook,
        connections: Connections,
        *,
        check: bool = False,
        diff: bool = False,
        limit: str | None = None,
        templates: Templates | None = None,
        files: Files | None = None,
    ) -> None:
        """`files`: provides what plays want (run/files.py). Raises UsageError if `limit` matches no host."""
        self._playbook = playbook
        self._connections = connections
        cluster = playbook.cluster
        self._hosts = cluster.select(limit) if limit is not None else tuple(cluster.hosts.values())
        if not self._hosts:
            raise UsageError(f"the limit {limit!r} matches no host")
        self._run_state = RunState(cluster.hosts.values())
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self.recap = Recap({host.name: HostRecap() for host in self._in_plays()})
        # The current play, counted from 0, and the hosts that have completed it.
        self._number = 0
        self._completed: set[str] = set()
        planner = Planner(
            playbook,
            self._run_state,
            templates or Templates(),
            check=check,
            diff=diff,
            limit=limit,
            host_keys=_accepted_keys(connections),
            files=files.known if files is not None else None,
        )
        self._files = files
        self._shared = Shared(
            connections=connections,
            run_state=self._run_state,
            planner=planner,
            check=check,
            emit=self._events.put,
            slots=threading.BoundedSemaphore(max(1, connections.forks)),
            run_id=f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(3)}",
        )

        if not check:
            connections.on_missing_python = self._install_python

    def execute(self, on_event: Callable[[Event], None]) -> Recap:
        """Run every play. `on_event` is called in this thread, with events in order per host.

        A host that fails or is unreachable leaves the run; the others go on. On Ctrl-C every running batch is cancelled
        and the recap names what was not completed; a second Ctrl-C does not wait for that. The same where `on_event`
        raises, which is raised again: `recap` then has what there is.
        """
        begun = False
        try:
            self._connections.open(self._in_plays())
            begun = True
            self._plays(on_event)
        except BaseException as error:
            # Ctrl-C, or an event that cannot be shown: the reader of the output has gone.
            self._name_interrupted()
            if not begun or not isinstance(error, KeyboardInterrupt):
                raise
        return self.recap

    def _plays(self, on_event: Callable[[Event], None]) -> None:
        for number, play in enumerate(self._playbook.plays):
            self._number, self._completed = number, set()
            targeted = self._of_play(play)
            hosts = [host for host in targeted if self._run_state.hosts[host.name].alive]
            for batch in batches(hosts, play.serial):
                names, plays = tuple(host.name for host in batch), len(self._playbook.plays)
                on_event(PlayStarted(play.name, names, number + 1, plays, len(play.pre_tasks) + len(play.tasks)))
                if not batch:
                    continue
                self._run_state.begin_play(play, [host.name for host in batch], [host.name for host in targeted])
                self._provide(play)
                self._play(number, play, batch, on_event)
                if self._run_state.is_over():  # as in Ansible, also where a play has lost all its hosts
                    self._end_early(number, on_event)
                    return

    def _provide(self, play: Play) -> None:
        """Have the files at hand that the play's hosts want. In this thread: a person may be asked."""
        if self._files is None:
            return
        states = [self._run_state.hosts[name] for name in self._run_state.members]
        found = wanted(play, states, self._shared.planner)
        if found:
            self._files.provide(found)

    def _name_interrupted(self) -> None:
        """Put every host with a play that it has not completed into the recap."""
        for number, play in enumerate(self._playbook.plays[self._number :], self._number):
            for host in self._of_play(play):
                completed = number == self._number and host.name in self._completed
                left = not self._run_state.hosts[host.name].alive or self.recap.hosts[host.name].stopped_at
                if not completed and not left:
                    self.recap.interrupted.setdefault(host.name, play.name)

    def _install_python(self, host: Host, install: Callable[[Callable[[str], None]], None]) -> None:
        """Install python3, which no task can do without it; reported and counted as a task."""
        play = self._run_state.play.name if self._run_state.play else ""
        about = (host.name, play, INSTALL_PYTHON)
        self._events.put(TaskStarted(*about))
        install(lambda text: self._events.put(TaskOutput(*about, text)))
        if host.name in self.recap.hosts:
            self.recap.hosts[host.name].count("changed", False)
        self._events.put(TaskFinished(*about, "changed", {"changed": True}))

    def _of_play(self, play: Play) -> list[Host]:
        chosen = {host.name for host in self._hosts}
        return [host for host in self._playbook.cluster.select(play.hosts) if host.name in chosen]

    def _in_plays(self) -> list[Host]:
        """The hosts that take part in at least one play."""
        names = {host.name for play in self._playbook.plays for host in self._of_play(play)}
        return [host for host in self._hosts if host.name in names]

    def _play(self, number: int, play: Play, hosts: list[Host], on_event: Callable[[Event], None]) -> None:
        """Run one play on these hosts. What interrupts it is raised again once the hosts have stopped."""
        runs = [HostRun(self._shared, play, number, host, self.recap.hosts[host.name]) for host in hosts]
        for run in runs:
            threading.Thread(target=run.run, name=run.host.name, daemon=True).start()
        left = len(runs)
        try:
            while left:
                event = self._events.get()
                if event is None:
                    left -= 1
                else:
                    on_event(event)
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            self._interrupt(runs, left, on_event if interrupted else lambda event: None)
            raise
        finally:
            self.recap.interrupted = {run.host.name: run.task or play.name for run in runs if not run.finished}
            self._completed |= {run.host.name for run in runs if run.finished}

    def _end_early(self, number: int, on_event: Callable[[Event], None]) -> None:
        """Report every host that the remaining plays will not reach."""
        for later in self._playbook.plays[number:]:
            for host in self._of_play(later):
                recap = self.recap.hosts[host.name]
                if self._run_state.hosts[host.name].alive and not recap.stopped_at:
                    recap.stopped_at, recap.reason = later.name, ENDED
                    on_event(HostLost(host.name, later.name, "", ENDED))

    def _interrupt(self, runs: list[HostRun], left: int, on_event: Callable[[Event], None]) -> None:
        self._run_state.cancel()
        for run in runs:  # side by side: a host that takes nothing must not keep the others waiting
            threading.Thread(target=run.cancel, daemon=True).start()
        deadline = time.monotonic() + _CANCEL_SECONDS
        while left:
            try:
                event = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return
            if event is None:
                left -= 1
            else:
                on_event(event)


def _accepted_keys(connections: Connections) -> Callable[[Host], list[str]]:
    """For each host, the ssh-ed25519 key accepted of it, in base64, or none. Read once: contact comes first."""

    @functools.cache
    def of(address: str, port: int) -> tuple[str, ...]:
        key = connections.known_hosts.of(address, port).get("ssh-ed25519")
        return () if key is None else (key.get_base64(),)

    def accepted(host: Host) -> list[str]:
        reached = connections.resolved(host)
        return [] if host.is_local else list(of(reached.address, reached.port))

    return accepted


def batches(hosts: list[Host], serial: Sequence[int | str]) -> Iterator[list[Host]]:
    """The hosts in groups of these sizes (`serial`), the last size repeated. A string is a number or a percentage."""
    if not serial:
        yield hosts
        return
    sizes = list(serial)
    start = 0
    while start < len(hosts):
        size = str(sizes.pop(0) if len(sizes) > 1 else sizes[0])
        count = max(1, len(hosts) * int(size[:-1]) // 100) if size.endswith("%") else int(size)
        yield hosts[start : start + count]
        start += count
