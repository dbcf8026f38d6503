"""One play on one host: plan, cut into batches, send them, take up the results."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clusteradm.errors import ClusteradmError, HostFailed, HostUnreachable
from clusteradm.inventory import Host
from clusteradm.node.spec.wire.node import COMPLETE, END, BatchEvent, GatherFacts
from clusteradm.playbook import result as results
from clusteradm.playbook.model import Play, Step
from clusteradm.playbook.run import reconnection
from clusteradm.playbook.run.conversation import Conversation
from clusteradm.playbook.run.event import Event, HostRecap
from clusteradm.playbook.run.planner import Planned, Planner, TaskError
from clusteradm.playbook.state import BEGINNING, Board, Cancelled, HostState, Pending

if TYPE_CHECKING:
    from clusteradm.transport import Connections

GATHERING = "Gathering Facts"
ENDED = "the run has ended here: too many hosts had failed, or one at a task that is fatal for all"


class _Stopped(Exception):
    """A task failed: the host takes no further part. `fatal`: nor does any other."""

    def __init__(self, *, fatal: bool) -> None:
        super().__init__()
        self.fatal = fatal


class _Broken(Exception):
    """What happened on other hosts ends the play for this one as well."""


@dataclass(frozen=True)
class Shared:
    """What the threads of a run have in common. `slots`: as many hosts as this are worked on at a time."""

    connections: Connections
    board: Board
    planner: Planner
    check: bool
    emit: Callable[[Event | None], None]
    slots: threading.BoundedSemaphore
    run_id: str


class HostRun:
    """One play on one host, in a thread of its own. `task`: what it is at, for whoever asks."""

    def __init__(self, shared: Shared, play: Play, number: int, host: Host, recap: HostRecap) -> None:
        self.host = host
        self.task = ""
        self.finished = False
        self._shared = shared
        self._board = shared.board
        self._play = play
        self._number = number
        self._recap = recap
        self._state = shared.board.states[host.name]
        self._batch: list[Planned] = []
        self._settled = 0
        self._batches = 0
        self._end: BatchEvent | None = None
        self._forgave = False
        self._at = BEGINNING
        self._conversation: Conversation | None = None

    def run(self) -> None:
        """Run the play to its end, or to the host's. Never raises."""
        try:
            with self._shared.slots:
                if self._board.cancelled:
                    raise Cancelled
                self._facts()
                self._steps()
            self.finished = True
        except _Stopped as stopped:
            self._out("", fatal=stopped.fatal)
        except _Broken:
            self._recap.stopped_at, self._recap.reason = self.task, ENDED
            self._emit("lost", text=ENDED)
            self.finished = True
        except Cancelled:
            pass
        except HostUnreachable as error:
            self._out(_words(error), unreachable=1)
        except ClusteradmError as error:
            self._out(_words(error), failed=1)
        except Exception as error:
            self._out(f"internal error: {type(error).__name__}: {error}", failed=1)
        self._shared.emit(None)

    def cancel(self) -> None:
        """Stop before the next task. Called from another thread."""
        conversation = self._conversation
        if conversation is not None:
            with contextlib.suppress(ClusteradmError, OSError):
                conversation.cancel()

    def _out(self, reason: str, unreachable: int = 0, failed: int = 0, *, fatal: bool = False) -> None:
        if self._board.cancelled:
            return
        self.finished = True
        self._recap.unreachable += unreachable
        self._recap.failed += failed
        self._recap.stopped_at = self.task
        self._recap.reason = reason or self._recap.reason
        if reason:
            self._emit("lost", text=reason)
        self._board.end(self._state, self._at, fatal=fatal)

    def _emit(self, kind: Any, planned: Planned | None = None, **fields: Any) -> None:
        if planned is not None:
            fields.update(task=planned.name, module=planned.task.module, place=planned.task.place)
        self._shared.emit(Event(kind, host=self.host.name, play=self._play.name, **{"task": self.task, **fields}))

    def _facts(self) -> None:
        if self._play.gather_facts:
            self.task = GATHERING
            self._emit("start")
            self._state.facts = self._shared.connections.node(self.host).call(GatherFacts()).facts
            self._recap.count("ok", False)
            self._emit("result", status="ok", result={"ansible_facts": dict(self._state.facts)})
        self._board.advance(self._state, BEGINNING + 1)

    def _steps(self) -> None:
        steps = self._play.steps
        position = 0
        while position < len(steps):
            if self._board.cancelled:
                raise Cancelled
            if not self._batch:
                self._board.advance(self._state, position)
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
                    self._emit("line", text=str(pending))
                    self._wait_for([pending.host], pending.position)
                continue
            if step.is_handler and self._batch and (planned.request is None or step.task.is_alone):
                self._flush()  # what the node is not asked about is only done if it really was notified
                continue
            position += 1
            self._take(planned)
        self._flush()
        self._board.advance(self._state, len(steps))

    def _may_begin(self, step: Step) -> bool:
        """Wait until every host has done what comes before. False where another one does the step for all."""
        self._flush()
        self._wait_for(self._board.members, step.index - 1)
        self._at = step.index
        if self._board.broken(step.index):
            self.task = step.task.name
            raise _Broken
        if not step.task.run_once:
            return True
        doer = self._board.once(step.index)
        if doer != self.host.name:
            self._wait_for([doer], step.index)
        return doer == self.host.name

    def _may_run(self, step: Step) -> bool:
        """Whether a handler is notified, or may be by what is in the batch."""
        waiting = (planned.request["notify"] for planned in self._batch if planned.request is not None)
        return step.handler in self._state.notified or any(step.handler in notified for notified in waiting)

    def _take(self, planned: Planned) -> None:
        task = planned.task
        if planned.request is not None and task.is_alone:
            self._flush()
            self._begin(planned)
            self._settle(planned, self._alone(planned), judged=True)
            return
        self._batch.append(planned)
        failed = planned.result is not None and planned.result.get("failed") and not task.ignore_errors
        if failed or task.is_judged or not any(each.request for each in self._batch):
            self._flush()

    def _begin(self, planned: Planned) -> None:
        self.task = planned.name
        self._emit("start", planned)

    def _wait_for(self, hosts: Iterable[str], position: int) -> None:
        """Wait until other hosts have done the step at `position`, and let one of them have our slot meanwhile."""
        behind = [name for name in hosts if not self._board.reached(name, position)]
        if not behind:
            return
        self._shared.slots.release()
        try:
            self._board.wait(lambda: all(self._board.reached(name, position) for name in behind))
        finally:
            self._shared.slots.acquire()

    def _flush(self) -> None:
        """Run what is in the batch, and settle all of it."""
        while any(planned.request for planned in self._batch):
            end = self._apply()
            if end is not None and end.status == COMPLETE:
                break
            if not self._forgave:
                raise _ended_early(end, self.host)
            # It stopped at a failure that is none: foreseen in check mode, or judged otherwise here. On with the rest.
            self._batch, self._settled = self._batch[self._settled :], 0
        self._catch_up(len(self._batch))
        self._batch, self._settled = [], 0

    def _apply(self) -> BatchEvent | None:
        """Have the node run the batch; returns its last event."""
        blobs = {name: body for planned in self._batch for name, body in planned.blobs.items()}
        requests = [planned.request for planned in self._batch if planned.request is not None]
        self._end, self._forgave = None, False
        self._converse(
            Conversation(self._shared.connections, self.host, self._on_event, self._on_lost), requests, blobs
        )
        return self._end

    def _on_lost(self, reason: str) -> None:
        self._emit("waiting", text=f"{reason}; connecting again, what was begun goes on there meanwhile")

    def _on_event(self, event: BatchEvent) -> None:
        kind = event.kind
        if kind == "waiting":
            self._emit("waiting", text=f"an earlier run is still at work here (batch {event.batch})")
        elif kind == END:
            self._end = event
        else:
            position, planned = self._find(event.task)
            if kind == "start":
                self._catch_up(position)
                self._begin(planned)
            elif kind == "line":
                if not planned.task.no_log:
                    self._emit("line", planned, text=event.text)
            elif kind == "result":
                self._catch_up(position)
                self._settled = position + 1
                self._settle(planned, event.result)

    def _find(self, index: int | None) -> tuple[int, Planned]:
        for position, planned in enumerate(self._batch):
            if planned.step.index == index:
                return position, planned
        raise ClusteradmError(f"the node speaks of a task {index} that it was not given")

    def _catch_up(self, end: int) -> None:
        """Settle what was decided here and stands before `end` in the batch."""
        while self._settled < end:
            planned = self._batch[self._settled]
            self._settled += 1
            if planned.result is not None:
                self._begin(planned)
                self._settle(planned, planned.result)
            else:  # a handler that nobody notified
                self._board.advance(self._state, planned.step.index + 1)

    def _settle(self, planned: Planned, outcome: dict[str, Any], *, judged: bool = False) -> None:
        """A task's result is there: keep it, count it, tell it. Raises _Stopped if the host cannot go on."""
        task, state = planned.task, self._state
        check = self._shared.check if task.check_mode is None else task.check_mode
        if planned.request is not None:
            before = outcome.get("failed")
            outcome = outcome if judged else self._shared.planner.judge(planned, outcome)
            if self._shared.check and check and state.disturbed and outcome.get("failed"):
                why = outcome.get("msg", "")
                outcome = {"unknown": True, "msg": f"fails as things are now, which a run would change before: {why}"}
            self._forgave = bool(before and not outcome.get("failed"))
        status = results.status_of(outcome)
        if status == "failed" and self._board.cancelled:
            raise Cancelled  # it was told to stop: that is no failure
        if self._shared.check and status in ("changed", "unknown") and check:
            state.disturbed = True
        self._keep(planned, outcome, forecast=self._shared.check and check)
        if planned.step.handler is not None:
            state.notified.discard(planned.step.handler)
        if status == "changed":
            state.notified |= set(self._play.notified_by(task))
        self._recap.count(status, task.ignore_errors)
        shown = results.censored(outcome) if task.no_log else outcome
        self._emit("result", planned, status=status, result=shown, ignored=task.ignore_errors, check=check)
        if status == "failed" and not task.ignore_errors:
            self._recap.reason = str(shown.get("msg") or shown.get("censored", ""))
            raise _Stopped(fatal=task.any_errors_fatal or task.run_once)
        self._board.advance(state, planned.step.index + 1)

    def _keep(self, planned: Planned, outcome: dict[str, Any], *, forecast: bool) -> None:
        """Keep what the task registers and sets, for this host or, of a run_once task, for all."""
        task = planned.task
        kept: dict[str, Any] = {}
        for one in outcome.get("results", ()) if planned.items is not None else (outcome,):
            kept.update(one.get("ansible_facts", {}) if task.module == "set_fact" else {})
        if task.register:
            kept[task.register] = results.forecast(outcome, task.name) if forecast else outcome
        names = self._board.hosts_left(self._board.members) if task.run_once else [self.host.name]
        for name in names:
            self._board.states[name].results.update(kept)

    def _alone(self, planned: Planned) -> dict[str, Any]:
        """A task that no batch can hold: its judged result."""
        planner = self._shared.planner
        try:
            delegate = planner.delegate(planned)
            attempts, delay = planner.attempts(planned) if planned.task.until else (1, 0.0)
        except TaskError as error:
            return results.failed(str(error))
        for attempt in range(1, attempts + 1):
            outcome = planner.judge(planned, self._once(planned, delegate))
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
                self._emit("line", planned, text=f"not yet: attempt {attempt} of {attempts}")
                self._pause(delay)
        return {**outcome, "failed": True, "attempts": attempts - 1}

    def _once(self, planned: Planned, delegate: HostState | None) -> dict[str, Any]:
        if planned.task.module == "wait_for_connection":
            return reconnection.wait(planned, self.host, self._shared.connections, self._pause)
        host, guest = (delegate.host, self.host.name) if delegate is not None else (self.host, "")
        found: dict[str, Any] = {}
        end: list[BatchEvent] = []

        def on_event(event: BatchEvent) -> None:
            if event.kind == "result":
                found.update(event.result)
            elif event.kind == END:
                end.append(event)
            elif event.kind == "line" and not planned.task.no_log:
                self._emit("line", planned, text=event.text)

        request = {**(planned.request or {}), "handler": None}
        self._converse(
            Conversation(self._shared.connections, host, on_event, self._on_lost, guest), [request], planned.blobs
        )
        if not found:
            raise _ended_early(end[-1] if end else None, host)
        if planned.task.module == "reboot" and not request["check"]:
            return reconnection.reboot(planned, found, self.host, self._shared.connections, self._pause)
        return found

    def _converse(self, conversation: Conversation, requests: list[dict[str, Any]], blobs: Mapping[str, bytes]) -> None:
        """Have one batch done. Raises Cancelled where the run was interrupted meanwhile."""
        self._batches += 1
        self._conversation = conversation
        name = f"{self._shared.run_id}-{self.host.name}-{self._number}-{self._batches}"
        conversation.run(name, {"notified": sorted(self._state.notified), "tasks": requests}, blobs)
        self._conversation = None
        if self._board.cancelled:
            raise Cancelled

    def _pause(self, seconds: float) -> None:
        self._board.wait(lambda: False, timeout=seconds)


def _ended_early(end: BatchEvent | None, host: Host) -> HostFailed:
    reason = end.msg if end is not None else ""
    return HostFailed(reason or "the node ended its work early", where=host.name)


def _words(error: ClusteradmError) -> str:
    """What an error of this host says; whose it is need not be said again."""
    return f"{error.what}; {error.next_step}" if error.next_step else error.what
