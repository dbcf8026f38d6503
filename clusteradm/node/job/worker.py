"""Worker, the process that every rank but 0 keeps: one model on one Edge TPU, inputs from the shared file system.

One thread each hears the rank, reads and decodes, and infers (feeder.py, inference.py); this one makes the results.
"""

import os
import socket
import sys
import threading
import time
import traceback
from queue import Empty, SimpleQueue
from typing import Any, Dict, List, Optional

import numpy as np

from clusteradm.node.edgetpu.engine import Engine, read_model
from clusteradm.node.edgetpu.library import TpuError
from clusteradm.node.edgetpu.tasks import Reader
from clusteradm.node.edgetpu.tensors import Preprocessor, Several
from clusteradm.node.job import channel as channels
from clusteradm.node.job import files
from clusteradm.node.job.activations import Gone
from clusteradm.node.job.channel import Message
from clusteradm.node.job.feeder import Feeder, Source, ahead
from clusteradm.node.job.inference import Answer, Inference
from clusteradm.node.job.outputs import Outputs
from clusteradm.node.job.pipe import Pipe
from clusteradm.node.job.pulse import Pulse
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.decode import decode
from clusteradm.node.spec.wire.job import Assignment
from clusteradm.node.spec.wire.manifest import RAW

# Decoding gains from up to three threads (measured, 224 and 640 pixel JPEGs), and loses from more than the cores.
MOST_THREADS = 3
_END_SECONDS = 1.0  # for the last inference, before the TPU is closed
# For the word of a neighbouring stage that has ended, which knows why; or for the end of the job.
GONE_SECONDS = 10.0


class Misplaced(Exception):
    """The rank is not where it was to be; the text says what is wrong."""


