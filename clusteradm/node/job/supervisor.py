"""Supervisor of one job: `python3 -m clusteradm.node.job.supervisor FOLDER`, a systemd unit on the head.

FOLDER is the job's on the head's own disk: what it starts comes from there, nothing from the shared file system.
Starts mpirun; where that ends early, asks which hosts still answer and starts again on them with what the journal
lacks; writes results.jsonl when nothing is missing. Runs as the cluster user and outlives the admin's connection.
The job is in its files alone: a supervisor that is started anew (by systemd after a crash, at boot, or by `clusteradm
job resume`) takes it up where the one before left it.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Set, Tuple

from clusteradm.node.job import allocation_end, answering, files, launch, log, queue, room
from clusteradm.node.job import journal as journals
from clusteradm.node.job.allocation_end import Cancelled, NoAllocation
from clusteradm.node.job.feed import Feed
from clusteradm.node.job.plan import ranks as ranks_on
from clusteradm.node.job.plan import render_hostfile
from clusteradm.node.job.regain import Regain
from clusteradm.node.job.shortage import Shortage
from clusteradm.node.job.watch import Watch
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.job import (
    CUT_OFF,
    PARTNER,
    SILENT,
    Attempt,
    AttemptPlan,
    Progress,
    RankProgress,
    Slot,
    Status,
    StoredSpec,
    TpusOfJob,
)

if TYPE_CHECKING:
    from clusteradm.node.job.allocation import Allocation
    from clusteradm.node.job.taking import Taking

# Attempts in a row that may end without a single new result.
MOST_IDLE_ATTEMPTS = 3
MOST_ATTEMPTS = 50  # that are told of: a job that stays open may have one a day
# After a restart other hosts may start, too; and where none answers, it is perhaps the head's own line.
_PATIENCE_SECONDS = 60.0
_TURN_SECONDS = 1.0  # between two looks at the jobs that are before this one
_LONGEST_SECONDS = 3600.0  # for any host at all
_TOO_FEW = "the hosts that answer have too few slots for a pipeline"


class Stopped(Exception):
    """The unit was told to stop: the job is cancelled, or the head shuts down."""


class JobFailed(Exception):
    """The job cannot be completed; the text says why."""


class Supervisor:
    """One job, until it is complete, failed or cancelled."""

    def __init__(self, folder: str) -> None:
        spec = files.read(StoredSpec, os.path.join(folder, job_names.SPEC))
        if spec is None:
            raise SystemExit("%s has no readable %s" % (folder, job_names.SPEC))
        self._own = folder
        self._run = os.path.join(folder, job_names.RUN)
        self._folder = spec.folder
        self._spec = spec
        before = files.read(Status, os.path.join(self._run, job_names.STATUS)) or Status(job_names.STARTING)
        self._attempts = list(before.attempts)
        self._started = before.started or time.time()
        self._regain = Regain(spec)
        self._shortage = Shortage(spec.job, spec.head, before.kills)
        self._ended: Optional[str] = None  # why the last attempt was ended
        self._ill: Dict[str, str] = {}  # TPU -> why it has failed
        self._told: Set[str] = set()
        # What few jobs need is not imported for all: their start would take half as long again.
        self._taking: Optional[Taking] = None
        if spec.watch is not None:
            from clusteradm.node.job import taking

            self._taking = taking.Taking(spec, spec.watch, self._run, self._say)
        self._waiting = ""  # what Slurm has said of it
        self._slurm: Optional[Allocation] = None
        if spec.slurm is not None:
            from clusteradm.node.job import allocation

            self._slurm = allocation.Allocation(spec, spec.slurm, self._say, self._wait_for_slurm)

    def run(self) -> None:
        """Run the job to its end and leave its last state in status.json."""
        signal.signal(signal.SIGTERM, _stop)
        if self._taking is not None:
            self._taking.start()
        try:
            self._wait_for_turn()
            counts = self._attempt_until_complete()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        except Stopped:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            cancelled = os.path.lexists(os.path.join(self._run, job_names.CANCEL))
            if cancelled:  # what is interrupted goes on in a moment, in the same allocation
                self._give_back()
            self._status(job_names.CANCELLED if cancelled else job_names.INTERRUPTED)
        except Cancelled as word:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self._give_back()
            self._status(job_names.CANCELLED, error=str(word))
        except Exception as failure:  # what any board may have written to the journal included
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self._give_back(allocation_end.FAILED)
            known = isinstance(failure, (JobFailed, NoAllocation, journals.JournalError, OSError))
            text = str(failure) if known else "%s: %s" % (type(failure).__name__, failure)
            if isinstance(failure, (JobFailed, MemoryError)):
                text += self._lacking_memory()
            self._status(job_names.FAILED, error=text, log=self._log())
        else:
            self._give_back(allocation_end.COMPLETE)
            self._status(job_names.COMPLETE, **counts)
            # A board's storage is small, and a complete job is never taken up again.
            with suppress(OSError):
                os.unlink(os.path.join(self._folder, job_names.PACK))
            if self._taking is not None:
                self._taking.sweep()

    def _wait_for_turn(self) -> None:
        """Wait for the jobs that have this one's TPUs, or are before it: that is Slurm's doing where the job is its."""
        if self._slurm is not None:
            self._slurm.hold()
            return
        said: List[str] = []
        ahead = queue.ahead(self._spec, self._spec.job)
        while ahead:
            if ahead != said:
                self._say("waiting for job %s" % ", ".join(ahead))
                self._status(job_names.QUEUED, ahead=tuple(ahead))
            said = ahead
            time.sleep(_TURN_SECONDS)
            ahead = queue.ahead(self._spec, self._spec.job)
        if said:
            self._status(job_names.STARTING)

    def _wait_for_slurm(self, said: str) -> None:
        if said != self._waiting:
            self._waiting = said
            self._status(job_names.QUEUED)

    def _give_back(self, how: str = "") -> None:
        if self._slurm is not None:
            self._slurm.give_back(how)

    def _attempt_until_complete(self) -> Dict[str, int]:
        slots: Sequence[Slot] = self._spec.slots
        have, idle = self._have(), 0
        if self._attempts and self._attempts[-1].status is None:
            self._close(CUT_OFF)
        if self._attempts:
            said = "the supervisor is started again: %d of %d inputs have a result" % (have, self._spec.inputs)
            self._say("; ".join([said, *self._shortage.said()]))
            slots = slots if self._slurm else self._answering(restarted=True)
        if self._slurm is not None and not self._complete(have):
            slots = self._slurm.slots()
        while not self._complete(have):
            status = self._attempt(slots)
            before, have = have, self._have()
            if self._complete(have):
                break
            full = room.wait((self._folder, self._run), self._say)
            self._status(job_names.RUNNING)  # with the end of the attempt: the next one may be an hour away
            last = self._attempts[-1]
            lasted = self._taking is not None and time.time() - last.started > _PATIENCE_SECONDS
            if have == before and not (full or last.back or lasted):
                self._give_up_if_hopeless(status, slots)
                idle += 1
            else:
                idle = 0
            if idle == MOST_IDLE_ATTEMPTS:
                last_time = "as " + self._ended if self._ended else "with status %d" % status
                what = "mpirun ended %d times without a result, the last time %s" % (idle, last_time)
                raise JobFailed(what + "".join(": " + error for error in [self._errors()] if error))
            slots = self._answering() if self._slurm is None else self._slurm.slots()
            missing = {slot.host for slot in self._spec.slots} - {slot.host for slot in slots}
            if missing and self._slurm is None:
                self._say("without %s, which do not answer" % ", ".join(sorted(missing)))
            short = self._shortage.news()
            if short:
                self._say("memory has run out: %s" % ", ".join(short))
        if self._taking is not None:
            counted = Feed(self._folder, self._run).counted()
            return {"images": counted.done, "errors": counted.errors}
        index = os.path.join(self._run, job_names.INPUTS)
        return room.insist(lambda: journals.finish(self._folder, index, files.labels(self._spec.model.path)))

    def _complete(self, have: int) -> bool:
        """Whether every input has a result, and no more can come. Raises JobFailed where none can be taken."""
        if self._taking is None:
            return have == self._spec.inputs
        if self._taking.error is not None:
            raise JobFailed(self._taking.error)
        return not Feed(self._folder, self._run).open_or_waiting

    def _have(self) -> int:
        if self._taking is not None:
            progress = files.read(Progress, os.path.join(self._run, job_names.PROGRESS))
            return progress.done if progress else 0
        return len(journals.done(self._folder, self._spec.inputs))

    def _log(self) -> Tuple[str, ...]:
        try:
            return tuple(files.tail(os.path.join(self._folder, job_names.LOG)))
        except OSError as error:
            return (str(error),)

    def _attempt(self, slots: Sequence[Slot]) -> int:
        """Run mpirun once, on these hosts. Its exit status."""
        number = self._attempts[-1].attempt + 1 if self._attempts else 1
        self._attempts = self._attempts[-MOST_ATTEMPTS:]
        if self._slurm is not None:
            self._regain.want(slots)
        ranks = ranks_on(self._spec, self._regain.usable(slots))
        if not ranks:
            raise JobFailed("no host with a slot answers any more" if not slots else _TOO_FEW)
        hostfile = os.path.join(self._run, job_names.HOSTFILE)
        files.write_json(os.path.join(self._run, job_names.ATTEMPT % number), AttemptPlan(number, tuple(ranks)))
        files.write_text(hostfile, render_hostfile(self._spec.head, ranks))
        hosts = tuple(sorted({rank.host for rank in ranks}))
        began = time.time()
        self._attempts.append(Attempt(number, began, hosts))
        self._status(job_names.RUNNING)
        recall = os.path.join(self._run, job_names.RECALL)
        with suppress(FileNotFoundError):
            os.unlink(recall)
        self._regain.begin()
        command = launch.command(hostfile, len(ranks), self._spec.python, self._own, number)
        if self._slurm is not None:
            command = [*self._slurm.environment(self._run), *command]
        self._say("attempt %d: %s" % (number, " ".join(command)))
        place = os.path.join(self._folder, job_names.LOG)
        start = files.size(place)
        with open(place, "ab", buffering=0, opener=files.opener) as output:
            alive = partial(journals.written, self._folder)
            path = os.path.join(self._run, job_names.PROGRESS)
            watch = Watch(path, number, self._spec.inputs, place, alive)

            def overdue(mpirun: int) -> Optional[str]:
                progress = watch.progress
                if progress is not None:  # until then, the log says whether a rank could begin
                    log.bound(place)
                cost = (progress.first_dispatch or began) - began if progress else 0.0
                back = self._regain.due(progress, cost)
                with room.unless_full():
                    self._tell_of_tpus()
                if back is not None and not os.path.lexists(recall):
                    self._say("attempt %d is ended to take back: %s" % (number, back))
                    self._attempts[-1] = replace(self._attempts[-1], back=back)
                    with room.unless_full(), open(recall, "wb"):
                        pass
                why = watch.overdue(mpirun) or (self._taking.error if self._taking else None)
                self._ended = why or (self._slurm.lost() if self._slurm is not None else None)
                return self._ended

            self._ended = None
            status = launch.run(command, output, overdue)
        last = files.read(Progress, path)
        if last is not None and last.attempt == number:
            self._regain.note(last)
            with room.unless_full():
                self._tell_of_tpus()
        self._close(status)
        self._shortage.read(place, start, self._attempts[-1].ranks)
        return status

    def _tell_of_tpus(self) -> None:
        """Leave word for root, who keeps the list of drains, of the TPUs that have failed."""
        ill = self._regain.ill()
        if ill != self._ill:
            well = tuple(subject for subject in self._told if subject not in ill)
            self._told |= ill.keys()
            self._ill = ill
            files.write_json(os.path.join(self._run, job_names.TPUS), TpusOfJob(ill, well))

    def _say(self, text: str) -> None:
        """Add a line to the job's log."""
        path = os.path.join(self._folder, job_names.LOG)
        with room.unless_full(), open(path, "ab", buffering=0, opener=files.opener) as file:
            os.fchmod(file.fileno(), 0o644)
            file.write((text + "\n").encode("utf-8"))

    def _close(self, status: int) -> None:
        """End the last attempt, with its exit status and rank 0's last figures.

        Rank 0 may have died up to half a second after it wrote them, so results are counted in the journal.
        """
        progress = files.read(Progress, os.path.join(self._run, job_names.PROGRESS))
        attempt = replace(self._attempts[-1], status=status)
        number = attempt.attempt
        plan = files.read(AttemptPlan, os.path.join(self._run, job_names.ATTEMPT % number))
        figures = [RankProgress(**vars(rank)) for rank in plan.ranks] if plan else []
        if progress is not None and progress.attempt == number:
            figures = list(progress.ranks)
            attempt = replace(attempt, first_dispatch=progress.first_dispatch, last_result=progress.last_result)
        if self._taking is None:
            images = journals.counts(self._folder, number)
            figures = [replace(rank, images=images.get(rank.rank, 0)) for rank in figures]
        self._attempts[-1] = replace(attempt, ranks=tuple(figures))

    def _give_up_if_hopeless(self, status: int, slots: Sequence[Slot]) -> None:
        """Raise JobFailed where every rank has an error: another attempt would end the same. Unless TPUs of pipelines
        that were lost by another stage, and those that were left over, make new ones."""
        ranks = self._attempts[-1].ranks
        if status or any(rank.error is None or rank.fault == SILENT for rank in ranks):
            return
        if not (any(rank.fault == PARTNER for rank in ranks) and self._regain.has_others(slots)):
            raise JobFailed("no rank could work: " + self._errors())

    def _errors(self) -> str:
        """Why the ranks of the last attempt could not work, each by itself."""
        ranks = self._attempts[-1].ranks
        return "; ".join(sorted({rank.error for rank in ranks if rank.error and rank.fault != PARTNER}))

    def _lacking_memory(self) -> str:
        """What the hosts say of a lack of memory, as the end of an error; nothing where there was none."""
        if self._slurm is None and self._attempts:
            self._ask()
        return self._shortage.remedy()

    def _answering(self, restarted: bool = False) -> List[Slot]:
        """The job's hosts that can be reached from the head and see the model.

        Asked again for a minute: where none but the head answers; after a restart, where not all do. For an hour where
        there would be no slot at all.
        """
        others = {slot.host for slot in self._spec.slots} - {self._spec.head}
        began, said = time.monotonic(), False
        while True:
            found = self._ask()
            here = {slot.host for slot in found}
            enough = others <= here if restarted else bool(others & here) or len(others) < 2
            waited = time.monotonic() - began
            some = bool(ranks_on(self._spec, found))
            if (enough and some) or waited > (_PATIENCE_SECONDS if some else _LONGEST_SECONDS):
                return found
            if not said:
                said = True
                self._say("waiting for hosts that answer: %s" % ", ".join(sorted(others - here)))
            time.sleep(1.0)

    def _ask(self) -> List[Slot]:
        ranks = self._attempts[-1].ranks if self._attempts else ()
        return answering.ask(self._spec, lambda host, said: self._shortage.hear(host, said, ranks))

    def _status(self, state: str, **more: Any) -> None:
        spec = self._spec
        status = Status(
            state,
            model=spec.model,
            top=spec.top,
            total=spec.inputs,
            started=self._started,
            attempts=tuple(self._attempts),
            slurm=self._slurm.said if self._slurm is not None else None,
            kills=self._shortage.before,
            **more,
        )
        room.insist(lambda: files.write_json(os.path.join(self._run, job_names.STATUS), status))


def _stop(number: int, frame: Any) -> None:
    raise Stopped


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """The program."""
    folder = (sys.argv[1:] if arguments is None else arguments)[0]
    Supervisor(folder).run()


if __name__ == "__main__":
    main()
