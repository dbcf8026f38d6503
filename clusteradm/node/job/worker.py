"""Worker, the process that every rank but 0 keeps: one model on one Edge TPU, inputs from the shared file system."""

import os
import socket
import sys
import time
import traceback
from typing import Any, Dict, List, Optional, Union

from clusteradm.node.edgetpu.engine import Engine, InferenceError, read_model
from clusteradm.node.edgetpu.library import TpuError
from clusteradm.node.edgetpu.tasks import Reader
from clusteradm.node.edgetpu.tensors import Preprocessor
from clusteradm.node.job import channel as channels
from clusteradm.node.job import files
from clusteradm.node.job.channel import Channel, Message
from clusteradm.node.job.feeder import Decoded, Feeder
from clusteradm.node.job.outputs import Outputs
from clusteradm.node.job.pipe import Pipe
from clusteradm.node.job.pulse import Pulse
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.decode import decode
from clusteradm.node.spec.wire.job import Assignment
from clusteradm.node.spec.wire.manifest import RAW

# Decoding gains from up to three threads (measured, 224 and 640 pixel JPEGs), and loses from more than the cores.
MOST_THREADS = 3
# MPI itself, or the rank that keeps this process.
Link = Union[Channel, Pipe]
_GET_SECONDS = 0.02  # seconds to wait for a decoded input before the next look for a message


class Worker:
    """State of one worker. Times in seconds, by the monotonic clock of this host."""

    def __init__(self, channel: Link, mine: Assignment, pulse: Pulse) -> None:
        self._channel, self._pulse = channel, pulse
        self.engine = Engine(read_model(mine.model.path, mine.model.sha256), mine.place.pci_address)
        model, folder = mine.model, mine.folder
        self._reader = Reader(
            self.engine.outputs,
            self.engine.input,
            model.task or (None if mine.top else RAW),
            threshold=model.threshold,
            top=mine.top,
            feed=model.input.feed,
        )
        feed = Preprocessor(self.engine.input, model.input.feed, self._reader.fit)
        self._outputs = Outputs(os.path.join(folder, files.outputs(folder)))
        pulse.load(self.engine.load_seconds)
        if mine.warm_up:
            pulse.warm_up()
            pulse.end(self.engine.warm_up())
        else:
            self.engine.skip_warm_up()
        threads = max(1, min(MOST_THREADS, ((os.cpu_count() or 1) - 1) // mine.here))
        self._feeder = Feeder(os.path.join(folder, job_names.PACK), feed.feed, threads, pulse)
        self._sizes: Dict[int, int] = {}
        self._results: Dict[int, List[Dict[str, Any]]] = {}
        self._mark = 0.0  # when the chunk at work was begun
        self._busy = self._wait = 0.0

    def run(self) -> None:
        """Work until rank 0 says stop."""
        while True:
            message = self._channel.poll()
            if message is not None:
                if message.tag == channels.STOP:
                    return
                self._accept(message.body)
            elif not self._sizes:
                time.sleep(channels.NAP)
            else:
                self._step()

    def _accept(self, chunk: Dict[str, Any]) -> None:
        if not self._sizes:
            self._mark = time.perf_counter()
        self._sizes[chunk["chunk"]] = len(chunk["inputs"])
        self._results[chunk["chunk"]] = []
        self._feeder.put(chunk)

    def _step(self) -> None:
        """Run one inference; send the chunk's results if it was its last."""
        started = time.perf_counter()
        item = self._feeder.get(_GET_SECONDS)
        taken = time.perf_counter()
        self._wait += taken - started
        if item is None:
            return
        if item.error is not None:
            result: Dict[str, Any] = {"i": item.input, "error": item.error}
        else:
            result = self._answer(item, taken)
            if item.clipped and "error" not in result:
                result["clipped"] = round(item.clipped, 6)
        self._results[item.chunk].append(result)
        if len(self._results[item.chunk]) == self._sizes[item.chunk]:
            self._deliver(item.chunk)

    def _answer(self, item: Decoded, started: float) -> Dict[str, Any]:
        """The result of an inference. What goes wrong with this input alone is its result. Raises TpuError, OSError."""
        self._pulse.begin(item.input)
        try:
            outputs = self.engine.invoke(item.tensor)
        except InferenceError as error:
            return {"i": item.input, "error": "the model fails on it: %s" % error}
        finally:
            spent = time.perf_counter() - started
            self._pulse.end(spent)
            self._busy += spent
        try:
            return {"i": item.input, **self._reader.short(outputs, item.size, self._outputs.keep(item.input))}
        except (TypeError, ValueError, OverflowError) as error:
            return {"i": item.input, "error": "its result cannot be written: %s" % " ".join(str(error).split())[:300]}

    def _deliver(self, chunk: int) -> None:
        now = time.perf_counter()
        del self._sizes[chunk]
        body = {
            "chunk": chunk,
            "seconds": now - self._mark,
            "results": self._results.pop(chunk),
            "busy": self._busy,
            "decode": self._feeder.decode_seconds,
            "wait": self._wait,
        }
        self._channel.send(0, channels.RESULT, body)
        self._mark = now


def work(channel: Link, pulse: Optional[Pulse] = None) -> None:
    """Do a rank's work, of which the first message tells. A TPU that fails costs this rank, not the job."""
    here = socket.gethostname()
    first = _next(channel)
    if first.tag == channels.STOP:
        return
    mine = decode(Assignment, first.body)
    try:
        if here.split(".")[0] != mine.place.host.split(".")[0]:
            raise TpuError("rank %d was to run on %s but runs on %s" % (mine.place.rank, mine.place.host, here))
        if not os.path.isdir(mine.folder):
            raise TpuError("%s is missing on %s: is the shared file system mounted?" % (mine.folder, here))
        worker = Worker(channel, mine, pulse or Pulse())
        channel.send(0, channels.READY, {"version": worker.engine.version, "tpu": worker.engine.path})
        worker.run()
    except Exception as error:
        text = str(error)
        if not isinstance(error, TpuError):
            text = "%s: %s" % (type(error).__name__, text)
            traceback.print_exc()
        sys.stderr.write("rank %d: %s\n" % (mine.place.rank, text))
        sys.stderr.flush()
        channel.send(0, channels.FAILED, {"error": text})
        _wait_for_stop(channel)


def _wait_for_stop(channel: Link) -> None:
    """Wait for the end of the job: if a rank that cannot work exited, Open MPI would end the others."""
    while _next(channel).tag != channels.STOP:
        pass


def _next(channel: Link) -> Message:
    """The next message, as soon as there is one."""
    while True:
        message = channel.poll()
        if message is not None:
            return message
        time.sleep(10 * channels.NAP)
