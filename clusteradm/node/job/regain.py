"""Regain of hosts and TPUs that an attempt does without: they are looked at while it runs, and taken back by another.

Open MPI can start a rank on a host that has stayed in its world, but not on one that has left it; and it keeps rank 0
waiting meanwhile, for ever if that host hangs again. So an attempt is ended in order, and followed by one with all of
them, where what is left to do takes so much less time with them: that costs every rank its start.
"""

import json
import os
import shlex
import signal
import subprocess
import time
from collections import deque
from dataclasses import replace
from typing import Deque, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from clusteradm.node.job import plan
from clusteradm.node.job.launch import SSH
from clusteradm.node.spec.wire.job import PARTNER, SILENT, TPU, Progress, RankProgress, Slot, StoredSpec

FIRST_SECONDS = 1.0  # from a loss to the first look; four times as many after each further loss of the same place
MOST_SECONDS = 900.0
AGAIN_SECONDS = 3.0  # after a look in vain
_LOOK_SECONDS = 45.0
_RATE_SECONDS = 3.0  # over which the present rate is measured
# Another attempt costs the end of this one and a question to every host, besides its start. It has to save so many
# times that.
COST_SECONDS = 2.0
WORTH = 2.0
_NOT_ITS_OWN = (SILENT, PARTNER)  # faults of a place that another attempt may use as it is


class Place(NamedTuple):
    """A TPU of a host, or its CPU."""

    host: str
    pci_address: Optional[str]

    def __str__(self) -> str:
        return "%s %s" % (self.host, self.pci_address or "CPU")


class Loss:
    """One place that is lost: when it is looked at next, the look that runs, and what the last one found."""

    def __init__(self, due: float, rank: Optional[RankProgress]) -> None:
        """`rank`: the one that was lost there; None where the attempt began without."""
        self.due = due
        self.fault = (rank and rank.fault) or SILENT
        self.error = (rank and rank.error) or ""
        self.well = False
        self.look: "Optional[subprocess.Popen[bytes]]" = None
        self.end = 0.0  # of the look that runs

    def stop(self) -> None:
        """End the look that runs."""
        if self.look is not None and self.look.poll() is None:
            os.killpg(self.look.pid, signal.SIGKILL)
            self.look.wait()
        self.look = None


