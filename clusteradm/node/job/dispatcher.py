"""Rank 0: hands out chunks, journals their results."""

import json
import os
import sys
import time
from typing import Any, Dict, List, Optional, Sequence, Set, Union

from clusteradm.node.job import channel as channels
from clusteradm.node.job import files, reports, timeline
from clusteradm.node.job import journal as journals
from clusteradm.node.job.attendance import SILENT_SECONDS, Attendance
from clusteradm.node.job.channel import Channel, Message
from clusteradm.node.job.deadlines import Deadlines
from clusteradm.node.job.pipelines import Pipelines, anew, assignments
from clusteradm.node.job.schedule import LEAST, Schedule
from clusteradm.node.job.source import Listed, Stream
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.decode import WireError
from clusteradm.node.spec.wire.job import (
    OTHER,
    PARTNER,
    SILENT,
    TPU,
    AttemptPlan,
    Progress,
    RankProgress,
    StoredSpec,
    Suspects,
)

# Ranks start within seconds of each other. So that no rank's start-up counts as work, all are waited for, to a limit.
READY_SECONDS = 30.0  # after the first is ready
READY_AGAIN_SECONDS = 2.0  # the same in another attempt, which comes after a fault
PROGRESS_EVERY = 0.5
IDLE_EVERY = 5.0  # the same where inputs are waited for, and nothing has changed
LOOK_EVERY = 0.1  # for silent ranks
MOST_TURNS = 5  # of a pipeline that begins anew, in a row, without a result
# Between two polls where there was nothing: a rank that has delivered a chunk has another still, which takes it so many
# times as long.
LONGEST_NAP = 0.08
NAPS_A_CHUNK = 5
SHORT_NAP = 0.004  # the same until a chunk's time is known
IDLE_NAP = 0.02  # where no rank has a chunk, as in a job that waits for inputs