class Worker:
    """State of one worker. Times in seconds, by the monotonic clock of this host."""

    def __init__(self, link: Pipe, mine: Assignment, pulse: Pulse, events: "SimpleQueue[Any]") -> None:
        """`events`: what rank 0 sends; what the inference thread makes of it comes to it, too."""
        self._link, self._pulse, self._events = link, pulse, events
        cores = len(os.sched_getaffinity(0))
        model, folder = mine.model, mine.folder
        self.engine = Engine(read_model(model.path, model.sha256), mine.place.pci_address, max(1, cores // mine.here))
        # A result, and a picture, is of one input, however many the model takes at once.
        outputs, takes = self.engine.outputs, self.engine.input
        self._stage: Any = None
        if mine.stage is not None:
            from clusteradm.node.job.stage import Stage

            self._stage = Stage(mine, self.engine)
            outputs, takes = self._stage.outputs, {**takes, "shape": model.input.shape}
        if model.batch > 1:
            outputs, takes = [_of_one(details) for details in outputs], _of_one(takes)
        self._reader = Reader(
            outputs,
            takes,
            model.task or (None if mine.top else RAW),
            threshold=model.threshold,
            top=mine.top,
            feed=model.input.feed,
        )
        source: Optional[Source] = self._stage.source if self._stage is not None else None
        if source is not None:
            pass  # decoded by the first stage
        elif model.more:
            names = [form.name for form in (model.input, *model.more)]
            feed = Several(self.engine.inputs, names).feed
        else:
            feed = Preprocessor(takes, model.input.feed, self._reader.fit).feed
        self._outputs = Outputs(os.path.join(folder, files.outputs(folder)), pulse)
        pulse.load(self.engine.load_seconds)
        self.pace = 0.0  # seconds an input, where an inference was tried
        if mine.warm_up:
            pulse.warm_up()
            seconds = self.engine.warm_up()
            self.pace = seconds / model.batch
            pulse.end(seconds)
        else:
            self.engine.skip_warm_up()
        self._threads = max(1, min(MOST_THREADS, (cores - 1) // mine.here))
        pack, size = os.path.join(folder, job_names.PACK), sum(map(_bytes, self.engine.inputs)) // model.batch
        self._feeder = source or Feeder(pack, feed, self._threads, pulse, size)
        lying = ahead(sum(map(_bytes, outputs if self._stage is None else self.engine.outputs)))
        self._inference = Inference(self.engine, self._feeder, pulse, events, model.batch, lying)
        self._sizes: Dict[int, int] = {}
        self._results: Dict[int, List[Dict[str, Any]]] = {}
        self._mark = 0.0  # when the chunk at work was begun

    @property
    def about(self) -> Dict[str, Any]:
        """What rank 0 is told of it, as reports.Ready has it."""
        return {
            "version": self.engine.version,
            "tpu": self.engine.path,
            "pace": self.pace,
            "numbers": self._reader.numbers,
        }

    def run(self) -> None:
        """Work until rank 0 says stop. Raises what the inference thread raises."""
        try:
            while True:
                event = self._events.get()
                if isinstance(event, list):
                    for answer in event:
                        self._settle(answer)
                    self._inference.taken(len(event))
                elif isinstance(event, BaseException):
                    raise event
                elif event.tag == channels.STOP:
                    return
                else:
                    self._accept(event.body)
        finally:
            self._inference.end(_END_SECONDS)
            if self._stage is not None:
                self._stage.end()

    def _accept(self, chunk: Dict[str, Any]) -> None:
        if isinstance(self._feeder, Feeder):
            self._begin(chunk["chunk"], chunk["size"], time.perf_counter())
            self._feeder.put(chunk)

    def _begin(self, chunk: int, size: int, now: float) -> None:
        if not self._sizes:
            self._mark = max(self._mark, now)
        self._sizes[chunk] = size
        self._results[chunk] = []

    def _settle(self, answer: Answer) -> None:
        """Make the result of an input, or hand it on; send the chunk's results if it was its last."""
        item = answer.item
        chunk, index = item.chunk, item.input
        if item.of and chunk not in self._sizes:
            self._begin(chunk, item.of, item.since)
        if self._stage is not None and not self._stage.is_last:
            self._stage.hand_on(item, self._sizes[chunk], answer.outputs, answer.error)
            self._results[chunk].append({})
        else:
            self._pulse.decode(self._threads, index)
            self._results[chunk].append(self._result(answer))
            self._pulse.decode(self._threads, None)
        if len(self._results[chunk]) == self._sizes[chunk]:
            self._deliver(chunk, answer.ended)

    def _result(self, answer: Answer) -> Dict[str, Any]:
        """The result of an input. What goes wrong with this input alone is its result. Raises OSError."""
        item = answer.item
        if answer.outputs is None:
            return {"i": item.input, "error": answer.error}
        try:
            outputs = answer.outputs if self._stage is None else self._stage.whole(item, answer.outputs)
            read = self._reader.short(outputs, item.size, self._outputs.keep(item.input))
        except (TypeError, ValueError, OverflowError, MemoryError) as error:
            return {"i": item.input, "error": "its result cannot be written: %s" % " ".join(str(error).split())[:300]}
        result: Dict[str, Any] = {"i": item.input, **read}
        if item.clipped:
            result["clipped"] = round(item.clipped, 6)
        return result

    def _deliver(self, chunk: int, ended: float) -> None:
        results = [result for result in self._results.pop(chunk) if result]
        body = {
            "chunk": chunk,
            "seconds": max(0.0, ended - self._mark),
            "size": self._sizes.pop(chunk),
            "results": channels.text(results),
            "busy": self._inference.busy,
            "decode": self._feeder.decode_seconds,
            "wait": self._inference.wait,
            "read": self._feeder.read_seconds,
            "idle": self._inference.idle,
        }
        self._link.send(0, channels.RESULT, body)
        self._mark = ended


def _of_one(details: Dict[str, Any]) -> Dict[str, Any]:
    """A tensor of several inputs, as an interpreter tells of it, for one of them."""
    return {**details, "shape": [1, *(int(size) for size in details["shape"][1:])]}


def _bytes(details: Dict[str, Any]) -> int:
    """Bytes of a tensor, as an interpreter tells of it."""
    count = int(np.dtype(details["dtype"]).itemsize)
    for size in details["shape"]:
        count *= max(1, int(size))
    return count


def work(link: Pipe, pulse: Optional[Pulse] = None) -> None:
    """Do a rank's work, of which the first message tells. A TPU that fails costs this rank, not the job."""
    here = socket.gethostname()
    events: "SimpleQueue[Any]" = SimpleQueue()
    threading.Thread(target=_listen, args=(link, events), name="messages", daemon=True).start()
    first = events.get()
    if isinstance(first, BaseException):
        raise first
    if first.tag == channels.STOP:
        return
    mine = decode(Assignment, first.body)
    try:
        if here.split(".")[0] != mine.place.host.split(".")[0]:
            raise Misplaced("rank %d was to run on %s but runs on %s" % (mine.place.rank, mine.place.host, here))
        if not os.path.isdir(mine.folder):
            raise Misplaced("%s is missing on %s: is the shared file system mounted?" % (mine.folder, here))
        worker = Worker(link, mine, pulse or Pulse(), events)
        link.send(0, channels.READY, worker.about)
        worker.run()
    except Exception as error:
        if isinstance(error, Gone) and _is_stopped(events, GONE_SECONDS):
            return
        text = str(error)
        if not isinstance(error, (TpuError, Misplaced, Gone)):
            text = "%s: %s" % (type(error).__name__, text)
            traceback.print_exc()
        sys.stderr.write("rank %d: %s\n" % (mine.place.rank, text))
        sys.stderr.flush()
        link.send(0, channels.FAILED, {"error": text, "tpu": isinstance(error, TpuError)})
        _wait_for_stop(events)


def _wait_for_stop(events: "SimpleQueue[Any]") -> None:
    """Wait for the end of the job: if a rank that cannot work exited, Open MPI would end the others."""
    while True:
        event = events.get()
        if isinstance(event, Message) and event.tag == channels.STOP:
            return


def _is_stopped(events: "SimpleQueue[Any]", seconds: float) -> bool:
    """Whether the job ends within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            event = events.get(timeout=max(0.0, end - time.monotonic()))
        except Empty:
            return False
        if isinstance(event, Message) and event.tag == channels.STOP:
            return True
    return False


def _listen(link: Pipe, into: "SimpleQueue[Any]") -> None:
    """Pass on every message up to the last."""
    try:
        while True:
            message = link.receive()
            into.put(message)
            if message.tag == channels.STOP:
                return
    except BaseException as error:
        into.put(error)
