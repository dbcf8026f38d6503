"""Keeper: what a rank is to MPI. It passes chunks to its worker process, and starts that anew where an input ends it.

So a crash, a hang or a lack of memory costs one input, of which it is known which one, and not the job. An input with
which the process has ended is tried once more, alone; where that ends it again, its result is the error.
"""

import json
import time
from collections import deque
from typing import Any, Deque, Dict, List, NamedTuple, Optional, Set, Tuple

from clusteradm.node.job import channel as channels
from clusteradm.node.job import oom
from clusteradm.node.job.channel import Channel, Message
from clusteradm.node.job.process import Process
from clusteradm.node.job.running import RunningTime
from clusteradm.node.job.schedule import CREDITS

# An inference may take so many times the slowest so far, and no less than so many seconds.
LIMIT_TIMES = 20.0
LIMIT_SECONDS = 5.0
START_SECONDS = 180.0  # to import the runtime, to read and load the model, and to try it
STALL_SECONDS = 60.0  # without an input that can be read and decoded
ALIVE_SECONDS = 1.0  # between two signs of life to rank 0
MOST_DEATHS = 5  # in a row, without a result
# Seconds between two looks at what rank 0 sends. A look costs 60 us of the processor or more, and 64 ranks on one host,
# which looked every few milliseconds, took more than one core. What the process says ends the wait.
_POLL_SECONDS = 0.002
_SHARED_SECONDS = 0.0005  # of a host with many ranks, for each of them
_BUSY_SECONDS = 0.4  # nothing is expected of rank 0: its process loads the model, or one more chunk is here
_STOP_SECONDS = 2.0
_LONGEST_STEP = 0.5


class Parcel(NamedTuple):
    """Inputs of a chunk that the process gets together: all, as long as it has not ended. `text`: as rank 0 sent them,
    which is read only where one of them may have ended the process."""

    chunk: int
    size: int
    text: str

    @property
    def pieces(self) -> List[List[Any]]:
        return list(json.loads(self.text))

    @property
    def inputs(self) -> Set[int]:
        return {piece[0] for piece in self.pieces}


