"""Keeper of a rank that is a stage of a pipeline.

What its worker process was handed is lost with it, and its neighbours hang on it. So where it ends, the whole pipeline
begins anew, by rank 0's word: each stage with another process, and without what was under way. Rank 0 gives that again.
"""

from collections import deque
from typing import Any, Deque, Dict, List

from clusteradm.node.job import channel as channels
from clusteradm.node.job.activations import Gone
from clusteradm.node.job.bridge import bridges
from clusteradm.node.job.channel import Channel, Message
from clusteradm.node.job.keeper import STALL_SECONDS, Keeper, Parcel
from clusteradm.node.job.process import Process
from clusteradm.node.job.schedule import CREDITS
from clusteradm.node.spec.wire.decode import WireError, decode
from clusteradm.node.spec.wire.job import Assignment

_BUSY_SECONDS = 0.1  # nothing is expected of rank 0


class StageKeeper(Keeper):
    """One stage's worker process, and the bridges to stages on other hosts."""

    def __init__(self, channel: Channel, words: List[str], process: Process, first: Message) -> None:
        """`first`: the message that begins its work."""
        super().__init__(channel, words, process, first)
        mine = decode(Assignment, first.body)
        self._bridges = bridges(channel, mine)
        self._is_later = mine.stage is not None and mine.stage.before is not None
        self._held: Deque[Dict[str, Any]] = deque()
        self._number = mine.stage.turn if mine.stage is not None else 0

    def _begin_with(self, assignment: Any) -> None:
        if self._begin is None:
            super()._begin_with(assignment)
            return
        stage = decode(Assignment, assignment).stage
        if stage is None:
            raise WireError("a stage of a pipeline becomes none")
        self._begin, self._number = assignment, stage.turn
        if not self._process.kill():
            self._fail("its process hangs in the kernel", kill=False)
            return
        self._held.clear()
        self._out.clear()
        self._suspects.clear()
        self._failed = self._announced = False
        self._earlier = dict(self._times)
        for bridge in self._bridges:
            bridge.begin_anew(stage)
        self._start_again()

    def _send(self, tag: int, body: Any = None) -> None:
        super()._send(tag, {**body, "turn": self._number} if tag in (channels.READY, channels.FAILED) else body)

    def _turn(self) -> None:
        super()._turn()
        if self._failed:
            return
        try:
            for bridge in self._bridges:
                bridge.turn()
        except Gone:
            pass  # that its process has ended shows where that is looked at
        except (WireError, OSError) as error:
            self._fail("the stage before sends what no stage sends: %s" % error, tpu=False)

    def _patience(self) -> float:
        if self._bridges or self._begin is None:
            return super()._patience()
        # Of a later stage, rank 0 wants nothing but its end.
        return _BUSY_SECONDS if self._is_later or len(self._out) >= CREDITS else super()._patience()

    def _accept(self, body: Dict[str, Any]) -> None:
        self._held.append(body)
        self._pump()

    def _pump(self) -> None:
        """Give the process its chunks as they are: the last stage answers them."""
        while self._ready and self._held:
            body = self._held.popleft()
            if not self._out:
                self._moved = self._clock.seconds
            self._out[body["chunk"]] = Parcel(body["chunk"], body["size"], body["inputs"])
            self._process.pipe.send(0, channels.CHUNK, body)

    def _settle(self, body: Dict[str, Any]) -> None:
        self._out.pop(body["chunk"], None)
        self._moved = self._clock.seconds
        self._times = {name: self._earlier[name] + body[name] for name in self._earlier}
        self._send(channels.RESULT, {**body, **self._times})

    def _stalled(self) -> None:
        working = self._process.pulse.inputs()
        if any(not working.isdisjoint(parcel.inputs) for parcel in self._out.values()):
            super()._stalled()
        else:
            what = "no input came on in %d s: does the shared file system answer, and the next stage?"
            self._fail(what % STALL_SECONDS, tpu=False)

    def _ended(self, how: str) -> None:
        found = self._process.pulse.inputs() if self._ready else ()
        hangs = self._process.death() is None and self._process.pulse.inferred is not None
        again = self._ready and not (hangs and self._on_tpu())
        if not self._ready:
            how += " while it loaded the model"
        if not self._process.kill():
            how += ", and its process hangs in the kernel"
            again = False
        self._suspects.update(dict.fromkeys(found, how))
        # An input can crash a process. One that does not come back from an Edge TPU is more likely the TPU's fault.
        self._fail(how, kill=False, tpu=hangs and self._on_tpu(), again=again)
