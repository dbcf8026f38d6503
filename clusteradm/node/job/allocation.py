"""Allocation of a job in Slurm: asked for, waited for, its TPUs found, given back.

A job of Slurm's own holds it: a script on its first node that sleeps as long as the supervisor wants it. mpirun runs on
the head, as without Slurm, and starts its daemons by srun in the allocation, each in a step of its own. The death of a
host is that step's alone, until Slurm misses the host and requeues its job. So the job is its directory: an allocation
that is lost, or requeued, is followed by another, which goes on with what the journal lacks.
"""

import os
import pwd
import re
import shlex
import threading
import time
from contextlib import suppress
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from clusteradm.node.job import files, granted, plan
from clusteradm.node.job.allocation_end import COMPLETE, FAILED, Cancelled, NoAllocation
from clusteradm.node.slurm import nodes, programs
from clusteradm.node.slurm.programs import SlurmError, field
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.job import Slot, SlurmOrder, StoredSpec

PENDING, RUNNING, CANCELLED = "PENDING", "RUNNING", "CANCELLED"
_ENDS = {COMPLETE: "COMPLETED", FAILED: "FAILED"}
# States of a job that has not ended; any other is one that has.
_WAITING = (
    *(PENDING, "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT"),
    *("REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"),
)
_HELD_SECONDS = 60.0  # between two touches of the file that holds it
_LOST_SECONDS = 900  # without a touch, after which it is given back: longer than a head takes to restart
_LOOK_SECONDS = 3.0  # between two questions while an attempt runs
_AWAY_SECONDS = 30.0  # the same where the controller did not answer
_TURN_SECONDS = 2.0
_END_SECONDS = 5.0  # for the holder to end; its host may be off
_PATIENCE_SECONDS = 60.0  # for a TPU of hosts that answer
_LONGEST_SECONDS = 3600.0  # for any of the allocated hosts, or for a controller that is away
_MOST_ORDERS = 3  # jobs of Slurm's in a row that end without an attempt
_GRANT = re.compile(r"Nodes=(\S+) CPU_IDs=\S* Mem=\S*(?: GRES=(\S*))?")
_GRES = re.compile(r"(?:^|,)(?:gres:)?tpu(?::[^:,()]+)?:\d+\(IDX:([0-9,-]+)\)")

_HOLDER = """#!/bin/sh
# Holds the allocation of clusteradm's job %s, whose ranks the head starts in it.
trap 'exit 0' USR1
trap 'exit 1' USR2
while [ $(($(date +%%s) - $(stat -c %%Y %s 2>/dev/null || echo 0))) -lt %d ]; do sleep 10 & wait $!; done
exit 1
"""

# mpirun calls it as ssh: options, the host, the words of a command. Steps overlap: the one before may not have ended.
# Whatever a site's Slurm does with a task, the daemon has all processors of the job, and no variables of another MPI.
_AGENT = """#!/bin/sh
while [ "$1" = -o ]; do shift 2; done
host=$1
shift
unset OMPI_MCA_plm_rsh_agent PRTE_MCA_plm_ssh_agent
exec srun --jobid=%d --overlap --cpu-bind=none --mpi=none --nodes=1 --ntasks=1 --nodelist="$host" --chdir=/ \\
    sh -c "$*"
"""

_NONE_FIT = (
    "Slurm's job %s has no TPU that was fit when this job was made, or too few for a pipeline: see gres.conf, and"
    " /sys/class/apex, on %s"
)
_SILENT = "no host of Slurm's job %s answers by SSH from the head"


class Grant(NamedTuple):
    """A job of Slurm's. `tpus`: host -> the numbers of its TPUs there, None where Slurm counts none."""

    state: str
    reason: str
    restarts: int
    tpus: Dict[str, Optional[Tuple[int, ...]]]


def read(text: str) -> Grant:
    """The job in the output of `scontrol show job -d -o`. Raises SlurmError."""
    state = field(text, "JobState")
    if state is None:
        raise SlurmError("scontrol says nothing of the job's state: %s" % " ".join(text.split())[:200])
    restarts = field(text, "Restarts") or "0"
    tpus: Dict[str, Optional[Tuple[int, ...]]] = {}
    if state == RUNNING:
        for expression, gres in _GRANT.findall(text):
            numbers = _GRES.search(gres)
            for host in programs.hosts(expression):
                tpus[host] = granted.ranged(numbers.group(1)) if numbers else None
    return Grant(state, field(text, "Reason") or "", int(restarts) if restarts.isdecimal() else 0, tpus)


