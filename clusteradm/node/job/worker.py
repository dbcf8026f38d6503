"""Worker, the process that every rank but 0 keeps: one model on one Edge TPU, inputs from the shared file system.

One thread each hears the rank, reads and decodes, and infers (feeder.py, inference.py); this one makes the results.
"""

import os
import socket
import sys
import threading
import time
import traceback
from queue import SimpleQueue
from typing import Any, Dict, List, Optional

from clusteradm.node.edgetpu.engine import Engine, read_model
from clusteradm.node.edgetpu.library import TpuError
from clusteradm.node.edgetpu.tasks import Reader
from clusteradm.node.edgetpu.tensors import Preprocessor, Several
from clusteradm.node.job import channel as channels
from clusteradm.node.job import files
from clusteradm.node.job.channel import Message
from clusteradm.node.job.feeder import Feeder
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
        if model.more:
            names = [form.name for form in (model.input, *model.more)]
            feed = Several(self.engine.inputs, names).feed
        else:
            feed = Preprocessor(takes, model.input.feed, self._reader.fit).feed
        self._outputs = Outputs(os.path.join(folder, files.outputs(folder)))
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
        self._feeder = Feeder(os.path.join(folder, job_names.PACK), feed, self._threads, pulse)
        self._inference = Inference(self.engine, self._feeder, pulse, events, model.batch)
        self._sizes: Dict[int, int] = {}
        self._results: Dict[int, List[Dict[str, Any]]] = {}
        self._mark = 0.0  # when the chunk at work was begun

    def run(self) -> None:
        """Work until rank 0 says stop. Raises what the inference thread raises."""
        try:
            while True:
                event = self._events.get()
                if isinstance(event, list):
                    for answer in event:
                        self._settle(answer)
                elif isinstance(event, BaseException):
                    raise event
                elif event.tag == channels.STOP:
                    return
                else:
                    self._accept(event.body)
        finally:
            self._inference.end(_END_SECONDS)

    def _accept(self, chunk: Dict[str, Any]) -> None:
        if not self._sizes:
            self._mark = time.perf_counter()
        self._sizes[chunk["chunk"]] = len(chunk["inputs"])
        self._results[chunk["chunk"]] = []
        self._feeder.put(chunk)

    def _settle(self, answer: Answer) -> None:
        """Make the result of an input; send the chunk's results if it was its last."""
        chunk, index = answer.item.chunk, answer.item.input
        self._pulse.decode(self._threads, index)
        self._results[chunk].append(self._result(answer))
        self._pulse.decode(self._threads, None)
        self._inference.taken()
        if len(self._results[chunk]) == self._sizes[chunk]:
            self._deliver(chunk, answer.ended)

    def _result(self, answer: Answer) -> Dict[str, Any]:
        """The result of an input. What goes wrong with this input alone is its result. Raises OSError."""
        item = answer.item
        if answer.outputs is None:
            return {"i": item.input, "error": answer.error}
        try:
            read = self._reader.short(answer.outputs, item.size, self._outputs.keep(item.input))
        except (TypeError, ValueError, OverflowError, MemoryError) as error:
            return {"i": item.input, "error": "its result cannot be written: %s" % " ".join(str(error).split())[:300]}
        result: Dict[str, Any] = {"i": item.input, **read}
        if item.clipped:
            result["clipped"] = round(item.clipped, 6)
        return result

    def _deliver(self, chunk: int, ended: float) -> None:
        del self._sizes[chunk]
        body = {
            "chunk": chunk,
            "seconds": max(0.0, ended - self._mark),
            "results": self._results.pop(chunk),
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
        about = {"version": worker.engine.version, "tpu": worker.engine.path, "pace": worker.pace}
        link.send(0, channels.READY, about)
        worker.run()
    except Exception as error:
        text = str(error)
        if not isinstance(error, (TpuError, Misplaced)):
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