class Regain:
    """The places of one job that it does without. Seconds by the monotonic clock."""

    def __init__(self, spec: StoredSpec) -> None:
        self._spec = spec
        self._wanted = [Place(rank.host, rank.pci_address) for rank in plan.wanted(spec)]
        pipeline = spec.model.pipeline
        self._together = len(pipeline.stages) if pipeline else 1
        self._lost: Dict[Place, Loss] = {}
        self._losses: Dict[Place, int] = {}
        self._done: Deque[Tuple[float, int]] = deque()
        self._working: Set[Place] = set()

    def want(self, slots: Sequence[Slot]) -> None:
        """Have these places alone: Slurm has given others to somebody else, or gives other ones than before."""
        ranks = plan.wanted(replace(self._spec, slots=tuple(slots)))
        self._wanted = [Place(rank.host, rank.pci_address) for rank in ranks]
        for one in self._lost.keys() - set(self._wanted):
            self._lost.pop(one).stop()

    def usable(self, slots: Sequence[Slot]) -> List[Slot]:
        """These slots, without the TPUs that have failed by themselves and were not well since; all where those are too
        few."""
        found = self._well(slots)
        return found if plan.ranks(self._spec, found) else list(slots)

    def has_others(self, slots: Sequence[Slot]) -> bool:
        """Whether a rank, or a pipeline, can do without the TPUs that have failed by themselves."""
        return bool(plan.ranks(self._spec, self._well(slots)))

    def _well(self, slots: Sequence[Slot]) -> List[Slot]:
        ill = {one for one, loss in self._lost.items() if loss.fault not in _NOT_ITS_OWN and not loss.well}
        found = []
        for slot in slots:
            tpus = tuple(tpu for tpu in slot.tpus if Place(slot.host, tpu) not in ill)
            if tpus:
                found.append(Slot(slot.host, tpus))
        return found

    def ill(self) -> Dict[str, str]:
        """The TPUs that have failed by themselves and were not well since: HOST:PCI-ADDRESS -> why.

        None where no other works either: that is the model's doing, say.
        """
        if not self._working:
            return {}
        found = {one: loss for one, loss in self._lost.items() if loss.fault == TPU and not loss.well}
        return {"%s:%s" % one: loss.error for one, loss in found.items() if one.pci_address}

    def begin(self) -> None:
        """Note that an attempt begins, with what `usable` has left."""
        self._done.clear()
        for loss in self._lost.values():
            loss.stop()
        self._lost = {one: loss for one, loss in self._lost.items() if loss.fault not in _NOT_ITS_OWN and not loss.well}

    def due(self, progress: Optional[Progress], cost: float) -> Optional[str]:
        """What another attempt would take back, where that is worth it now; to be called twice a second.

        `cost`: seconds that the present attempt took to begin its work.
        """
        now = time.monotonic()
        if progress is None or progress.phase != "running":
            return None
        self._done.append((now, progress.done))
        while len(self._done) > 2 and now - self._done[1][0] > _RATE_SECONDS:
            self._done.popleft()
        working = self._working = self._notice(progress.ranks, now)
        if len(self._lost) < self._together:  # no pipeline could be made of them
            return None
        well = [one for one in self._wanted if one in self._lost and self._look(one, now)]
        if not well or now - self._done[0][0] < _RATE_SECONDS:
            return None
        rate = (progress.done - self._done[0][1]) / (now - self._done[0][0])
        more = min(len(well), len(self._wanted) - len(working)) // self._together * self._together
        share = more / (len(working) + more)
        # To a job that stays open for inputs, more come.
        left = float("inf") if self._spec.watch else progress.total - progress.done
        if more <= 0 or (rate and left / rate * share < WORTH * (cost + COST_SECONDS)):
            return None
        return ", ".join(map(str, well))

    def note(self, progress: Progress) -> None:
        """Note what an attempt has lost by its end: that may be since the last question."""
        self._notice(progress.ranks, time.monotonic())

    def _notice(self, ranks: Sequence[RankProgress], now: float) -> Set[Place]:
        """Note which places are lost, and which no more. Those that work."""
        failed = {Place(rank.host, rank.pci_address): rank for rank in ranks if rank.state == "failed"}
        working = {Place(rank.host, rank.pci_address) for rank in ranks} - failed.keys()
        for one in working & self._lost.keys():
            self._lost.pop(one).stop()
        for one in self._wanted:
            if one not in working and one not in self._lost:
                losses = self._losses[one] = self._losses.get(one, 0) + 1
                wait = min(MOST_SECONDS, FIRST_SECONDS * 4.0 ** (losses - 1))
                self._lost[one] = Loss(now + wait, failed.get(one))
        return working

    def _look(self, one: Place, now: float) -> bool:
        """Whether a rank could work there, by the last look; begins or ends one where it is time."""
        loss = self._lost[one]
        if loss.look is None:
            if now >= loss.due:
                loss.look, loss.end = self._begin_look(one), now + _LOOK_SECONDS
            return loss.well
        status = loss.look.poll()
        if status is not None or now > loss.end:
            loss.stop()
            loss.well = status == 0
            # One that did not end may hang in the kernel there: no other is to join it soon.
            loss.due = now + (AGAIN_SECONDS if status is not None else MOST_SECONDS)
        return loss.well

    def _begin_look(self, one: Place) -> "subprocess.Popen[bytes]":
        model = self._spec.model
        path, sha256 = model.path, model.sha256
        if model.pipeline:
            path, sha256 = model.pipeline.stages[0].path, model.pipeline.stages[0].sha256
        words = [self._spec.python, "-m", "clusteradm.node.job.look", json.dumps([path, sha256])]
        # A TPU whose rank is silent, or waits for the end of the attempt, is that rank's still.
        words += [one.pci_address] if one.pci_address and self._lost[one].fault not in _NOT_ITS_OWN else []
        if one.host != self._spec.head:
            before = ["env", "PYTHONPATH=" + os.environ.get("PYTHONPATH", ""), "timeout", "-k", "5", "40"]
            words = [*SSH, one.host, " ".join(map(shlex.quote, [*before, *words]))]
        quiet = subprocess.DEVNULL
        # A group of its own: ended as one, and not with what mpirun leaves.
        return subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