class Chunk:
    """A chunk of rank 0's, and the results that there are of it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.results: List[Dict[str, Any]] = []
        self.seconds = 0.0


def _parcel(chunk: int, pieces: List[List[Any]]) -> Parcel:
    return Parcel(chunk, len(pieces), channels.text(pieces))


class Keeper:
    """One rank's worker process, and the inputs that it has."""

    def __init__(self, channel: Channel, words: List[str], process: Process, first: Optional[Message] = None) -> None:
        """`process`: the first, already started by the same words; `first`: a message that has come already."""
        self._first = first
        self._channel, self._words, self._process = channel, words, process
        self._begin: Any = None  # the rank's assignment
        self._ready = self._announced = self._failed = False
        self._loading = 0.0  # seconds that the first start took
        self._chunks: Dict[int, Chunk] = {}
        self._waiting: Deque[Parcel] = deque()
        self._out: Dict[int, Parcel] = {}
        self._parcels = 0
        self._suspects: Dict[int, str] = {}  # input -> how the process ended with it
        self._deaths = 0
        self._earlier = dict.fromkeys(("busy", "decode", "wait", "read", "idle"), 0.0)  # of processes that have ended
        self._times = dict(self._earlier)
        # Time in which this process did not run, as on a frozen host, does not count.
        self._clock = RunningTime(time.monotonic(), _LONGEST_STEP)
        self._said = self._started = self._moved = self._since = 0.0
        self._pace = 0.0  # seconds an input, of the last parcel
        self._step = 0

    def run(self) -> None:
        """Work until rank 0 says stop."""
        try:
            while True:
                message, self._first = self._first or self._channel.poll(), None
                if message is None:
                    self._turn()
                elif message.tag == channels.STOP:
                    return
                elif message.tag == channels.BEGIN:
                    self._begin_with(message.body)
                elif message.tag == channels.CHUNK and not self._failed:
                    self._accept(message.body)
        finally:
            if not self._failed:
                self._process.stop(_STOP_SECONDS)

    def _begin_with(self, assignment: Any) -> None:
        """Have the process begin its work."""
        self._begin = assignment
        self._send(channels.ALIVE, {"kills": oom.of_host()})
        self._process.pipe.send(0, channels.BEGIN, self._begin)

    def _turn(self) -> None:
        if self._failed:
            time.sleep(10 * channels.NAP)
            return
        self._clock.pass_to(time.monotonic())
        self._listen()
        if not self._failed:
            self._watch(self._clock.seconds)
        if not self._failed and self._clock.seconds - self._said >= ALIVE_SECONDS:
            self._send(channels.ALIVE)

    def _send(self, tag: int, body: Any = None) -> None:
        self._said = self._clock.seconds
        self._channel.send(0, tag, body)

    def _accept(self, body: Dict[str, Any]) -> None:
        self._chunks[body["chunk"]] = Chunk(body["size"])
        self._waiting.append(Parcel(body["chunk"], body["size"], body["inputs"]))
        self._pump()

    def _pump(self) -> None:
        """Give the process what it may have: two parcels, and a suspect alone."""
        while self._ready and self._waiting and len(self._out) < 2:
            if self._out and (self._alone(self._waiting[0]) or any(map(self._alone, self._out.values()))):
                return
            parcel = self._waiting.popleft()
            self._parcels += 1
            if not self._out:
                self._moved = self._clock.seconds
            self._out[self._parcels] = parcel
            body = {"chunk": self._parcels, "size": parcel.size, "inputs": parcel.text}
            self._process.pipe.send(0, channels.CHUNK, body)

    def _alone(self, parcel: Parcel) -> bool:
        return bool(self._suspects) and not self._suspects.keys().isdisjoint(parcel.inputs)

    def _listen(self) -> None:
        """Take what the process says; wait a moment for it."""
        message = self._process.pipe.poll(self._channel.patience(self._patience()))
        while message is not None:
            if message.tag == channels.READY:
                self._ready, self._moved = True, self._clock.seconds
                self._loading = self._loading or self._clock.seconds - self._started
                if not self._announced:
                    self._announced = True
                    self._send(channels.READY, message.body)
                self._pump()
            elif message.tag == channels.FAILED:
                self._fail(message.body["error"], tpu=bool(message.body.get("tpu")))
                return
            elif message.tag == channels.RESULT:
                self._settle(message.body)
            elif message.tag == channels.STOP:  # the end of the pipe
                time.sleep(_POLL_SECONDS)
                return
            message = self._process.pipe.poll()

    def _patience(self) -> float:
        """Seconds until rank 0 is to be listened to again."""
        if self._begin is None:
            return _POLL_SECONDS
        if not self._ready or len(self._chunks) >= CREDITS:
            return _BUSY_SECONDS
        left = self._pace * sum(parcel.size for parcel in self._out.values()) - (self._clock.seconds - self._moved)
        least = max(_POLL_SECONDS, _SHARED_SECONDS * int(self._begin["here"]))
        return max(least, min(_BUSY_SECONDS, left / 2))

    def _settle(self, body: Dict[str, Any]) -> None:
        parcel = self._out.pop(body["chunk"])
        self._deaths, self._moved = 0, self._clock.seconds
        self._pace = body["seconds"] / body["size"]
        self._times = {name: self._earlier[name] + body[name] for name in self._earlier}
        chunk = self._chunks[parcel.chunk]
        if parcel.size == chunk.size and not self._suspects:  # a whole chunk, as almost all are
            self._finish(parcel.chunk, body["seconds"], body["results"])
        else:
            chunk.seconds += body["seconds"]
            self._answer(parcel.chunk, json.loads(body["results"]))
        self._pump()

    def _answer(self, number: int, results: List[Dict[str, Any]]) -> None:
        """Add results to their chunk, which goes to rank 0 when they were the last."""
        for result in results:
            self._suspects.pop(result["i"], None)
        chunk = self._chunks[number]
        chunk.results += results
        if len(chunk.results) == chunk.size:
            self._finish(number, chunk.seconds, channels.text(chunk.results))

    def _finish(self, number: int, seconds: float, results: str) -> None:
        """Send a chunk's results to rank 0."""
        del self._chunks[number]
        self._send(channels.RESULT, {"chunk": number, "seconds": seconds, "results": results, **self._times})

    def _watch(self, now: float) -> None:
        """See whether the process lives, and comes on."""
        death, pulse = self._process.death(), self._process.pulse
        if death is not None:
            self._listen()  # to what it said last
            if not self._failed and not self._warmed_up_in_vain():
                self._ended("its process " + death)
        elif not self._ready:
            limit = max(2 * LIMIT_SECONDS, 4 * self._loading) if self._loading else START_SECONDS
            if now - self._started > limit and not self._warmed_up_in_vain():
                self._fail("loading the model and a first inference did not end in %d s%s" % (limit, self._why()))
        elif pulse.step != self._step or pulse.inferred is None:
            if pulse.step != self._step:
                self._moved = now
            self._step, self._since = pulse.step, now
            if self._out and now - self._moved > STALL_SECONDS:
                self._stalled()
        else:
            # One that fails loads the model anew, and tries it.
            limit = max(LIMIT_SECONDS, LIMIT_TIMES * pulse.slowest + 2 * pulse.loading)
            if now - self._since > limit:
                self._ended("the inference did not end in %d s" % limit)

    def _stalled(self) -> None:
        """Of inputs none of which comes: one whose decoding has begun costs itself, others are not to be read, and what
        is being stored costs no input either."""
        if self._process.pulse.storing:
            self._fail("no result could be stored in %d s: is the shared file system there?" % STALL_SECONDS, tpu=False)
        elif any(not self._process.pulse.inputs().isdisjoint(parcel.inputs) for parcel in self._out.values()):
            self._ended("its decoding did not end in %d s" % STALL_SECONDS)
        else:
            self._fail("no input could be read in %d s: is the shared file system there?" % STALL_SECONDS, tpu=False)

    def _why(self) -> str:
        """Why the process was started again, for the text of an error."""
        return "".join(", after %s" % text for text in list(self._suspects.values())[-1:])

    def _ended(self, how: str) -> None:
        """Find the input with which the process has ended, and start another process with the rest."""
        parcels = [*self._out.values()]
        lost = set().union(*(parcel.inputs for parcel in parcels))
        found = self._process.pulse.inputs() & lost or lost
        if not self._process.kill():
            self._suspects.update(dict.fromkeys(found, how))
            self._fail(how + ", and its process hangs in the kernel", kill=False)
            return
        self._deaths += 1
        if not self._ready or self._deaths > MOST_DEATHS:
            self._fail(how + (self._why() if self._ready else " while it loaded the model" + self._why()))
            return
        self._out.clear()
        self._earlier = dict(self._times)
        done = len(lost) == 1 and not self._suspects.keys().isdisjoint(lost)
        self._suspects.update(dict.fromkeys(found, how))
        if done:
            self._deaths = 0
            self._answer(parcels[0].chunk, [{"i": min(lost), "error": "the model fails on it, twice: " + how}])
        else:
            alone, together = self._divided(parcels)
            self._waiting.extendleft(reversed([*alone, *together]))
        self._start_again()

    def _divided(self, parcels: List[Parcel]) -> Tuple[List[Parcel], List[Parcel]]:
        """The same inputs, suspects alone and others together."""
        alone: List[Parcel] = []
        together: List[Parcel] = []
        for parcel in parcels:
            rest = [piece for piece in parcel.pieces if piece[0] not in self._suspects]
            alone += [_parcel(parcel.chunk, [piece]) for piece in parcel.pieces if piece[0] in self._suspects]
            together += [_parcel(parcel.chunk, rest)] if rest else []
        return alone, together

    def _warmed_up_in_vain(self) -> bool:
        """Start again without a warm-up where that has ended the process, or does not end: not every model bears
        made-up input. Only on the CPU: a TPU that does not come through it may be wedged, and no input's to blame."""
        if self._begin is None or self._on_tpu() or not self._process.pulse.warming_up or not self._process.kill():
            return False
        self._begin = dict(self._begin, warm_up=False)
        self._start_again()
        return True

    def _on_tpu(self) -> bool:
        return self._begin is not None and self._begin["place"]["pci_address"] is not None

    def _start_again(self) -> None:
        self._ready, self._step = False, 0
        self._process, self._started = Process(self._words), self._clock.seconds
        self._process.pipe.send(0, channels.BEGIN, self._begin)

    def _fail(self, error: str, kill: bool = True, tpu: Optional[bool] = None, again: bool = False) -> None:
        """Give the rank up: what it has goes to others. `kill`: its process, unless that was tried; `tpu`: whether the
        TPU is to blame, by default where the rank has one; `again`: whether it can begin anew, if rank 0 wants it."""
        self._failed = True
        tpu = self._on_tpu() if tpu is None else tpu
        suspects = sorted(self._suspects)
        # First, as the killing may take longer than rank 0 waits for a sign of life.
        about: Dict[str, Any] = {"again": True} if again else {}
        self._send(channels.FAILED, {"error": error, "suspects": suspects, "tpu": tpu, **about})
        if kill:
            self._process.kill()
