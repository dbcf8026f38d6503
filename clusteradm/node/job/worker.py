"""Every rank but 0: one model on one Edge TPU, fed from the shared file system."""

import os
import socket
import sys
import time
import traceback
from typing import Any, Dict, List

from clusteradm.node.edgetpu.engine import Engine, TpuError, read_model
from clusteradm.node.edgetpu.tensors import Answers, Feed
from clusteradm.node.job import channel as channels
from clusteradm.node.job import files
from clusteradm.node.job.channel import Channel
from clusteradm.node.job.feeder import Feeder
from clusteradm.node.spec.wire import job_names
from clusteradm.node.spec.wire.job import AttemptPlan, RankPlace, StoredSpec

# Decoding gains from up to three threads (measured, 224 and 640 pixel JPEGs); more threads than cores slow it down.
MOST_THREADS = 3
_WAIT = 0.02  # seconds to wait for a decoded input, between two looks for a message


class Worker:
    """One rank at work. Times in seconds, by the monotonic clock of this host."""

    def __init__(self, folder: str, channel: Channel, mine: RankPlace, ranks_here: int) -> None:
        spec = files.read(StoredSpec, os.path.join(folder, job_names.SPEC))
        if spec is None:
            raise RuntimeError("%s has no readable %s" % (folder, job_names.SPEC))
        self._channel = channel
        self.engine = Engine(read_model(spec.model.path, spec.model.sha256), mine.pci_address)
        feed = Feed(self.engine.input)
        self._answers = Answers(self.engine.outputs, spec.top, os.path.join(folder, files.outputs(folder)))
        self.engine.warm_up()
        threads = max(1, min(MOST_THREADS, ((os.cpu_count() or 1) - 1) // ranks_here))
        self._feeder = Feeder(os.path.join(folder, job_names.PACK), feed.tensor, threads)
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
        """One inference, and the chunk's results on their way if it was its last."""
        started = time.perf_counter()
        item = self._feeder.get(_WAIT)
        taken = time.perf_counter()
        self._wait += taken - started
        if item is None:
            return
        if item.error is not None:
            result = {"i": item.input, "error": item.error}
        else:
            outputs = self.engine.invoke(item.tensor)
            self._busy += time.perf_counter() - taken
            result = self._answers.result(item.input, outputs)
        self._results[item.chunk].append(result)
        if len(self._results[item.chunk]) == self._sizes[item.chunk]:
            self._deliver(item.chunk)

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


def work(folder: str, attempt: int, channel: Channel) -> None:
    """Run this rank of the job in `folder`. A TPU that fails costs this rank, not the job."""
    here = socket.gethostname()
    plan = files.read(AttemptPlan, os.path.join(folder, job_names.ATTEMPT % attempt))
    if plan is None:
        raise RuntimeError("%s cannot be read on %s: is the shared file system mounted?" % (folder, here))
    mine = next(rank for rank in plan.ranks if rank.rank == channel.rank)
    try:
        if here.split(".")[0] != mine.host.split(".")[0]:
            raise TpuError("rank %d was to run on %s but runs on %s" % (channel.rank, mine.host, here))
        worker = Worker(folder, channel, mine, sum(rank.host == mine.host for rank in plan.ranks))
        channel.send(0, channels.READY, {"version": worker.engine.version, "tpu": worker.engine.path})
        worker.run()
    except Exception as error:
        text = str(error)
        if not isinstance(error, TpuError):
            text = "%s: %s" % (type(error).__name__, text)
            traceback.print_exc()
        sys.stderr.write("rank %d: %s\n" % (channel.rank, text))
        sys.stderr.flush()
        channel.send(0, channels.FAILED, {"error": text})
        _wait_for_stop(channel)


def _wait_for_stop(channel: Channel) -> None:
    """A rank that cannot work stays until the end: if it left, Open MPI would end the others."""
    while True:
        message = channel.poll()
        if message is None:
            time.sleep(10 * channels.NAP)
        elif message.tag == channels.STOP:
            return