def words_for(spec: StoredSpec, order: SlurmOrder, known: Sequence[nodes.Node]) -> List[str]:
    """sbatch's words for the job. `known`: the nodes of its partition.

    Raises NoAllocation where it has none of the job's hosts.
    """
    slots = {slot.host: len(slot.tpus) for slot in spec.slots}
    mine = {node.name: node for node in known if node.name in slots}
    if not mine:
        where = " in partition %s" % order.partition if order.partition else ""
        names = ", ".join(sorted(node.name for node in known)[:10]) or "none"
        raise NoAllocation(
            "Slurm knows none of the job's hosts%s: %s; its nodes: %s" % (where, ", ".join(sorted(slots)), names)
        )
    counts = {slots[name] for name in mine}
    cpu = all(tpu is None for slot in spec.slots for tpu in slot.tpus)
    # With more of them than the job may use, Slurm could give one of those that are ill.
    counted = all(node.tpus == slots[name] for name, node in mine.items())
    each, count, least = max(counts), len(mine), 1
    if spec.model.pipeline is not None:  # its stages may need several hosts
        each = min(counts)
        least = min(count, -(-len(spec.model.pipeline.stages) // each))
    if spec.ranks is not None:
        count = max(least, min(count, -(-spec.ranks // each)))
    words = ["sbatch", "--parsable", "--job-name", name_of(spec.job), "--requeue", "--chdir", "/"]
    words += ["--output", "/dev/null", "--error", "/dev/null", "--export", "PATH"]
    words += ["--nodes", str(count) if order.whole or count == least else "%d-%d" % (least, count)]
    if not cpu:
        # Hosts with different numbers of TPUs cannot be asked for by number; nor where Slurm counts others.
        words += ["--gres", "tpu:%d" % each] if counted and len(counts) == 1 else ["--exclusive"]
        words += ["--cpus-per-task", str(max(1, min(each, *(node.cpus for node in mine.values()))))]
    others = sorted(node.name for node in known if node.name not in mine)
    words += ["--exclude", ",".join(others)] if others else []
    words += ["--partition", order.partition] if order.partition else []
    words += ["--account", order.account] if order.account else []
    return words


def name_of(job: str) -> str:
    """The name of the job in Slurm."""
    return "clusteradm-" + job


def present(job: str) -> List[int]:
    """The numbers of Slurm's jobs for this one that have not ended, of this process's user. Raises SlurmError."""
    said = programs.ask(["squeue", "--noheader", "--user", str(os.geteuid()), "--name", name_of(job), "--format", "%i"])
    return sorted(int(number) for number in said.split() if number.isdecimal())


def give_back(job: str) -> None:
    """Cancel Slurm's job for this one; nothing where there is none, or no Slurm that answers."""
    with suppress(SlurmError):
        if programs.there() and present(job):
            programs.ask(["scancel", "--user", pwd.getpwuid(os.geteuid()).pw_name, "--name", name_of(job)])


class Allocation:
    """The allocation of one job. Its user is this process's."""

    def __init__(
        self, spec: StoredSpec, order: SlurmOrder, say: Callable[[str], None], queued: Callable[[str], None]
    ) -> None:
        """`say`: for the job's log; `queued`: called with what Slurm says, while it is waited for."""
        self._spec, self._order, self._say, self._queued = spec, order, say, queued
        self.number: Optional[int] = None  # of Slurm's job
        self.said = ""  # that, and its state
        self._grant: Optional[Grant] = None  # of the present attempt
        self._look_due = 0.0
        self._orders = 0
        self._restarts = 0  # of Slurm's job, as far as they were dealt with
        self._held = os.path.join(spec.folder, job_names.HELD)
        self._end = threading.Event()

    def hold(self) -> None:
        """Keep it from being given back as long as this process lives."""
        with suppress(OSError):
            self._touch()
        threading.Thread(target=self._keep, name="hold", daemon=True).start()

    def _keep(self) -> None:
        while not self._end.wait(_HELD_SECONDS):
            with suppress(OSError):
                self._touch()

    def _touch(self) -> None:
        fd = os.open(self._held, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
        try:
            os.utime(fd)
        finally:
            os.close(fd)

    def slots(self) -> List[Slot]:
        """The slots that Slurm gives, of those of the spec, and whose hosts answer; waited for.

        Raises Cancelled, NoAllocation.
        """
        waited = time.monotonic()
        while True:
            grant = self._present()
            if grant is not None and grant.state == RUNNING:
                found, answers = granted.slots(self._spec, grant.tpus)
                if plan.ranks(self._spec, found):
                    self._grant, self._orders = grant, 0
                    self._look_due = time.monotonic() + _LOOK_SECONDS
                    return found
                if time.monotonic() - waited > (_PATIENCE_SECONDS if answers else _LONGEST_SECONDS):
                    raise NoAllocation(
                        _NONE_FIT % (self.number, ", ".join(answers)) if answers else _SILENT % self.number
                    )
            elif grant is not None:
                waited = time.monotonic()  # its turn may come tomorrow
                self._queued(self.said)
            elif time.monotonic() - waited > _LONGEST_SECONDS:
                raise NoAllocation("Slurm does not answer: %s" % self.said)
            time.sleep(_TURN_SECONDS)

    def environment(self, folder: str) -> List[str]:
        """The words before mpirun's that have it start the daemons of other hosts by srun, in the place of ssh.

        `folder`: for that program, of this job's user on the head's disk. By the environment: options would reach the
        daemons, whose hosts do not have it. Open MPI 4 and 5.
        """
        path = os.path.join(folder, job_names.AGENT)
        files.write_text(path, _AGENT % (self.number or 0))
        os.chmod(path, 0o755)  # noqa: S103 - a program without secrets
        settings = ["env"]
        for project, way in (("OMPI_MCA", "rsh"), ("PRTE_MCA", "ssh")):
            settings += ["%s_plm_%s_agent=%s" % (project, way, path)]
            settings += ["%s_plm_%s_pass_environ_mca_params=0" % (project, way)]
        # The daemons stay the children of their steps.
        return [*settings, "OMPI_MCA_orte_leave_session_attached=1", "PRTE_MCA_prte_leave_session_attached=1"]

    def lost(self) -> Optional[str]:
        """Why the attempt is to be ended: it is no more in the allocation that it began in. To be called often."""
        now = time.monotonic()
        if now < self._look_due or self.number is None or self._grant is None:
            return None
        self._look_due = now + _LOOK_SECONDS
        try:
            grant = self._look(_LOOK_SECONDS)
        except SlurmError:
            self._look_due = now + _AWAY_SECONDS
            return None  # the ranks do without the controller
        if grant.state == RUNNING and grant.restarts == self._grant.restarts:
            return None
        return "Slurm's job %d is no more in its allocation: %s" % (self.number, _words(grant))

    def give_back(self, signal: str = "") -> None:
        """End Slurm's job: as complete (COMPLETE) or failed (FAILED) in its accounts, or cancelled."""
        self._end.set()
        if self.number is not None:
            self.said = "%d %s" % (self.number, _ENDS.get(signal, CANCELLED))
        with suppress(SlurmError):
            if signal and self.number is not None and self._look().state == RUNNING:
                programs.ask(["scancel", "--batch", "--signal", signal, str(self.number)])
                end = time.monotonic() + _END_SECONDS
                while self._look().state == RUNNING and time.monotonic() < end:
                    time.sleep(0.2)
        give_back(self._spec.job)

    def _present(self) -> Optional[Grant]:
        """Slurm's job, asked for where there is none; None where Slurm does not answer."""
        try:
            if self.number is None:
                before = present(self._spec.job)
                self.number = before[-1] if before else self._submit()
            number = self.number
            grant = self._look()
        except SlurmError as error:
            if "Invalid job id" not in str(error):
                self.said = str(error)
                self._queued(self.said)
                return None
            grant = Grant("gone", "", 0, {})  # it ended some minutes ago
        self.said = "%d %s" % (number, _words(grant))
        if grant.state == PENDING and grant.restarts:
            self._hasten(number, grant)
        if grant.state == RUNNING or grant.state in _WAITING:
            return grant
        if grant.state == CANCELLED:
            raise Cancelled("it was cancelled in Slurm (job %d there)" % number)
        self._say("Slurm's job %d has ended: %s; another one is asked for" % (number, _words(grant)))
        self.number, self._restarts = None, 0
        return Grant(PENDING, "", 0, {})

    def _hasten(self, number: int, grant: Grant) -> None:
        """Have a job that Slurm has requeued run as soon as it can.

        Slurm lets two minutes pass, for what the job may have left: mpirun leaves nothing. Its number of nodes stays:
        to change it then has Slurm 22.05 lose count of the GRES, for ever and for all jobs.
        """
        if grant.restarts > self._restarts:
            self._restarts = grant.restarts
            self._say("Slurm has requeued its job %d" % number)
        elif grant.reason != "BeginTime":
            return
        with suppress(SlurmError):
            programs.ask(["scontrol", "update", "JobId=%d" % number, "StartTime=now"])

    def _submit(self) -> int:
        if self._orders >= _MOST_ORDERS:
            raise NoAllocation("%d jobs of Slurm's have ended before their ranks began: %s" % (_MOST_ORDERS, self.said))
        words = words_for(self._spec, self._order, nodes.ask(self._order.partition))
        script = _HOLDER % (self._spec.job, shlex.quote(self._held), _LOST_SECONDS)
        try:
            said = programs.ask(words, stdin=script)
        except SlurmError as error:
            raise NoAllocation("Slurm refuses the job: %s" % error) from None
        number = said.strip().partition(";")[0]
        if not number.isdecimal():
            raise NoAllocation("sbatch names no job: %s" % " ".join(said.split())[:200])
        self._orders += 1
        self._say("asked Slurm for an allocation, its job %s: %s" % (number, " ".join(words)))
        return int(number)

    def _look(self, seconds: float = programs.SECONDS) -> Grant:
        return read(programs.ask(["scontrol", "show", "job", "-d", "-o", str(self.number)], seconds=seconds))


def _words(grant: Grant) -> str:
    return grant.state + (" (%s)" % grant.reason if grant.reason not in ("", "None") else "")