class Dispatcher:
    """The state of one attempt. Times that are reported are seconds since 1970: they outlive a restart of the head."""

    def __init__(self, folder: str, attempt: int, channel: Channel) -> None:
        self._run = os.path.join(folder, job_names.RUN)
        spec = files.read(StoredSpec, os.path.join(folder, job_names.SPEC))
        plan = files.read(AttemptPlan, os.path.join(self._run, job_names.ATTEMPT % attempt))
        if spec is None or plan is None:
            raise RuntimeError("%s has no readable spec, or no plan of attempt %d" % (folder, attempt))
        self._channel = channel
        self._told = {one.place.rank: one for one in assignments(spec, attempt, plan.ranks)}
        for number, assignment in self._told.items():
            channel.send(number, channels.BEGIN, assignment)
        self._pipelines = Pipelines(plan.ranks)
        self._paces: Dict[int, float] = {}
        self._numbers: Dict[int, int] = {}  # of a result, at most
        self._turns: Dict[int, int] = {}  # first rank of a pipeline -> how often in a row it began anew
        self._outputs = files.outputs(spec.folder)
        self._journal = journals.Journal(spec.folder, attempt)
        self._timeline = timeline.begin(os.path.join(self._run, job_names.TIMELINE), attempt)
        self._source: Union[Listed, Stream]
        if spec.watch is None:
            self._source = Listed(spec, self._run)
        else:
            self._source = Stream(spec, self._run, self._journal)
        earlier = files.read(Suspects, os.path.join(self._run, job_names.SUSPECTS)) or Suspects(())
        # A chunk is to fill a pipeline: the first stage gets no further one before it has come out.
        stages = len(spec.model.pipeline.stages) if spec.model.pipeline else 1
        self._schedule = Schedule(self._source.todo, earlier.inputs, spec.model.batch, max(LEAST, 2 * stages))
        self._done = 0
        self._errors = self._source.errors
        self._ready_since: Optional[float] = None
        self._first_dispatch: Optional[float] = None
        self._last_result: Optional[float] = None
        self._ranks = {rank.rank: RankProgress(**vars(rank)) for rank in plan.ranks}
        self._attendance = Attendance(self._ranks, time.monotonic())
        self._deadlines = Deadlines(time.monotonic())
        self._silent: Dict[int, str] = {}  # rank -> its state before
        self._late: Set[int] = set()
        self._recalled = False
        self._nap = SHORT_NAP
        self._reported, self._written = "", 0.0

    def run(self) -> None:
        """Work until every input has a result and no more can come, no rank is left that could work, or the attempt is
        recalled."""
        self._report("starting")
        reported = looked = time.monotonic()
        while not (self._finished() or self._nobody_left() or self._recalled):
            more = self._source.more()
            if more:
                self._schedule.add(more)
                self._hand_out()
            message = self._channel.poll()
            if message is not None:
                self._take(message)
            else:
                if self._first_dispatch is None:
                    self._hand_out()  # the time given to ranks that start slowly may be over
                busy = self._first_dispatch is None or self._schedule.at_work
                time.sleep(self._channel.patience(self._nap if busy else IDLE_NAP))
            if time.monotonic() - looked >= LOOK_EVERY:
                looked = time.monotonic()
                self._miss(looked)
            if time.monotonic() - reported >= PROGRESS_EVERY:
                # Where none has come yet, ranks that are ready work as well: what is lost is taken back.
                at_work = self._first_dispatch or (self._source.open and self._may_start())
                self._report("running" if at_work else "starting", anew=False)
                self._recalled = os.path.lexists(os.path.join(self._run, job_names.RECALL))
                reported = time.monotonic()
        for rank in self._ranks:
            self._channel.send(rank, channels.STOP)
        self._source.close()
        self._report("finished")
        self._journal.close()
        if self._silent:  # MPI would wait for them at its end
            self._channel.abort()

    def _finished(self) -> bool:
        return self._schedule.finished and not self._source.open

    def _nobody_left(self) -> bool:
        return all(rank.state == "failed" for rank in self._ranks.values())

    def _take(self, message: Message) -> None:
        rank = self._ranks.get(message.rank)
        if rank is None or (rank.state == "failed" and message.rank not in self._silent):
            return  # nothing more is expected of it
        self._hear(message.rank)
        try:
            if message.damage is not None:
                raise WireError(message.damage)
            if message.tag == channels.READY and rank.state == "starting":
                self._note_ready(message.rank, reports.ready(message.body))
            elif message.tag == channels.FAILED:
                failure = reports.failure(message.body)
                fault = TPU if failure.tpu and rank.state == "ready" else OTHER
                if failure.turn == self._turn(message.rank) and not self._begin_anew(message.rank, failure):
                    self._give_up(message.rank, failure.error, failure.suspects, fault)
            elif message.tag == channels.RESULT and rank.state == "starting" and self._turn(message.rank):
                pass  # of before its pipeline began anew
            elif message.tag == channels.RESULT:
                self._keep(message)
                self._hand_out(self._pipelines.first(message.rank))
            elif message.tag == channels.ALIVE:
                kills = reports.alive(message.body).kills
                rank.kills = rank.kills if kills is None else kills
            else:
                raise WireError("a message with the tag %d, which was not its turn" % message.tag)
        except WireError as error:
            what = str(error)[: reports.MOST_REASON]
            self._give_up(message.rank, "%s sends what no rank sends: %s" % (rank.host, what))

    def _note_ready(self, number: int, report: reports.Ready) -> None:
        """Give a rank work, or a pipeline of which all ranks are ready."""
        if report.turn != self._turn(number):
            return
        rank = self._ranks[number]
        rank.state, rank.version, rank.tpu = "ready", report.version, report.tpu
        self._paces[number] = report.pace
        self._numbers[number] = report.numbers
        stages = self._pipelines.stages(number)
        if all(self._ranks[stage].state == "ready" for stage in stages):
            pace = max(self._paces[stage] for stage in stages) or None
            self._schedule.join(stages[0], pace, max(self._numbers[stage] for stage in stages))
        self._ready_since = self._ready_since or time.monotonic()
        self._hand_out()

    def _turn(self, number: int) -> int:
        """How often the pipeline of a rank has begun anew. What it says of another turn is of before."""
        stage = self._told[number].stage
        return stage.turn if stage is not None else 0

    def _begin_anew(self, number: int, failure: reports.Failure) -> bool:
        """Have the pipeline of a stage, whose process has ended, begin anew; False where that is no use."""
        stages, first = self._pipelines.stages(number), self._pipelines.first(number)
        turn = self._turns.get(first, 0)
        if not failure.again or len(stages) == 1 or turn == MOST_TURNS:
            return False
        self._turns[first] = turn + 1
        self._say("%s fails: %s; its pipeline begins anew" % (_place(self._ranks[number]), failure.error))
        for stage in stages:
            rank = self._ranks[stage]
            rank.state, rank.error = "starting", None
            self._told[stage] = anew(self._told[stage])
            self._channel.send(stage, channels.BEGIN, self._told[stage])
        self._lose(number, failure.suspects, "the model fails on it, twice: " + failure.error)
        self._schedule.forget(first)
        self._hand_out()
        return True

    def _lose(self, number: int, suspects: Sequence[int], error: str) -> None:
        """Others get what a rank has, or its pipeline; but for a second time with a suspect, that has an error."""
        first = self._pipelines.first(number)
        self._deadlines.leave(first)
        self._late.discard(first)
        spent = self._schedule.lose(first, suspects)
        if suspects:
            path = os.path.join(self._run, job_names.SUSPECTS)
            files.write_json(path, Suspects(tuple(self._schedule.suspects)))
        self._record(number, [{"i": index, "error": error} for index in spent])

    def _give_up(self, number: int, error: str, suspects: Sequence[int] = (), fault: str = OTHER) -> None:
        """Take no more from a rank, and its pipeline; others get what it has, but for an input with which a second rank
        has failed."""
        rank = self._ranks[number]
        for stage in self._pipelines.stages(number):
            other = self._ranks[stage]
            if other.state != "failed":
                why = error if other is rank else "another stage of its pipeline fails, %s: %s" % (_place(rank), error)
                other.state, other.error, other.fault = "failed", why, fault if other is rank else PARTNER
            self._attendance.leave(stage)
        self._say("%s fails: %s" % (_place(rank), error))
        self._lose(number, suspects, "two ranks failed with it, the second as: %s" % error)
        self._hand_out()

    def _miss(self, now: float) -> None:
        """Give to others what silent ranks have, whose host is frozen or cut off, and late ones, whose worker is."""
        self._attendance.pass_time(now)
        self._deadlines.pass_time(now)
        for number in self._attendance.silent() - self._silent.keys():
            rank = self._ranks[number]
            if len(self._pipelines.stages(number)) > 1:
                # What it had of its neighbours may be lost: the pipeline does not come back in this attempt.
                self._give_up(number, "%s has not answered for %d s" % (rank.host, SILENT_SECONDS), fault=SILENT)
                self._silent[number] = "failed"
                continue
            self._silent[number] = rank.state
            why = "%s has not answered for %d s" % (rank.host, SILENT_SECONDS)
            rank.state, rank.error, rank.fault = "failed", why, SILENT
            self._schedule.lose(number)
            self._leave_out(number, why)
        for number, seconds in self._deadlines.late().items():
            rank = self._ranks[number]
            self._late.add(number)
            rank.error = "%s has not come on with its inputs for %d s" % (rank.host, seconds)
            self._schedule.pass_over(number)
            self._leave_out(number, rank.error)

    def _leave_out(self, number: int, why: str) -> None:
        """Others get what a rank has. What it delivers of that after all counts all the same."""
        self._say("%s is left out: %s" % (_place(self._ranks[number]), why))
        self._deadlines.leave(number)
        self._hand_out()

    def _hear(self, number: int) -> None:
        """Note that a rank lives; take one back that was silent."""
        state = self._silent.pop(number, None)
        if state == "failed":
            return
        self._attendance.hear(number)
        if state is not None:
            rank = self._ranks[number]
            rank.state, rank.error, rank.fault = state, None, None
            if state == "ready" and number not in self._late:
                self._take_back(number)

    def _take_back(self, number: int) -> None:
        """Give a rank work again."""
        self._ranks[number].error = None
        self._say("%s is back" % _place(self._ranks[number]))
        self._schedule.join(number)
        if self._schedule.busy(number):  # with what it had before
            self._deadlines.begin(number)
        self._hand_out()

    def _keep(self, message: Message) -> None:
        """Journal what is new in a chunk's results."""
        body, rank = reports.delivery(message.body), self._ranks[message.rank]
        first = self._pipelines.first(message.rank)
        if not self._pipelines.is_last(message.rank):  # it has handed the chunk on
            _note(rank, body)
            return
        inputs = self._schedule.inputs(first, body.chunk)
        if inputs is None:
            raise WireError("it does not have chunk %d" % body.chunk)
        results = reports.results(body.results, inputs, self._outputs)
        answered = sum("error" not in result for result in results)
        fresh = set(self._schedule.finish(body.chunk, body.seconds, answered))
        results = [result for result in results if result["i"] in fresh]
        self._record(message.rank, results)
        self._turns.pop(first, None)
        _note(rank, body)
        self._deadlines.deliver(first, self._schedule.busy(first), worked=answered > 0)
        if first in self._late:
            self._late.discard(first)
            self._take_back(first)

    def _record(self, number: int, results: List[Dict[str, Any]]) -> None:
        """Journal results of a rank, and count them."""
        if results:
            self._source.keep(self._journal.append(number, results), results)
            self._last_result = time.time()
            self._timeline.count(self._ranks[number].host, len(results), time.monotonic())
        self._done += len(results)
        self._errors += sum("error" in result for result in results)
        self._ranks[number].images += len(results)

    def _hand_out(self, only: Optional[int] = None) -> None:
        """Give every rank, or `only` one and those that wait for faster ones, the chunks that it may have."""
        if not self._may_start():
            return
        for rank in self._schedule.ranks if only is None else [only, *self._schedule.kept_waiting]:
            chunk = self._schedule.take(rank)
            while chunk is not None:
                self._first_dispatch = self._first_dispatch or time.time()
                pieces = [self._source.piece(index) for index in chunk.inputs]
                body = {"chunk": chunk.number, "size": len(pieces), "inputs": channels.text(pieces)}
                self._channel.send(rank, channels.CHUNK, body)
                self._deadlines.begin(rank)
                part = self._schedule.seconds(chunk) / NAPS_A_CHUNK
                self._nap = max(channels.NAP, min(LONGEST_NAP, part)) if part else SHORT_NAP
                chunk = self._schedule.take(rank)

    def _may_start(self) -> bool:
        if self._first_dispatch is not None:
            return True
        if self._ready_since is None:
            return False
        starting = any(rank.state == "starting" for rank in self._ranks.values())
        patience = READY_SECONDS if self._journal.attempt == 1 else READY_AGAIN_SECONDS
        return not starting or time.monotonic() - self._ready_since > patience

    def _say(self, text: str) -> None:
        """Add a line to the job's log, by way of mpirun, and to its timeline."""
        self._timeline.note(text, time.monotonic())
        sys.stderr.write("%s %s\n" % (time.strftime("%H:%M:%S"), text))
        sys.stderr.flush()

    def _report(self, phase: str, anew: bool = True) -> None:
        """Write progress.json; if not `anew`, seldom where nothing has changed and inputs are waited for."""
        held = self._schedule.held()
        for number, rank in self._ranks.items():
            rank.queue = held.get(number, 0)
        progress = Progress(
            attempt=self._journal.attempt,
            phase=phase,
            total=self._source.total,
            done=self._source.earlier + self._done,
            errors=self._errors,
            first_dispatch=self._first_dispatch,
            last_result=self._last_result,
            now=0.0,
            ranks=tuple(self._ranks[rank] for rank in sorted(self._ranks)),
        )
        text = json.dumps(progress, default=vars)
        now = time.monotonic()
        if not anew and self._source.open and text == self._reported and now - self._written < IDLE_EVERY:
            return
        self._reported, self._written = text, now
        progress.now = time.time()
        self._timeline.write(now, progress.now, last=phase == "finished")
        files.write_json(os.path.join(self._run, job_names.PROGRESS), progress, keep=False)


def _note(rank: RankProgress, body: reports.Delivery) -> None:
    """Note the times of a rank that has done with a chunk."""
    rank.seconds += body.seconds
    rank.busy, rank.decode, rank.wait, rank.read, rank.idle = body.busy, body.decode, body.wait, body.read, body.idle


def _place(rank: RankProgress) -> str:
    return "rank %d (%s %s)" % (rank.rank, rank.host, rank.pci_address or "CPU")


def dispatch(folder: str, attempt: int, channel: Channel) -> None:
    """Run rank 0 of the job in `folder`, on the head's own disk."""
    Dispatcher(folder, attempt, channel).run()
