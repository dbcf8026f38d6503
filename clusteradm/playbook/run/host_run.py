"""Run of one play on one host: its tasks are planned, cut into batches, sent, and their results processed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clusteradm.errors import ClusteradmError, HostFailed, HostUnreachable, TooManyOpenFiles
from clusteradm.inventory import Host
from clusteradm.node.spec.wire.node import COMPLETE, END, BatchEvent, GatherFacts
from clusteradm.playbook import result as results
from clusteradm.playbook.model import Play, Step
from clusteradm.playbook.run import reconnection
from clusteradm.playbook.run.event import Event, HostLost, HostRecap, HostWaiting, TaskFinished, TaskOutput, TaskStarted
from clusteradm.playbook.run.planner import Planned, Planner, TaskError
from clusteradm.playbook.run.remote_batch import RemoteBatch
from clusteradm.playbook.state import BEGINNING, Cancelled, HostState, Pending, RunState

if TYPE_CHECKING:
    from clusteradm.transport import Connections

GATHERING = "Gathering Facts"
ENDED = "the run ended early: too many hosts failed, or one failed at a task that is fatal for all"


class _HostFailed(Exception):
    """A task failed: the host leaves the run. `fatal`: so do all others."""

    def __init__(self, *, fatal: bool) -> None:
        self.fatal = fatal


class _RunEnded(Exception):
    """Failures on other hosts end the run for this one as well."""


@dataclass(frozen=True)
class Shared:
    """Objects that all threads of a run share. `slots`: bounds how many hosts are worked on at a time (--forks)."""

    connections: Connections
    run_state: RunState
    planner: Planner
    check: bool
    emit: Callable[[Event | None], None]
    slots: threading.BoundedSemaphore
    run_id: str


class HostRun:
    """One play on one host, in a thread of its own. `task`: name of the current one; `finished`: not interrupted."""

    def __init__(self, shared: Shared, play: Play, number: int, host: Host, recap: HostRecap) -> None:
        self.host = host
        self.task = ""
        self.finished = False
        self._shared = shared
        self._run_state = shared.run_state
        self._play = play
        self._number = number
        self._recap = recap
        self._state = shared.run_state.hosts[host.name]
        self._batch: list[Planned] = []
        # Planned tasks of the batch whose results have been processed, from its beginning.
        self._processed = 0
        # Batches sent so far: part of the next one's name.
        self._batches = 0
        # The node's last event of the batch.
        self._end: BatchEvent | None = None
        # Whether the last failure that the node reported is none by failed_when, or to be expected in check mode.
        self._overruled = False
        # The step that the host is at, for the decision whether a failure ends the run.
        self._at = BEGINNING
        self._sent: RemoteBatch | None = None

    def run(self) -> None:
        """Run the play until its end, or until the host leaves it. Never raises."""
        try:
            with self._shared.slots:
                if self._run_state.cancelled:
                    raise Cancelled
                self._facts()
                self._steps()
            self.finished = True
        except _HostFailed as failure:
            self._leave("", fatal=failure.fatal)
        except _RunEnded:
            self._recap.stopped_at, self._recap.reason = self.task, ENDED
            self._emit(HostLost(*self._here, ENDED))
            self.finished = True
        except Cancelled:
            pass
        except HostUnreachable as error:
            self._leave(_reason(error), unreachable=1)
        except ClusteradmError as error:
            self._leave(_reason(error), failed=1)
        except Exception as error:
            if TooManyOpenFiles.is_cause(error):
                self._leave(_reason(TooManyOpenFiles()), failed=1)
            else:
                self._leave(f"internal error: {type(error).__name__}: {error}", failed=1)
        self._shared.emit(None)

    def cancel(self) -> None:
        """Stop before the next task. Called from another thread."""
        batch = self._sent
        if batch is not None:
            with contextlib.suppress(ClusteradmError, OSError):
                batch.cancel()

    def _leave(self, reason: str, unreachable: int = 0, failed: int = 0, *, fatal: bool = False) -> None:
        if self._run_state.cancelled:
            return
        self.finished = True
        self._recap.unreachable += unreachable
        self._recap.failed += failed
        self._recap.stopped_at = self.task
        self._recap.reason = reason or self._recap.reason
        if reason:
            self._emit(HostLost(*self._here, reason))
        self._run_state.leave(self._state, self._at, fatal=fatal)

    @property
    def _here(self) -> tuple[str, str, str]:
        """Host, play and current task: the first fields of its events."""
        return self.host.name, self._play.name, self.task

    def _emit(self, event: Event) -> None:
        self._shared.emit(event)

    def _facts(self) -> None:
        if self._play.gather_facts:
            self.task = GATHERING
            self._emit(TaskStarted(*self._here))
            self._state.facts = self._shared.connections.node(self.host).call(GatherFacts()).facts
            self._recap.count("ok", False)
            self._emit(TaskFinished(*self._here, "ok", {"ansible_facts": dict(self._state.facts)}))
        self._run_state.advance(self._state, BEGINNING + 1)

    def _steps(self) -> None:
        steps = self._play.steps
        position = 0
        while position < len(steps):
            if self._run_state.cancelled:
                raise Cancelled
            if not self._batch:
                self._run_state.advance(self._state, position)
            step = steps[position]
            if self._play.strategy == "linear" and not self._may_begin(step):
                position += 1
                continue
            if step.is_handler and not self._may_run(step):
                position += 1
                continue
            try:
                planned = self._shared.planner.plan(self._state, self._play, step)
            except Pending as pending:
                if self._batch:
                    self._flush()
                else:
                    self.task = step.task.name
                    self._emit(TaskOutput(*self._here, str(pending)))
                    self._wait_for([pending.host], pending.position)
                continue
            if step.is_handler and self._batch and (planned.request is None or step.task.is_alone):
                self._flush()  # a handler that does not run on the node needs to know whether it was notified
                continue
            position += 1
            self._add(planned)
        self._flush()
        self._run_state.advance(self._state, len(steps))

    def _may_begin(self, step: Step) -> bool:
        """Wait until every host has done the steps before. False if another host does this step for all (run_once)."""
        self._flush()
        self._wait_for(self._run_state.members, step.index - 1)
        self._at = step.index
        if self._run_state.is_over(step.index):
            self.task = step.task.name
            raise _RunEnded
        if not step.task.run_once:
            return True
        chosen = self._run_state.host_of_run_once(step.index)
        if chosen != self.host.name:
            self._wait_for([chosen], step.index)
        return chosen == self.host.name

    def _may_run(self, step: Step) -> bool:
        """Whether a handler is notified, or may be by the tasks in the batch."""
        waiting = (planned.request["notify"] for planned in self._batch if planned.request is not None)
        return step.handler in self._state.notified or any(step.handler in notified for notified in waiting)

    def _add(self, planned: Planned) -> None:
        """Add a task to the batch; run the batch if it cannot grow further."""
        task = planned.task
        if planned.request is not None and task.is_alone:
            self._flush()
            self._begin(planned)
            self._process(planned, self._alone(planned), completed=True)
            return
        self._batch.append(planned)
        failed = planned.result is not None and planned.result.get("failed") and not task.ignore_errors
        if failed or task.needs_admin or not any(each.request for each in self._batch):
            self._flush()

    def _begin(self, planned: Planned) -> None:
        self.task = planned.name
        self._emit(TaskStarted(*self._here))

    def _wait_for(self, hosts: Iterable[str], position: int) -> None:
        """Wait until other hosts have done the step at `position`; this host's slot is free meanwhile."""
        behind = [name for name in hosts if not self._run_state.reached(name, position)]
        if not behind:
            return
        self._shared.slots.release()
        try:
            self._run_state.wait(lambda: all(self._run_state.reached(name, position) for name in behind))
        finally:
            self._shared.slots.acquire()

    def _flush(self) -> None:
        """Run the batch, process all of its results, and empty it."""
        while any(planned.request for planned in self._batch):
            end = self._apply()
            if end is not None and end.status == COMPLETE:
                break
            if not self._overruled:
                raise _ended_early(end, self.host)
            # The node stopped at a failure that is overruled here: send the rest.
            self._batch, self._processed = self._batch[self._processed :], 0
        self._process_local(len(self._batch))
        self._batch, self._processed = [], 0

    def _apply(self) -> BatchEvent | None:
        """Run the batch on the node; returns its last event."""
        blobs = {name: body for planned in self._batch for name, body in planned.blobs.items()}
        requests = [planned.request for planned in self._batch if planned.request is not None]
        self._end, self._overruled = None, False
        self._send(RemoteBatch(self._shared.connections, self.host, self._on_event, self._on_lost), requests, blobs)
        return self._end

    def _on_lost(self, reason: str) -> None:
        self._emit(HostWaiting(*self._here, f"{reason}; reconnecting, the batch goes on there meanwhile"))

    def _on_event(self, event: BatchEvent) -> None:
        kind = event.kind
        if kind == "waiting":
            self._emit(HostWaiting(*self._here, f"an earlier run is still busy here (batch {event.batch})"))
        elif kind == END:
            self._end = event
        else:
            position, planned = self._find(event.task)
            if kind == "start":
                self._process_local(position)
                self._begin(planned)
            elif kind == "line":
                if not planned.task.no_log:
                    self._emit(TaskOutput(*self._here, event.text))
            elif kind == "result":
                self._process_local(position)
                self._processed = position + 1
                self._process(planned, event.result)

    def _find(self, index: int | None) -> tuple[int, Planned]:
        for position, planned in enumerate(self._batch):
            if planned.step.index == index:
                return position, planned
        raise ClusteradmError(f"the node reports a task {index} that it was not given")

    def _process_local(self, end: int) -> None:
        """Process the results of tasks before `end` in the batch that the node was not asked about."""
        while self._processed < end:
            planned = self._batch[self._processed]
            self._processed += 1
            if planned.result is not None:
                self._begin(planned)
                self._process(planned, planned.result)
            else:  # a handler that nothing notified
                self._run_state.advance(self._state, planned.step.index + 1)

    def _process(self, planned: Planned, outcome: dict[str, Any], *, completed: bool = False) -> None:
        """Register, count and report a task's result. Raises _HostFailed if the host leaves the run.

        `completed`: `outcome` is the planner's completed result, not the node's.
        """
        task, state = planned.task, self._state
        check = self._shared.check if task.check_mode is None else task.check_mode
        if planned.request is not None:
            before = outcome.get("failed")
            outcome = outcome if completed else self._shared.planner.complete(planned, outcome)
            if self._shared.check and check and state.changes_pending and outcome.get("failed"):
                why = outcome.get("msg", "")
                outcome = {"unknown": True, "msg": f"fails without the earlier changes that a run would make: {why}"}
            self._overruled = bool(before and not outcome.get("failed"))
        status = results.status_of(outcome)
        if status == "failed" and self._run_state.cancelled:
            raise Cancelled  # a cancelled task is no failure
        if self._shared.check and status in ("changed", "unknown") and check:
            state.changes_pending = True
        self._keep(planned, outcome, forecast=self._shared.check and check)
        if planned.step.handler is not None:
            state.notified.discard(planned.step.handler)
        if status == "changed":
            state.notified |= set(self._play.notified_by(task))
        self._recap.count(status, task.ignore_errors)
        shown = results.censored(outcome) if task.no_log else outcome
        about = (self.host.name, self._play.name, planned.name)
        self._emit(TaskFinished(*about, status, shown, task.module, task.place, task.ignore_errors, check))
        if status == "failed" and not task.ignore_errors:
            self._recap.reason = str(shown.get("msg") or shown.get("censored", ""))
            raise _HostFailed(fatal=task.any_errors_fatal or task.run_once)
        self._run_state.advance(state, planned.step.index + 1)

    def _keep(self, planned: Planned, outcome: dict[str, Any], *, forecast: bool) -> None:
        """Keep what the task registers and sets: for this host, or for all if the task is run_once."""
        task = planned.task
        kept: dict[str, Any] = {}
        for one in outcome.get("results", ()) if planned.items is not None else (outcome,):
            kept.update(one.get("ansible_facts", {}) if task.module == "set_fact" else {})
        if task.register:
            kept[task.register] = results.forecast(outcome, task.name) if forecast else outcome
        names = self._run_state.hosts_left(self._run_state.members) if task.run_once else [self.host.name]
        for name in names:
            self._run_state.hosts[name].results.update(kept)

    def _alone(self, planned: Planned) -> dict[str, Any]:
        """Run a task that cannot be part of a batch; returns its completed result."""
        planner = self._shared.planner
        try:
            delegate = planner.delegate(planned)
            attempts, delay = planner.attempts(planned) if planned.task.until else (1, 0.0)
        except TaskError as error:
            return results.failed(str(error))
        for attempt in range(1, attempts + 1):
            outcome = planner.complete(planned, self._attempt(planned, delegate))
            if not planned.task.until or outcome.get("unknown"):
                return outcome
            try:
                done = planner.is_done(planned, outcome)
            except Exception as error:
                return results.failed(f"{planned.task.place}: until: {error}")
            outcome["attempts"] = attempt
            if done:
                return outcome
            if attempt < attempts:
                self._emit(TaskOutput(*self._here, f"not yet: attempt {attempt} of {attempts}"))
                self._pause(delay)
        return {**outcome, "failed": True, "attempts": attempts - 1}

    def _attempt(self, planned: Planned, delegate: HostState | None) -> dict[str, Any]:
        if planned.task.module == "wait_for_connection":
            return reconnection.wait(planned, self.host, self._shared.connections, self._pause)
        host, guest = (delegate.host, self.host.name) if delegate is not None else (self.host, "")
        if planned.task.module == "reboot" and host.is_local:
            return reconnection.refused(host)
        found: dict[str, Any] = {}
        end: list[BatchEvent] = []

        def on_event(event: BatchEvent) -> None:
            if event.kind == "result":
                found.update(event.result)
            elif event.kind == END:
                end.append(event)
            elif event.kind == "line" and not planned.task.no_log:
                self._emit(TaskOutput(*self._here, event.text))

        request = {**(planned.request or {}), "handler": None}
        batch = RemoteBatch(self._shared.connections, host, on_event, self._on_lost, guest)
        self._send(batch, [request], planned.blobs)
        if not found:
            raise _ended_early(end[-1] if end else None, host)
        if planned.task.module == "reboot" and not request["check"]:
            return reconnection.reboot(planned, found, self.host, self._shared.connections, self._pause)
        return found

    def _send(self, batch: RemoteBatch, requests: list[dict[str, Any]], blobs: Mapping[str, bytes]) -> None:
        """Run one batch to its end. Raises Cancelled if the run was interrupted meanwhile."""
        self._batches += 1
        self._sent = batch
        name = f"{self._shared.run_id}-{self.host.name}-{self._number}-{self._batches}"
        batch.run(name, {"notified": sorted(self._state.notified), "tasks": requests}, blobs)
        self._sent = None
        if self._run_state.cancelled:
            raise Cancelled

    def _pause(self, seconds: float) -> None:
        self._run_state.wait(lambda: False, timeout=seconds)


def _ended_early(end: BatchEvent | None, host: Host) -> HostFailed:
    reason = end.msg if end is not None else ""
    return HostFailed(reason or "the node ended the batch early", where=host.name)


def _reason(error: ClusteradmError) -> str:
    """The text of an error of this host, without the host's name."""
    return f"{error.what}; {error.next_step}" if error.next_step else error.what
